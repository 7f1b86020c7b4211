package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A value of each kind, as no service would give it.
const (
	tokenValue = "d41Jx0pQ7zLm92VbKcTn5RwYs8"
	githubKey  = "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6"
)

// values gives a text on a descriptor, as an argument of the command, which
// closes it.
func values(t *testing.T, text string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer w.Close()
		_, _ = io.WriteString(w, text) // the command need not read it all
	}()
	return "--values-fd=" + strconv.Itoa(fd)
}

func TestRedactFilter(t *testing.T) {
	t.Parallel()
	const token = "TOKEN=" + tokenValue
	encoded := base64.StdEncoding.EncodeToString([]byte(tokenValue))
	tests := []struct {
		name, values, args string
		in, out, told      string
		code               int
	}{
		{name: "nothing is known", in: "a " + tokenValue + " b", out: "a " + tokenValue + " b"},
		{name: "nothing is found", values: token, in: "plain text", out: "plain text"},
		{name: "nothing is found, which is no failure", values: token, args: "--fail-on-find", in: "x", out: "x"},
		{name: "a value twice", values: token, in: tokenValue + "\n" + encoded, out: "[REDACTED:TOKEN]\n[REDACTED:TOKEN]", told: `agentchains: redacted 2

REDACTED  ENCODING  COUNT  FILE
TOKEN     base64    1      -
TOKEN     raw       1      -
`},
		{name: "a known format", args: "--fail-on-find", in: "key " + githubKey, out: "key [REDACTED:github-pat]", code: 3, told: `agentchains: redacted 1

REDACTED    ENCODING  COUNT  FILE
github-pat  format    1      -
`},
		{name: "formats are off", args: "--formats=off --fail-on-find", in: githubKey, out: githubKey},
		{name: "a check", values: token, args: "--check --fail-on-find", in: tokenValue, code: 3, told: `agentchains: would redact 1

REDACTED  ENCODING  COUNT  FILE
TOKEN     raw       1      -
`},
		{name: "what is left readable", values: `{"REGION": "us-west-2", "TOKEN": "` + tokenValue + `"}`, in: "us-west-2 " + tokenValue, out: "us-west-2 [REDACTED:TOKEN]", told: `agentchains: redacted 1

REDACTED  ENCODING  COUNT  FILE
TOKEN     raw       1      -

agentchains: REGION is not redacted: it is the name of a region
`},
		{name: "what is left readable, and nothing else", values: "REGION=us-west-2\r\n\n", in: "us-west-2", out: "us-west-2", told: "agentchains: REGION is not redacted: it is the name of a region\n"},
		{name: "by force", values: "REGION=us-west-2", args: "--force --json", in: "in us-west-2.", out: "in [REDACTED:REGION].",
			told: `{"redacted":1,"reported":0,"files":1,"files_with_redacted":1,"bytes":13,"found":[{"file":"-","name":"REGION","encoding":"raw","count":1,"redacted":true}],"not_looked_for":[],"notes":[],"errors":[],"omitted":0}`},
		{name: "two values of a name", values: token + "\nTOKEN=" + githubKey, args: "--formats=off", in: tokenValue + " " + githubKey, out: "[REDACTED:TOKEN] [REDACTED:TOKEN]", told: `agentchains: redacted 2

REDACTED  ENCODING  COUNT  FILE
TOKEN     raw       2      -
`},
		{name: "JSON documents", values: "PIN=87310\n" + token, args: "--force --format=json", in: "{\n \"pin\": 87310, \"t\": [\"\\u0064" + tokenValue[1:] + "\"]\n}\n[]", out: "{\n \"pin\": \"[REDACTED:PIN]\", \"t\": [\"[REDACTED:TOKEN]\"]\n}\n[]", told: `agentchains: redacted 2

REDACTED  ENCODING  COUNT  FILE
PIN       raw       1      -
TOKEN     raw       1      -
`},
		{name: "JSON Lines", values: "PIN=87310", args: "--force --format=jsonl", in: "{\"pin\": 87310}\r\n\n87310", out: "{\"pin\": \"[REDACTED:PIN]\"}\r\n\n\"[REDACTED:PIN]\"", told: `agentchains: redacted 2

REDACTED  ENCODING  COUNT  FILE
PIN       raw       2      -
`},
		{name: "JSON Lines with others", values: `{"KEY": "` + tokenValue[:13] + `\n` + tokenValue[13:] + `"}`, args: "--format=jsonl", in: "{}\n" + tokenValue[:13] + "\n" + tokenValue[13:] + "\n{}\n", out: "{}\n[REDACTED:KEY]\n{}\n", told: `agentchains: redacted 1

REDACTED  ENCODING  COUNT  FILE
KEY       raw       1      -

agentchains: -: lines redacted as text, since they are not JSON or too long: 2
`},
		{name: "JSON Lines in their order", values: token, args: "--format=jsonl", in: tokenValue[:10] + "\n{}\n" + tokenValue[:10], out: tokenValue[:10] + "\n{}\n" + tokenValue[:10],
			told: "agentchains: -: lines redacted as text, since they are not JSON or too long: 2\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"redact"}, strings.Fields(test.args)...)
			if test.values != "" {
				args = append(args, values(t, test.values))
			}
			code, stdout, stderr := execute(test.in, args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			same(t, "output", stdout, test.out)
			if strings.HasPrefix(stderr, "{") {
				stderr = unindented(t, stderr)
			}
			same(t, "standard error", stderr, test.told)
		})
	}
}

// What is too long to be held is text, up to the end of the line, and what comes
// after it is not.
func TestRedactLongJSON(t *testing.T) {
	t.Parallel()
	long := `"` + strings.Repeat("x", mostJSON-10) + tokenValue + `"`
	redacted := strings.ReplaceAll(long, tokenValue, "[REDACTED:TOKEN]")
	const escaped, pin, last = `{"a": "\u0064` + `41Jx0pQ7zLm92VbKcTn5RwYs8"}`, "\n87310466\n", `{"a": "[REDACTED:TOKEN]"}`
	for format, test := range map[string]struct{ in, out, note string }{
		"json":  {long, redacted, "is longer than 16 MiB: redacted as text"},
		"jsonl": {escaped + pin + long + pin + escaped, last + "\n\"[REDACTED:PIN]\"\n" + redacted + "\n\"[REDACTED:PIN]\"\n" + last, "lines redacted as text, since they are not JSON or too long: 1"},
	} {
		code, stdout, stderr := execute(test.in, "redact", "--force", "--formats=off", "--format", format, values(t, "PIN=87310466\nTOKEN="+tokenValue))
		if code != 0 || stdout != test.out || !strings.HasSuffix(stderr, "\nagentchains: -: "+test.note+"\n") {
			t.Errorf("%s: exit code %d, %d bytes of %d, want %d; standard error: %s", format, code, len(stdout), len(test.in), len(test.out), stderr)
		}
	}
}

// unindented returns JSON on one line, with its members in the same order.
func unindented(t *testing.T, text string) string {
	t.Helper()
	data, err := json.Marshal(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Keys that are told by what stands around them are found, and left as they are
// unless all are to be redacted.
func TestRedactReports(t *testing.T) {
	t.Parallel()
	const in = `api_key = "` + tokenValue + `"`
	code, stdout, stderr := execute(in, "redact", "--fail-on-find")
	if code != 3 || !strings.HasPrefix(stderr, "agentchains: redacted 0; found, but not redacted: 1\n\nFOUND, NOT REDACTED") {
		t.Errorf("exit code %d, want 3; standard error: %s", code, stderr)
	}
	same(t, "output", stdout, in)
	if code, stdout, _ = execute(in, "redact", "--formats=all"); code != 0 || strings.Contains(stdout, tokenValue) {
		t.Errorf("exit code %d; a key is left with --formats=all", code)
	}
}

func TestRedactRefuses(t *testing.T) {
	t.Parallel()
	const secret = "nobody-may-see-this"
	tests := []struct{ args, values, want string }{
		{args: "a b", want: "redact prints one FILE: use --in-place or --check for more"},
		{args: "--in-place", want: "--in-place needs a FILE or a FOLDER"},
		{args: "--in-place --check a", want: "if any flags in the group [in-place check] are set none of the others can be; [check in-place] were all set"},
		{args: "--format=yaml", want: "--format must be auto, text, json or jsonl"},
		{args: "--formats=some", want: "--formats must be precise, all or off"},
		{args: "--env prod", want: "if any flags in the group [env chain agent] are set they must all be set; missing [agent chain]"},
		{args: "--auth approle", want: "--auth and --wrapped-token need --env, --chain and --agent"},
		{args: "--values-fd 0", want: "--values-fd: the descriptor must be one of its own, such as 3"},
		{args: "--values-fd 2", want: "--values-fd: the descriptor must be one of its own, such as 3"},
		{args: "--values-fd 987654", want: "--values-fd: read descriptor: bad file descriptor"},
		{args: "--variables PATH,NO_SUCH_NAME", want: "--variables: there is no NO_SUCH_NAME in this environment"},
		{args: "/nonexistent/a.log", want: "open /nonexistent/a.log: no such file or directory"},
		{args: "/", want: "redact /: read /: is a directory"},
		{values: secret, want: "--values-fd: line 1: " + notValues},
		{values: "A=b\n" + secret + " c=d", want: "--values-fd: line 2: " + notValues},
		{values: `{"A": {"B": "` + secret + `"}}`, want: "--values-fd: " + notValues},
		{values: `{"` + secret + `]": "x"}`, want: "--values-fd: " + notValues},
		{values: "A=" + strings.Repeat(secret, mostValues/len(secret)+1), want: "--values-fd: the values are longer than 1 MiB"},
	}
	for _, test := range tests {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"redact"}, strings.Fields(test.args)...)
			if test.values != "" {
				args = append(args, values(t, test.values))
			}
			code, stdout, stderr := execute("text", args...)
			if code != 2 || stdout != "" {
				t.Errorf("exit code %d, output %q, want 2 and none", code, stdout)
			}
			same(t, "error", stderr, "agentchains: "+test.want+"\n")
		})
	}
}

func TestRedactVariables(t *testing.T) {
	t.Setenv("REDACT_TEST_TOKEN", tokenValue)
	_, stdout, _ := execute(tokenValue, "redact", "--variables", "REDACT_TEST_TOKEN")
	same(t, "output", stdout, "[REDACTED:REDACT_TEST_TOKEN]")
}

func TestRedactFromVault(t *testing.T) {
	asked := vaultAnswers(t, http.StatusOK, `{"data": {"DB_URL": "`+tokenValue+`"}}`)
	agent := []string{"redact", "--env", "prod", "--chain", "billing/dunning", "--agent", "Sender"}
	code, stdout, _ := execute("url "+tokenValue, agent...)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	same(t, "output", stdout, "url [REDACTED:DB_URL]")
	same(t, "path", asked.URL.Path, "/v1/agentchains/env/prod/billing/dunning/Sender")
	same(t, "token", asked.Header.Get("X-Vault-Token"), "from-the-variable")

	vaultAnswers(t, http.StatusForbidden, `{"errors":["permission denied"]}`)
	code, stdout, stderr := execute("url "+tokenValue, agent...)
	if code != 2 || stdout != "" {
		t.Errorf("exit code %d and output without the values, want 2 and none", code)
	}
	same(t, "error", stderr, "agentchains: read agentchains/env/prod/billing/dunning/Sender: permission denied (403)\n")
}

// What cannot be part of a secret is there in the same write, and the beginning
// of one for as long as is safe, or as there may be more of it.
func TestRedactAtOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ flag, early string }{
		{"--strict=false", tokenValue[:1]},
		{"--strict", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			in, input := io.Pipe()
			output, out := io.Pipe()
			ended := make(chan int)
			go func() {
				ended <- run([]string{"redact", test.flag, values(t, "TOKEN="+tokenValue)}, in, out, io.Discard)
			}()
			var text strings.Builder
			go io.Copy(&text, output)

			fmt.Fprint(input, "Password: ")
			synctest.Wait()
			same(t, test.flag+": the prompt", text.String(), "Password: ")
			fmt.Fprint(input, "x "+tokenValue[:1])
			time.Sleep(idle)
			synctest.Wait()
			same(t, test.flag+": the beginning of a value, after a while", text.String(), "Password: x "+test.early)
			fmt.Fprint(input, tokenValue[1:]+".")
			input.Close()
			if code := <-ended; code != 0 {
				t.Errorf("exit code %d", code)
			}
			out.Close()
			synctest.Wait()
			same(t, test.flag+": in the end", text.String(), "Password: x "+test.early+"[REDACTED:TOKEN].")
		})
	}
}

// A stream of any size is redacted in the same memory.
func TestRedactMemory(t *testing.T) {
	const total, most = 16 << 20, 8 << 20
	in, input := io.Pipe()
	peak := make(chan uint64)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	go func() {
		chunk := strings.Repeat(strings.Repeat("some text of a log, and ", 40)+tokenValue+"\n", 32)
		var high uint64
		for sent := 0; sent < total; sent += len(chunk) {
			if _, err := io.WriteString(input, chunk); err != nil {
				break
			}
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			high = max(high, now.HeapAlloc)
		}
		input.Close()
		peak <- high
	}()
	var told strings.Builder
	if code := run([]string{"redact", "--json", values(t, "TOKEN="+tokenValue)}, in, io.Discard, &told); code != 0 {
		t.Fatalf("exit code %d: %s", code, told.String())
	}
	var summary struct {
		Redacted int
		Bytes    int
	}
	if err := json.Unmarshal([]byte(told.String()), &summary); err != nil {
		t.Fatal(err)
	}
	if grown := int64(<-peak) - int64(before.HeapAlloc); summary.Bytes < total || summary.Redacted < total/1024 || grown > most {
		t.Errorf("%d bytes with %d values took %d bytes of memory, want less than %d", summary.Bytes, summary.Redacted, grown, most)
	}
}
