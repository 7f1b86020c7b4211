package acceptance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
)

// audited is what Vault's audit log says of an answer.
type audited struct {
	Type, Error string
	Request     struct {
		Operation, Path string
		MountPoint      string `json:"mount_point"`
		MountType       string `json:"mount_type"`
	}
	Response struct{ Data map[string]json.RawMessage }
}

// succeeded reports whether it answers a request to the engine, and no refusal.
func (a *audited) succeeded() bool {
	_, refused := a.Response.Data["error"]
	return a.Type == "response" && a.Error == "" && strings.HasPrefix(a.Request.MountType, "agentchains") &&
		!(refused && len(a.Response.Data) == 1)
}

// allTests reports whether no test was left out by a flag.
func allTests() bool {
	return flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
}

// operations returns those that Vault publishes of the engine, as the operation
// and the template of the path below the mount.
func (s *server) operations() (all []string, err error) {
	const mount = "openapi"
	if err := s.Client.Sys().Mount(mount, &api.MountInput{Type: "agentchains"}); err != nil {
		return nil, err
	}
	resp, err := s.Client.Logical().ReadRaw("sys/internal/specs/openapi")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var spec openAPI
	if err := resp.DecodeJSON(&spec); err != nil {
		return nil, err
	}
	for path, methods := range spec.Paths {
		template, ours := strings.CutPrefix(path, "/"+mount+"/")
		for method := range methods {
			if o, ok := verbs[method]; ours && ok {
				if o == read && strings.HasSuffix(template, "/") {
					o = list
				}
				all = append(all, string(o)+" "+template)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// uncalled returns the operations that no test has called with success, by what
// the audit log says.
func uncalled(operations []string) ([]string, error) {
	log, err := os.Open(vault.Path(cluster.AuditFile))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	called := map[string]bool{}
	for lines := bufio.NewReader(log); ; {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		var a audited
		if !bytes.Contains(line, []byte(`"mount_type":"agentchains`)) {
			continue // many are of other engines, and decoding takes long
		}
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, err
		}
		if a.succeeded() {
			o := strings.Replace(a.Request.Operation, "create", "update", 1)
			called[o+" "+strings.TrimPrefix(a.Request.Path, a.Request.MountPoint)] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(operations), func(operation string) bool {
		pattern := regexp.MustCompile("^" + placeholder.ReplaceAllString(operation, "[^ ]+") + "$")
		for request := range called {
			// A path that has a template of its own belongs to no other.
			if pattern.MatchString(request) && (request == operation || !slices.Contains(operations, request)) {
				return true
			}
		}
		return false
	}), nil
}

// placeholder stands in a template for segments of a path.
var placeholder = regexp.MustCompile(`\{[a-z]+\}`)
