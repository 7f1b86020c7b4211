package acceptance

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/hashicorp/vault/api"
)

// imports runs agentchains import, of which nothing may hold a value.
func (e *engine) imports(stdin string, code int, args ...string) (stdout, stderr string) {
	e.Helper()
	p := e.begin(e.agentchains(append([]string{"import"}, args...)...))
	_, err := p.stdin.Write([]byte(stdin))
	e.must(err)
	stdout, stderr = p.ends(code)
	e.note(stdout)
	return stdout, stderr
}

// kv mounts a KV engine with entries.
func (e *engine) kv(version string, entries map[string]data) (mount string) {
	e.Helper()
	mount = unique("kv")
	e.must(e.client.Sys().Mount(mount, &api.MountInput{Type: "kv", Options: map[string]string{"version": version}}))
	for path, entry := range entries {
		e.putKV(mount, version, path, entry)
	}
	return mount
}

// putKV writes an entry. Version 2 takes none while the new mount is being set up.
func (e *engine) putKV(mount, version, path string, entry data) {
	e.Helper()
	if version == "1" {
		e.must(e.client.KVv1(mount).Put(e.Context(), path, entry))
		return
	}
	e.must(eventually("KV version 2 is set up", func() (bool, error) {
		_, err := e.client.KVv2(mount).Put(e.Context(), path, entry)
		if err != nil && strings.Contains(err.Error(), "Upgrading from non-versioned") {
			return false, nil
		}
		return true, err
	}))
}

// importer is the mount seen by one who may import from a mount to prod/org, and
// no more.
func (e *engine) importer(kv string) *engine {
	e.Helper()
	return e.appRole(e.policy(fmt.Sprintf(`
		path "%[1]s/*" { capabilities = ["read", "list"] }
		path "%[2]s/secrets/prod/org/*" { capabilities = ["create", "read"] }
		path "%[2]s/groups/prod/org/*" { capabilities = ["create", "read"] }
		path "%[2]s/reveal/prod/org/*" { capabilities = ["read"] }`, kv, e.mount)))
}

func TestImportKV(t *testing.T) {
	for _, version := range []string{"1", "2"} {
		t.Run("version "+version, func(t *testing.T) {
			e := newEngine(t)
			token, password, theirs, ours := e.value("token"), e.value("password"), e.value("theirs"), e.value("ours")
			kv := e.kv(version, map[string]data{
				"app":           {"API_TOKEN": token, "SHARED_KEY": theirs},
				"app/my db 50%": {"db.password": password, "port": 5432},
				"gone":          {"GONE": e.value("gone")},
			})
			e.write("secrets/prod/org/SHARED_KEY", data{"value": ours})
			if version == "2" {
				e.must(e.client.KVv2(kv).Delete(e.Context(), "gone"))
			} else {
				e.must(e.client.KVv1(kv).Delete(e.Context(), "gone"))
			}
			i := e.importer(kv)
			args := []string{"--kv", kv, "--to", "prod/org", "--upper", "--rename", "port=DB_PORT"}
			const plan = `FROM                       TO                            PLAN
app#API_TOKEN              secrets/prod/org/API_TOKEN    new
app#SHARED_KEY             secrets/prod/org/SHARED_KEY   conflict: version 1 has another value
app/my db 50%#db.password  secrets/prod/org/DB_PASSWORD  new
app/my db 50%#port         secrets/prod/org/DB_PORT      new

3 new, 1 conflict.
`
			before := e.stored()
			stdout, _ := i.imports("", 0, args...)
			e.same("plan", stdout, plan)
			e.same("what is stored after a plan", e.stored(), before)

			stdout, stderr := i.imports("", 3, append(args, "--yes")...)
			e.same("output", stdout, plan+"\n3 written, 1 conflict.\n")
			if version == "2" {
				e.same("standard error", stderr, "agentchains: left out, because it is empty or its newest version was deleted: "+kv+"/gone\n")
			} else {
				e.same("standard error", stderr, "")
			}
			for name, want := range map[string]string{"API_TOKEN": token, "DB_PASSWORD": password, "DB_PORT": "5432", "SHARED_KEY": ours} {
				e.same(name, e.read("reveal/prod/org/"+name), data{"value": want, "version": 1})
			}

			stdout, stderr = i.imports("", 2, append(args, "--yes", "--overwrite")...)
			if !strings.HasSuffix(stdout, "\n\n1 overwrite, 3 same.\n\n1 overwrite, 3 same.\n") {
				t.Errorf("a write that fails is told as\n%s", stdout)
			}
			if want := "agentchains: write " + e.mount + "/secrets/prod/org/SHARED_KEY: permission denied (403)\n"; !strings.HasSuffix(stderr, want) {
				t.Errorf("standard error is %q, want it to end in %q", stderr, want)
			}
			e.imports("", 0, append(args, "--yes", "--overwrite")...)
			e.same("SHARED_KEY", e.read("reveal/prod/org/SHARED_KEY"), data{"value": theirs, "version": 2})
			stdout, _ = i.imports("", 0, append(args, "--yes")...)
			if !strings.HasSuffix(stdout, "\n4 same.\n") {
				t.Errorf("run again, it prints\n%s", stdout)
			}
		})
	}
}

func TestImportGroups(t *testing.T) {
	e := newEngine(t)
	user, password := e.value("user"), e.value("password")
	kv := e.kv("2", map[string]data{"teams/aws-deploy": {"AWS_USER": user, "AWS_PASSWORD": password}, "teams/Bad_Name": {"A": user}})
	stdout, _ := e.importer(kv).imports("", 3, "--kv", kv+"/teams/", "--groups", "--to", "prod/org", "--yes")
	e.same("output", stdout, `FROM              TO                          PLAN
teams/Bad_Name    -                           refused: the name must be 1 to 64 lower-case letters, digits or -, and begin with a letter
teams/aws-deploy  groups/prod/org/aws-deploy  new

1 new, 1 refused.

1 written, 1 refused.
`)
	e.same("group", e.read("reveal/prod/org/aws-deploy"), data{"values": data{"AWS_USER": user, "AWS_PASSWORD": password}, "version": 1})
	_, stderr := e.importer(kv).imports("", 2, "--kv", e.mount+"/secrets/", "--to", "prod/org")
	e.same("error without a KV engine", stderr, "agentchains: --kv: the mount of "+e.mount+"/secrets is no KV engine\n")
}

func TestImportFiles(t *testing.T) {
	e := newEngine(t)
	key, token := "-----BEGIN KEY-----\n"+e.value("key")+"\n-----END KEY-----\n", e.value("token")
	e.imports(fmt.Sprintf("# from .env\nexport DEPLOY_KEY=%q\nTOKEN=%s # rotates\n", key, token), 0, "--dotenv", "-", "--to", "all/agent/deploy-pipeline/Deployer", "--yes")
	e.same("DEPLOY_KEY", e.read("reveal/all/agent/deploy-pipeline/Deployer/DEPLOY_KEY")["value"], key)

	file := filepath.Join(e.TempDir(), "export.json")
	for source, text := range map[string]string{"doppler": `{"TOKEN": %q}`, "infisical": `[{"key": "TOKEN", "value": %q, "type": "shared"}]`} {
		e.must(os.WriteFile(file, fmt.Appendf(nil, text, token), 0o600))
		e.imports("", 0, "--"+source, file, "--to", "dev/chain/"+source, "--yes")
		e.same("TOKEN of "+source, e.read("reveal/dev/chain/" + source + "/TOKEN")["value"], token)
	}

	_, stderr := e.imports("TOKEN="+token, 2, "--dotenv", "-", "--to", "qa/org", "--yes")
	e.same("error for an environment that is none", stderr, "agentchains: --to: the environment is not one of the engine's: add it to config first\n")
	stdout, _ := e.importer("none").imports("TOKEN="+token, 3, "--dotenv", "-", "--to", "prod/org", "--upper", "--rename", "TOKEN=LD_AUDIT", "--yes")
	if !strings.Contains(stdout, "TOKEN  -   refused: the name must not be a variable that makes programs load or run something else") {
		t.Errorf("a dangerous name is planned as\n%s", stdout)
	}
}

// On a terminal it asks, and takes nothing but yes.
func TestImportAsks(t *testing.T) {
	e := newEngine(t)
	file := filepath.Join(e.TempDir(), ".env")
	e.must(os.WriteFile(file, []byte("TOKEN="+e.value("token")), 0o600))
	for _, answer := range []string{"y", "no", "yes"} {
		e.nothing("secrets/prod/org", nil)
		terminal, err := pty.Start(e.agentchains("import", "--dotenv", file, "--to", "prod/org"))
		e.must(err)
		defer terminal.Close()
		_, err = terminal.Write([]byte(answer + "\n"))
		e.must(err)
		out, _ := io.ReadAll(terminal) // ends with EIO when the process has ended
		e.note(string(out))
		if !strings.Contains(string(out), "Write this? Only yes is taken: ") {
			t.Errorf("it does not ask:\n%s", secrets.censor(string(out)))
		}
	}
	e.same("names", e.keys("secrets/prod/org", nil), []string{"TOKEN"})
}

// A process that is killed leaves whole entries, and what it has not written is
// written by the next. What somebody else has written meanwhile stays.
func TestImportKilled(t *testing.T) {
	const total = 200
	e := newEngine(t)
	entry := data{}
	for n := range total {
		entry[fmt.Sprintf("KEY_%03d", n)] = e.value("value")
	}
	kv := e.kv("2", map[string]data{"all": entry})
	i := e.importer(kv)
	cmd := i.agentchains("import", "--kv", kv+"/all", "--to", "prod/org", "--yes")
	cmd.Env = append(cmd.Env, "VAULT_RATE_LIMIT=100") // requests in a second: it takes long enough to be killed
	p := e.begin(cmd)
	e.must(eventually("some entries are written", func() (bool, error) {
		secret, _, _ := e.do(list, "secrets/prod/org", nil)
		return secret != nil && len(secret.Data["keys"].([]any)) >= 10, nil
	}))
	e.must(p.cmd.Process.Kill())
	_ = p.cmd.Wait() // says that it was killed
	written := e.keys("secrets/prod/org", nil)
	if len(written) == total {
		t.Fatal("the process was not killed in the middle")
	}
	const last = "KEY_199"
	ours := e.value("ours")
	e.write("secrets/prod/org/"+last, data{"value": ours, "cas": 0})

	stdout, _ := i.imports("", 3, "--kv", kv+"/all", "--to", "prod/org", "--yes")
	_, tally, _ := strings.Cut(stdout, " new, ") // the plan's, and then the one of what was done
	_, tally, _ = strings.Cut(tally, "\n\n")
	var more, same int // the write that was under way may have come through after the list
	if n, err := fmt.Sscanf(tally, "%d written, %d same, 1 conflict.\n", &more, &same); n != 2 || err != nil || more+same != total-1 || same < len(written) {
		t.Errorf("%d were written when the process was killed, and the second ends with %q", len(written), tally)
	}
	e.same("names", e.keys("secrets/prod/org", nil), slices.Sorted(maps.Keys(entry)))
	entry[last] = ours
	for name, value := range entry {
		e.same(name, e.read("reveal/prod/org/"+name), data{"value": value, "version": 1})
	}
}
