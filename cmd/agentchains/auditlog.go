package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// An auditRead is one attempt to read an agent's environment.
type auditRead struct {
	Time          time.Time `json:"time"`
	Who           string    `json:"who"`
	EntityID      string    `json:"entity_id,omitempty"`
	Operation     string    `json:"operation"` // env, creds or executions
	Environment   string    `json:"environment"`
	Chain         string    `json:"chain"`
	Agent         string    `json:"agent"`
	Workspace     string    `json:"workspace,omitempty"` // of an execution, unless the log has hashes
	Run           string    `json:"run,omitempty"`
	User          string    `json:"user,omitempty"`
	ExecutionID   string    `json:"execution_id,omitempty"`
	Outcome       outcome   `json:"outcome"`
	Reason        string    `json:"reason,omitempty"`
	RequestID     string    `json:"request_id"`
	RemoteAddress string    `json:"remote_address,omitempty"`
}

type outcome string

const (
	given   outcome = "ok"
	denied  outcome = "denied"  // by Vault's policies
	refused outcome = "refused" // by the engine
)

// path returns what was read, as it is written below the mount.
func (r *auditRead) path() string {
	return strings.Join([]string{r.Operation, r.Environment, r.Chain, r.Agent}, "/")
}

// An auditFilter says which reads are wanted. Empty fields want all.
type auditFilter struct {
	mount, environment, chain, agent string
	since                            time.Time
}

func (f *auditFilter) wants(r *auditRead) bool {
	return (f.environment == "" || f.environment == r.Environment) &&
		(f.chain == "" || f.chain == r.Chain) &&
		(f.agent == "" || f.agent == r.Agent) &&
		!r.Time.Before(f.since)
}

// auditLine is what we need of a line. A denied or refused request has its
// reason in Error, or in the data of the response.
type auditLine struct {
	Type  string    `json:"type"`
	Time  time.Time `json:"time"`
	Error string    `json:"error"`
	Auth  struct {
		DisplayName string            `json:"display_name"`
		EntityID    string            `json:"entity_id"`
		Metadata    map[string]string `json:"metadata"`
	} `json:"auth"`
	Request struct {
		ID            string                     `json:"id"`
		Operation     string                     `json:"operation"`
		Path          string                     `json:"path"`
		Data          map[string]json.RawMessage `json:"data"`
		RemoteAddress string                     `json:"remote_address"`
	} `json:"request"`
	Response json.RawMessage `json:"response"`
}

// maxAuditLine bounds the memory: the line of a whole environment at the
// engine's limits is shorter.
const maxAuditLine = 4 << 20

// readAudit calls emit for each read that is wanted, in the order of the file.
// It counts the lines that are no audit records, and goes on.
func readAudit(r io.Reader, filter auditFilter, emit func(*auditRead) error) (skipped int, err error) {
	lines := bufio.NewReaderSize(r, 64<<10)
	var buffer []byte
	for {
		line, fits, err := readLine(lines, buffer)
		if err != nil && !errors.Is(err, io.EOF) {
			return skipped, err
		}
		last := err != nil
		buffer = line
		if line = bytes.TrimSpace(line); len(line) > 0 {
			var entry auditLine
			if !fits || json.Unmarshal(line, &entry) != nil || entry.Type == "" {
				skipped++
			} else if read := entry.read(filter.mount); read != nil && filter.wants(read) {
				if err := emit(read); err != nil {
					return skipped, err
				}
			}
		}
		if last {
			return skipped, nil
		}
	}
}

// readLine reads a line into the buffer. Of one that is too long it keeps a part.
func readLine(r *bufio.Reader, buffer []byte) (line []byte, fits bool, err error) {
	line, fits = buffer[:0], true
	for {
		part, err := r.ReadSlice('\n')
		if fits = fits && len(line)+len(part) <= maxAuditLine; fits {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, fits, err
		}
	}
}

// auditOperations are the doors to an environment, with the operation that opens them.
var auditOperations = map[string]string{"env": "read", "creds": "read", "executions": "update"}

// read returns the line as a read of an agent's environment below the mount, or
// nil. Every request has a line of type response, also one that was denied.
func (l *auditLine) read(mount string) *auditRead {
	path, ours := strings.CutPrefix(l.Request.Path, strings.Trim(mount, "/")+"/")
	operation, path, _ := strings.Cut(path, "/")
	if !ours || l.Type != "response" || l.Request.Operation != auditOperations[operation] {
		return nil
	}
	environment, path, _ := strings.Cut(path, "/")
	chain, agent, err := scope.ParseAgent(path)
	if err != nil || scope.CheckEnvironment(environment) != nil {
		return nil // it can have read nothing
	}
	outcome, reason := l.outcome()
	return &auditRead{
		Time: l.Time, Who: l.who(), EntityID: l.Auth.EntityID,
		Operation: operation, Environment: environment, Chain: chain, Agent: agent,
		Workspace: plainText(l.Request.Data["workspace"]), Run: plainText(l.Request.Data["run"]), User: plainText(l.Request.Data["user"]),
		ExecutionID: plainText(l.data()["execution_id"]),
		Outcome:     outcome, Reason: strings.TrimPrefix(reason, environment+"/"+path+" does not resolve: "),
		RequestID: l.Request.ID, RemoteAddress: l.Request.RemoteAddress,
	}
}

// who names the token. All tokens of AppRole have one display name.
func (l *auditLine) who() string {
	who := l.Auth.DisplayName
	if role := l.Auth.Metadata["role_name"]; role != "" {
		who += "/" + role
	}
	if who == "" {
		return "-"
	}
	return who
}

// outcome says what became of the request, and why. Vault logs the answer to
// bad input as a hash, unless the mount's audit_non_hmac_response_keys has error.
func (l *auditLine) outcome() (outcome, string) {
	reason := oneLine(l.Error)
	if strings.HasPrefix(reason, "permission denied") {
		return denied, reason
	}
	data := l.data()
	if data == nil {
		return refused, "the answer in the audit log is not readable"
	}
	if raw, failed := data["error"]; failed && reason == "" {
		if json.Unmarshal(raw, &reason) != nil || strings.HasPrefix(reason, "hmac-") {
			reason = "the audit log holds a hash of the reason"
		}
	}
	if reason == "" {
		return given, ""
	}
	return refused, reason
}

// data returns the data of the answer, or nil when it cannot be read. It is a
// map, not a struct: a variable may be called ERROR, and struct fields match in
// any case.
func (l *auditLine) data() map[string]json.RawMessage {
	var response struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	if len(l.Response) > 0 && json.Unmarshal(l.Response, &response) != nil {
		return nil
	}
	if response.Data == nil {
		return map[string]json.RawMessage{}
	}
	return response.Data
}

// plainText returns a string of the log, and nothing for a hash.
func plainText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil || strings.HasPrefix(s, "hmac-") {
		return ""
	}
	return s
}
