package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// A testVault answers as Vault does with the engine: it keeps what is written
// with check-and-set, and gives it out.
type testVault struct {
	mu      sync.Mutex        // guards all below
	answers map[string]string // the data of other paths
	entries map[string][]any  // by path below the mount: the value of each version
	pending map[string]bool   // the newest version is
	denied  string            // the beginning of paths that the token may not use
	invalid string            // what is wrong with every write, if something is
	lost    int               // how many answers to writes get lost on their way
	rival   string            // somebody else writes it just before it is written
	written []string
}

func newTestVault(t *testing.T) *testVault {
	t.Helper()
	v := &testVault{answers: map[string]string{"list agentchains/env": `{"keys":["dev/","prod/"]}`}, entries: map[string][]any{}, pending: map[string]bool{}, denied: "none"}
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "token")
	t.Setenv("VAULT_RATE_LIMIT", "")
	return v
}

func (v *testVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if r.URL.Query().Get("list") == "true" {
		path = "list " + path
	}
	door, below, _ := strings.Cut(strings.TrimPrefix(path, "agentchains/"), "/")
	versions := v.entries[below]
	switch {
	case strings.HasPrefix(path, v.denied):
		refuse(w, http.StatusForbidden, "permission denied")
	case v.answers[path] != "":
		fmt.Fprintf(w, `{"data":%s}`, v.answers[path])
	case r.Method == http.MethodPut:
		v.write(w, r, below)
	case versions == nil:
		refuse(w, http.StatusNotFound, "")
	case door == "reveal" && r.URL.Query().Get("version") != fmt.Sprint(len(versions)):
		refuse(w, http.StatusBadRequest, "there is no such version")
	case door == "reveal":
		field := "value"
		if _, group := versions[len(versions)-1].(map[string]any); group {
			field = "values"
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{field: versions[len(versions)-1]}})
	case v.pending[below]:
		fmt.Fprintf(w, `{"data":{"current_version":%d,"pending_version":%d}}`, len(versions)-1, len(versions))
	default:
		fmt.Fprintf(w, `{"data":{"current_version":%d,"pending_version":0}}`, len(versions))
	}
}

func (v *testVault) write(w http.ResponseWriter, r *http.Request, path string) {
	var body struct {
		CAS           *int
		Value, Values any
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.CAS == nil {
		v.invalid = "the body is wrong"
	}
	if v.invalid != "" {
		refuse(w, http.StatusBadRequest, v.invalid)
		return
	}
	if path == v.rival {
		v.entries[path] = append(v.entries[path], "theirs")
	}
	if *body.CAS != len(v.entries[path]) {
		refuse(w, http.StatusConflict, fmt.Sprintf("cas does not match: the newest version is %d", len(v.entries[path])))
		return
	}
	value := body.Value
	if value == nil {
		value = body.Values
	}
	v.entries[path] = append(v.entries[path], value)
	v.written = append(v.written, path)
	if v.lost > 0 {
		v.lost--
		refuse(w, http.StatusBadGateway, "")
	}
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	if text == "" {
		_, _ = w.Write([]byte(`{"errors":[]}`))
	} else {
		fmt.Fprintf(w, `{"errors":[%q]}`, text)
	}
}

// imports runs agentchains import, and compares its exit code and output.
func imports(t *testing.T, stdin, args string, code int, want string) (stderr string) {
	t.Helper()
	got, stdout, stderr := execute(stdin, append([]string{"import"}, strings.Fields(args)...)...)
	if got != code {
		t.Errorf("exit code %d, want %d; error %q", got, code, stderr)
	}
	same(t, "output of "+args, stdout, want)
	return stderr
}

const dotenvText = "NEW=one\nSAME=two\nOTHER=three\ndb.url=four\nEMPTY=\nLD_PRELOAD=five\n"

const dotenvPlan = `FROM        TO                      PLAN
NEW         secrets/prod/org/NEW    new
SAME        secrets/prod/org/SAME   same
OTHER       secrets/prod/org/OTHER  conflict: version 2 has another value
db.url      -                       refused: the name must be an environment variable: 1 to 128 of A-Z, 0-9 and _, not beginning with a digit
EMPTY       -                       refused: the value is empty
LD_PRELOAD  -                       refused: the name must not be a variable that makes programs load or run something else, such as PATH or LD_PRELOAD: choose another name

1 new, 1 same, 1 conflict, 3 refused.
`

func TestImport(t *testing.T) {
	v := newTestVault(t)
	v.entries["prod/org/SAME"] = []any{"two"}
	v.entries["prod/org/OTHER"] = []any{"one", "two"}

	const planned = "agentchains: nothing was written: --yes writes it\n"
	same(t, "standard error", imports(t, dotenvText, "--dotenv - --to prod/org", 0, dotenvPlan), planned)
	same(t, "standard error", imports(t, dotenvText, "--dotenv - --to prod/org --plan", 0, dotenvPlan), "")
	same(t, "written", strings.Join(v.written, " "), "")

	imports(t, dotenvText, "--dotenv - --to prod/org --yes", 3, dotenvPlan+"\n1 written, 1 same, 1 conflict, 3 refused.\n")
	same(t, "written", strings.Join(v.written, " "), "prod/org/NEW")
	same(t, "value", v.entries["prod/org/NEW"][0].(string), "one")

	imports(t, "NEW=one\nOTHER=three\n", "--dotenv - --to prod/org --overwrite --yes", 0, `FROM   TO                      PLAN
NEW    secrets/prod/org/NEW    same
OTHER  secrets/prod/org/OTHER  overwrite: version 2 has another value

1 overwrite, 1 same.

1 written, 1 same.
`)
	imports(t, "NEW=one\nOTHER=three\n", "--dotenv - --to prod/org", 0, `FROM   TO                      PLAN
NEW    secrets/prod/org/NEW    same
OTHER  secrets/prod/org/OTHER  same

2 same.
`)
	same(t, "written", strings.Join(v.written, " "), "prod/org/NEW prod/org/OTHER")
}

func TestImportNames(t *testing.T) {
	v := newTestVault(t)
	const source = "db.url=1\napi-key=2\nTWIN=3\ntwin=4\n" + githubKey + "=5\n"
	imports(t, source, "--dotenv - --to dev/chain/a/b --upper --rename db.url=DATABASE_URL --yes", 3, `FROM                   TO                                  PLAN
db.url                 secrets/dev/chain/a/b/DATABASE_URL  new
api-key                secrets/dev/chain/a/b/API_KEY       new
TWIN                   -                                   refused: the source has this name more than once
twin                   -                                   refused: the source has this name more than once
[REDACTED:github-pat]  -                                   refused: the name looks like a key, not like a name: store the key with secrets/ and give its name here

2 new, 3 refused.

2 written, 3 refused.
`)
	same(t, "written", strings.Join(v.written, " "), "dev/chain/a/b/DATABASE_URL dev/chain/a/b/API_KEY")
	same(t, "error", imports(t, source, "--dotenv - --to dev/org --rename DBURL=X", 2, ""), "agentchains: --rename: the source has no DBURL\n")
}

func TestImportStates(t *testing.T) {
	v := newTestVault(t)
	v.answers["agentchains/secrets/prod/org/REVOKED"] = `{"current_version":0,"pending_version":0}`
	v.entries["prod/org/TURNING"], v.pending["prod/org/TURNING"] = []any{"a", "b"}, true
	v.entries["prod/org/TURNED"], v.pending["prod/org/TURNED"] = []any{"a", "new"}, true
	const source = "REVOKED=new\nTURNING=new\nTURNED=new\n"
	imports(t, source, "--dotenv - --to prod/org --overwrite --yes", 3, `FROM     TO                        PLAN
REVOKED  secrets/prod/org/REVOKED  conflict: its value was revoked
TURNING  secrets/prod/org/TURNING  conflict: a rotation is under way
TURNED   secrets/prod/org/TURNED   same

1 same, 2 conflict.

1 same, 2 conflict.
`)
	v.denied = "agentchains/reveal/"
	imports(t, "TURNED=new\n", "--dotenv - --to prod/org --yes", 3, `FROM    TO                       PLAN
TURNED  secrets/prod/org/TURNED  exists: reveal/ is denied, so the value cannot be compared

1 exists.

1 exists.
`)
	v.denied = "agentchains/secrets/"
	same(t, "error", imports(t, "TURNED=new\n", "--dotenv - --to prod/org --yes", 2, ""),
		"agentchains: read agentchains/secrets/prod/org/TURNED: permission denied (403)\n")
	same(t, "written", strings.Join(v.written, " "), "")
}

// Whoever may not list the environments learns of a wrong one by the first write.
func TestImportEnvironment(t *testing.T) {
	v := newTestVault(t)
	const source = "A=one\n"
	same(t, "error", imports(t, source, "--dotenv - --to qa/org --yes", 2, ""), "agentchains: --to: the environment is not one of the engine's: add it to config first\n")
	imports(t, source, "--dotenv - --to all/org --plan", 0, "FROM  TO                 PLAN\nA     secrets/all/org/A  new\n\n1 new.\n")
	same(t, "error", imports(t, source, "--mount none --dotenv - --to prod/org", 2, ""), "agentchains: there is no engine at none\n")
	v.denied = "list "
	v.invalid = "the environment in the path is not one of dev, prod"
	imports(t, source, "--dotenv - --to qa/org --yes", 3, `FROM  TO                PLAN
A     secrets/qa/org/A  new

1 new.

NOT WRITTEN  WHY
A            refused: the environment in the path is not one of dev, prod (400)

1 refused.
`)
}

// A write that came through although its answer was lost is repeated by the
// client, and then fails for a version that is its own.
func TestImportLostAnswer(t *testing.T) {
	v := newTestVault(t)
	v.lost = 1
	imports(t, "A=one\n", "--dotenv - --to prod/org --yes", 0, `FROM  TO                  PLAN
A     secrets/prod/org/A  new

1 new.

1 same.
`)
	same(t, "written", strings.Join(v.written, " "), "prod/org/A")
}

// What changes after the plan is left as it is, also with --overwrite.
func TestImportRival(t *testing.T) {
	v := newTestVault(t)
	for version, verdict := range []string{"new", "overwrite: version 1 has another value"} {
		v.rival, v.written = "prod/org/A", nil
		v.entries = map[string][]any{}
		if version == 1 {
			v.entries["prod/org/A"] = []any{"old"}
		}
		imports(t, "A=one\nB=two\n", "--dotenv - --to prod/org --overwrite --yes", 3, fmt.Sprintf(`FROM  TO                  PLAN
A     secrets/prod/org/A  %[1]s
B     secrets/prod/org/B  new

%[2]s

NOT WRITTEN  WHY
A            conflict: cas does not match: the newest version is %[3]d (409)

1 written, 1 conflict.
`, verdict, []string{"2 new.", "1 new, 1 overwrite."}[version], version+1))
		same(t, "written", strings.Join(v.written, " "), "prod/org/B")
	}
}

const kvMount = `{"path":"secret/","type":"kv","options":{"version":%q}}`

func kvVault(t *testing.T, version, data, lists string) *testVault {
	t.Helper()
	v := newTestVault(t)
	for _, path := range []string{"secret", "secret/app", "secret/app/db", "secret/none"} {
		v.answers["sys/internal/ui/mounts/"+path] = fmt.Sprintf(kvMount, version)
	}
	wrap := func(object string) string {
		if version == "2" {
			return `{"data":` + object + `,"metadata":{"version":1}}`
		}
		return object
	}
	v.answers["list secret"+lists], v.answers["list secret"+lists+"/app"] = `{"keys":["app","app/"]}`, `{"keys":["db","gone"]}`
	v.answers["secret"+data+"/app"] = wrap(`{"token":"t"}`)
	v.answers["secret"+data+"/app/db"] = wrap(`{"password":"p","port":5432,"tls":true,"hosts":["a"],"ca":null}`)
	v.answers["secret"+data+"/app/gone"] = wrap("{}")
	return v
}

func TestImportKV(t *testing.T) {
	const gone = "agentchains: left out, because it is empty or its newest version was deleted: secret/app/gone\n"
	for version, paths := range map[string][2]string{"1": {"", ""}, "2": {"/data", "/metadata"}} {
		t.Run("version "+version, func(t *testing.T) {
			v := kvVault(t, version, paths[0], paths[1])
			const plan = `FROM             TO                         PLAN
app#token        secrets/prod/org/TOKEN     new
app/db#ca        -                          refused: the value is an object, a list or null, and not a text
app/db#hosts     -                          refused: the value is an object, a list or null, and not a text
app/db#password  secrets/prod/org/PASSWORD  new
app/db#port      secrets/prod/org/DB_PORT   new
app/db#tls       secrets/prod/org/TLS       new

4 new, 2 refused.
`
			same(t, "error", imports(t, "", "--kv secret --to prod/org --upper --rename app/db#port=DB_PORT --yes", 3, plan+"\n4 written, 2 refused.\n"), gone)
			same(t, "written", strings.Join(slices.Sorted(maps.Keys(v.entries)), " "), "prod/org/DB_PORT prod/org/PASSWORD prod/org/TLS prod/org/TOKEN")
			same(t, "a number", v.entries["prod/org/DB_PORT"][0].(string), "5432")
			same(t, "a boolean", v.entries["prod/org/TLS"][0].(string), "true")

			imports(t, "", "--kv /secret/app --to prod/org --rename token=OTHER", 0, "FROM       TO                      PLAN\napp#token  secrets/prod/org/OTHER  new\n\n1 new.\n")
			same(t, "error", imports(t, "", "--kv secret/none --to prod/org", 2, ""), "agentchains: --kv: there is no entry at secret/none; a path that ends with / stands for all below it\n")
		})
	}
}

func TestImportGroups(t *testing.T) {
	v := kvVault(t, "2", "/data", "/metadata")
	v.answers["secret/data/app/db"] = `{"data":{"owner":"u","password":"p"}}`
	v.answers["secret/data/app/gone"] = `{"data":{"OWNER":"u","owner":"v"}}`
	const plan = `FROM      TO                      PLAN
app       groups/prod/org/a-team  new
app/db    groups/prod/org/db      new
app/gone  -                       refused: owner: another key has the same name

2 new, 1 refused.
`
	const args = "--kv secret/ --groups --to prod/org --upper --rename app=a-team"
	imports(t, "", args+" --yes", 3, plan+"\n2 written, 1 refused.\n")
	same(t, "group", fmt.Sprint(v.entries["prod/org/db"]), "[map[OWNER:u PASSWORD:p]]")
	imports(t, "", args, 0, strings.ReplaceAll(strings.Replace(plan, "2 new", "2 same", 1), " new\n", " same\n"))

	for _, there := range []map[string]any{{}, {"MORE": "m"}, {"TOKEN": "other"}, {"TOKEN": "t", "MORE": "m"}} {
		v.entries["prod/org/a-team"] = []any{there}
		_, stdout, _ := execute("", append([]string{"import"}, strings.Fields(args)...)...)
		if !strings.Contains(stdout, "groups/prod/org/a-team  conflict: version 1 has another value\n") {
			t.Errorf("where there is %v the plan is\n%s", there, stdout)
		}
	}
}

func TestImportExports(t *testing.T) {
	t.Parallel()
	doppler := parsed(t, (*importSource).parseDoppler, `{"B":"two\nlines","A":"one","DOPPLER_CONFIG":"dev","BAD":null}`)
	same(t, "doppler", doppler, "A=one|B=two\nlines|BAD=!the value is an object, a list or null, and not a text|DOPPLER_CONFIG=dev|")
	infisical := parsed(t, (*importSource).parseInfisical, `[{"key":"B","workspace":"w","value":"2","type":"shared","tags":[]},{"key":"A","value":""}]`)
	same(t, "infisical", infisical, "B=2|A=!the value is empty|")
	for name, parse := range map[string]func(*importSource, string) error{"doppler": (*importSource).parseDoppler, "infisical": (*importSource).parseInfisical} {
		for _, text := range []string{"", tokenValue, `"` + tokenValue + `"`, "{" + tokenValue, `[{"` + tokenValue, `[{"value":"` + tokenValue + `"}]`, `{"a":"b"} {}`, `{"a":"b"}]`, `[]]`, "3"} {
			err := parse(&importSource{}, text)
			if err == nil || strings.Contains(err.Error(), tokenValue[:4]) {
				t.Errorf("%s: the error says %t of the text", name, err != nil)
			}
		}
	}
}

func TestImportBounds(t *testing.T) {
	t.Parallel()
	var in importSource
	for _, value := range []string{strings.Repeat("x", mostValue), strings.Repeat("x", mostValue+1), "a\x00b"} {
		if err := in.add("", "A", value); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "refused", fmt.Sprintf("%q", []string{in.list[0].refused, in.list[1].refused, in.list[2].refused}),
		`["" "the value is longer than 64 KiB" "the value holds a NUL byte, which an environment variable cannot carry"]`)
	for len(in.list) < mostEntries {
		if err := in.add("", "A", "v"); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.add("", "A", "v"); err != errSourceMany {
		t.Errorf("one entry too many: %v", err)
	}
	if err := (&kvReader{visited: mostEntries}).visit(); err != errSourceMany {
		t.Errorf("one folder too many: %v", err)
	}
	group := newImportItem("g", scope.Address{Kind: scope.Group, Name: "g"})
	for _, name := range []string{"A", "B"} {
		group.addValue(name, "", &keyValue{value: sensitive.New(strings.Repeat("x", mostValue-1))})
		same(t, "what is wrong with a group of 128 KiB", group.why, "")
	}
	group.addValue("C", "", &keyValue{value: sensitive.New("x")})
	same(t, "what is wrong with a larger group", group.why, "the values are longer than 128 KiB together")
	in = importSource{bytes: mostSource}
	if err := in.add("", "A", "v"); err != errSourceLarge {
		t.Errorf("one byte too many: %v", err)
	}
}

// A file that is named is read, and what is wrong with it names the file only.
func TestImportFiles(t *testing.T) {
	newTestVault(t)
	file := filepath.Join(t.TempDir(), "export")
	for text, want := range map[string]string{
		"\ufeffA=one\n":       "",
		"A=\xff" + tokenValue: file + " is not UTF-8",
		"A='" + tokenValue:    file + ": line 1 begins a quote that is never closed",
		"A=1\nB C\n":          file + ": line 2 must be NAME=value, a comment or empty",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := execute("", "import", "--dotenv", file, "--to", "prod/org", "--plan")
		if want == "" && code == 0 {
			continue
		}
		same(t, "error", stderr, "agentchains: "+want+"\n")
	}
}

func TestImportArguments(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "token")
	for args, want := range map[string]string{
		"--to prod/org":                            "at least one of the flags in the group [kv dotenv doppler infisical] is required",
		"--to prod/org --dotenv a --kv b":          "if any flags in the group [kv dotenv doppler infisical] are set none of the others can be; [dotenv kv] were all set",
		"--dotenv a":                               `required flag(s) "to" not set`,
		"--dotenv a --to prod":                     "--to must be an environment and a scope, org, project/<project>, chain/<chain> or agent/<chain>/<agent>, as in prod/chain/billing",
		"--dotenv a --to prod/org --groups":        "--groups needs --kv: a file has no groups",
		"--dotenv a --to prod/org --rename A":      "--rename must be OLD=NEW",
		"--dotenv /nonexistent/.env --to prod/org": "open /nonexistent/.env: no such file or directory",
		"--dotenv a --to prod/org --yes --plan":    "if any flags in the group [yes plan] are set none of the others can be; [plan yes] were all set",
		"--dotenv a --to prod/org A=" + tokenValue: "import takes flags only",
	} {
		code, stdout, stderr := execute("", append([]string{"import"}, strings.Fields(args)...)...)
		if code != 2 || stdout != "" {
			t.Errorf("%s: exit code %d, output %q, want 2 and none", args, code, stdout)
		}
		same(t, "error", stderr, "agentchains: "+want+"\n")
	}
}
