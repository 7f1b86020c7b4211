package agentchains

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// hidden stands for a secret. It is the name of nothing, so that nothing which is
// shown, such as a path, can be it by chance.
const hidden = "hidden! 7Yq2 kV9x Wm4Z"

// giving are the doors whose answers have values, or the text that was sent.
var giving = []string{"env", "creds", "reveal", "executions", "redact"}

// FuzzRequests sends a few requests, one in a line: an operation, a path and a body.
// wait is an operation too: the worker's passes, so many seconds later. Whatever is
// sent, nothing panics or answers a 500, what is refused stores nothing, no value is
// answered or logged where it should not be, and what is stored fits together.
func FuzzRequests(f *testing.F) {
	for _, script := range scripts(f) {
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script string) {
		t.Parallel()
		play(t, script)
	})
}

// TestRandomScripts puts lines of the seeds together, which a fuzzer does not, with
// some of their fields, and some of these changed.
func TestRandomScripts(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	lines := strings.Split(strings.Join(scripts(t), "\n"), "\n")
	words := []any{true, false, 0, 1, -1, nil, "", "c", "KEY", "A", "10m", "x\x00", "kill", "revoke", "rotate", "password", "mount", "2030-01-01T00:10:00Z", data{"A": "x"}, []any{"A"}}
	for range 100 {
		var script []string
		for range 1 + random.IntN(8) {
			op, rest, _ := strings.Cut(lines[random.IntN(len(lines))], " ")
			path, text, _ := strings.Cut(rest, " ")
			body, _ := sent(text)
			for _, name := range slices.Sorted(maps.Keys(body)) {
				switch random.IntN(4) {
				case 0:
					delete(body, name)
				case 1:
					body[name] = words[random.IntN(len(words))]
				}
			}
			if body != nil {
				encoded, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				text = string(encoded)
			}
			script = append(script, fmt.Sprintf("%s %s %s", op, path, text))
		}
		if play(t, strings.Join(script, "\n")); t.Failed() {
			t.Fatalf("the script is\n%s", strings.Join(script, "\n"))
		}
	}
}

// play sends the requests of a script.
func play(t *testing.T, script string) {
	t.Helper()
	const most = 12 // requests
	e := newEnv(t)
	e.seed()
	e.hide()
	h := &hostile{env: e, numbers: map[string]int{}}
	for n, line := range strings.Split(script, "\n") {
		if n < most {
			h.follow(line)
		}
	}
	e.work()
	h.look()
	e.checkIndexes()
	e.start()
	e.checkRotations()
}

// hide stores hidden behind every door.
func (e *env) hide() {
	e.Helper()
	e.write("prod/org/KEY", hidden)
	e.ok(update, "groups/prod/org/pair", data{"values": data{"A": hidden, "B": "b"}, "force": true})
	e.ok(update, "config", data{"allowed_hosts": "127.0.0.1:1"})
	e.ok(update, "rotators/r", data{"type": "webhook", "url": "http://127.0.0.1:1", "hmac_secret": hidden})
	e.ok(update, "notifiers/n", data{"url": "http://127.0.0.1:1", "hmac_secret": hidden})
	e.ok(update, "schedules/prod/org/KEY", data{"rotation_period": "30d", "rotator": "r"})
	e.ok(update, "executions/prod/c/A", data{"run": "42", "idempotency_key": "one"})
}

// hostile sends the lines of a script.
type hostile struct {
	*env
	shown   bool           // hidden was stored where it may be seen
	numbers map[string]int // the last version of each entry
}

func (h *hostile) follow(line string) {
	op, rest, _ := strings.Cut(line, " ")
	path, text, _ := strings.Cut(rest, " ")
	if op == "wait" {
		seconds, _ := strconv.Atoi(path)
		h.clock.advance(time.Duration(seconds%1_000_000) * time.Second)
		h.work()
		return
	}
	body, ok := sent(text)
	// Vault passes on nothing else.
	if !ok || !utf8.ValidString(line) || !slices.Contains([]logical.Operation{read, lists, update, patch, remove}, logical.Operation(op)) {
		return
	}
	h.try(logical.Operation(op), strings.ReplaceAll(path, "$id", h.execution()), body)
}

// sent decodes a body as Vault does.
func sent(text string) (body data, ok bool) {
	if text == "" {
		return nil, true
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if d.Decode(&body) != nil || body == nil {
		return nil, false
	}
	if body["allowed_hosts"] != nil { // nobody else is to be called
		body["allowed_hosts"] = "127.0.0.1:1"
	}
	delete(body, "wait")
	return body, true
}

// execution returns the id of one that runs.
func (h *hostile) execution() string {
	for _, key := range h.stored(livePrefix) {
		return key[strings.LastIndexByte(key, '/')+1:]
	}
	return noExecution
}

func (h *hostile) try(op logical.Operation, path string, body data) {
	h.Helper()
	before, told := h.dump(), fmt.Sprint(body)
	shows := h.shows(path, body)
	status, text, resp := h.send(h.request(op, path, body))
	h.b.worker.Load().group.Wait()
	h.shown = h.shown || shows && status == 200
	if status == 500 {
		h.Errorf("%s %q %.500q: %s", op, path, told, text)
	}
	if status >= 400 && h.dump() != before {
		h.Errorf("%s %q %.500q: a %d, but something is stored", op, path, told, status)
	}
	door, _, _ := strings.Cut(path, "/")
	if resp != nil && !(status == 200 && slices.Contains(giving, door)) {
		text += fmt.Sprint(resp.Data, resp.Warnings)
	}
	if !h.shown && strings.Contains(text, hidden) {
		h.Errorf("%s %q answers %d with a value", op, path, status)
	}
	if !h.shown && bytes.Contains(h.log.Bytes(), []byte(hidden)) {
		h.Errorf("%s %q: a value is in the log", op, path)
	}
	h.look()
}

// shows reports whether a request has hidden in a field that whoever may read sees.
func (h *hostile) shows(path string, body data) bool {
	p := h.b.Route(path)
	if p == nil {
		return false
	}
	rest := maps.Clone(body)
	for name := range body {
		if f := p.Fields[name]; f != nil && f.DisplayAttrs != nil && f.DisplayAttrs.Sensitive {
			delete(rest, name)
		}
	}
	return strings.Contains(fmt.Sprint(path, rest), hidden)
}

// look checks that no number of a version comes back, and that rotations fit.
func (h *hostile) look() {
	h.Helper()
	h.checkRotations()
	for _, prefix := range []string{secretPrefix, deletedPrefix} {
		for _, key := range h.stored(prefix) {
			entry, err := getJSON[deletedEntry](h.Context(), &h.s.InmemStorage, key)
			if err != nil {
				h.Fatal(err)
			}
			at := strings.TrimPrefix(key, prefix)
			if prefix == secretPrefix && entry.LastVersion < h.numbers[at] {
				h.Errorf("%s: the last version was %d and is %d", key, h.numbers[at], entry.LastVersion)
			}
			h.numbers[at] = max(h.numbers[at], entry.LastVersion)
		}
	}
}

// scripts are one request for each operation of each path, with all fields that it
// takes, and some that lead further.
func scripts(t testing.TB) []string {
	all := []string{
		`update rotate/prod/org/KEY {"value":"` + hidden + `2"}` + "\nread rotate/prod/org/KEY\nupdate confirm/prod/org/KEY\nwait 700\nupdate promote/prod/org/KEY {\"force\":true}\nread secrets/prod/org/KEY",
		`update rotate/prod/org/KEY` + "\nread rotate/prod/org/KEY\nwait 1000\nupdate abort/prod/org/KEY {\"reason\":\"x\",\"force\":true}",
		`update revoke/secret/prod/org/KEY {"reason":"x","rotate":true}` + "\nlist incidents/\nread execution/$id/watch\nupdate execution/$id/ack {\"pid\":7}\nwait 60\nread status",
		`update revoke/chain/prod/c {"reason":"x","hold":true}` + "\nread env/prod/c/A\nupdate executions/prod/c/A\nlist holds/\ndelete revoke/chain/prod/c\nread creds/prod/c/A",
		`update rotate/prod/project/p/LAST {"value":"new"}` + "\n" + `update rotate/prod/project/p/LAST {"value":"x\u0000","force":true}` + "\n" + `update rotate/prod/project/p/LAST {"value":"newer","on_overdue":"revoke","force":true}`,
		`update rotate/prod/org/KEY {"on_overdue":"revoke","force":true}` + "\n" + `update rotate/prod/org/KEY {"force":true}`,
		`delete secrets/prod/org/KEY {"force":true}` + "\nupdate secrets/prod/org/KEY {\"value\":\"" + hidden + `","cas":0}` + "\nread reveal/prod/org/KEY {\"version\":\"3\"}\nread explain/prod/c/A",
		`update secrets/prod/org/KEY {"value":"new","expires_at":"2030-01-02T00:00:00Z"}` + "\nwait 90000\nread env/prod/c/A\npatch secrets/prod/org/KEY {\"expires_at\":null,\"custom_metadata\":{\"a\":null}}",
		`update executions/prod/c/A {"idempotency_key":"one","run":"42"}` + "\nupdate execution/$id/finding {\"name\":\"KEY\",\"count\":1,\"encoding\":\"raw\"}\nupdate execution/$id/finish {\"exit_code\":1}\nread executions/prod/c/A {\"id\":\"$id\"}",
		`update data/prod/org/KEY {"data":{"value":"` + hidden + `"},"options":{"cas":1}}` + "\nread data/prod/org/KEY\nread metadata/prod/org/KEY\ndelete metadata/prod/org/KEY",
		`update redact/prod/c/A {"text":"a ` + hidden + ` b","scope":"mount"}` + "\nread explain/=prod/c/A\nread explain/~prod/c/A",
	}
	e := &env{}
	e.b = newBackend(time.Now)
	for _, p := range e.b.Paths {
		for op := range p.Operations {
			fields, wrong := data{}, data{}
			for name, schema := range p.Fields {
				if operationTakes[op](name, schema) && !captureNames(p)[name] {
					fields[name], wrong[name] = plausible(name, schema), []any{data{"x": []any{hidden}}}
				}
			}
			for _, body := range []data{fields, wrong} {
				text, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, fmt.Sprintf("%s %s %s", op, example(p), text))
			}
		}
	}
	slices.Sort(all)
	return all
}

// plausible returns a value that the type of a field takes.
func plausible(name string, f *framework.FieldSchema) any {
	switch {
	case name == "options":
		return data{"cas": 1}
	case name == "agents":
		return []any{data{"name": "A", "secrets": []any{"KEY", data{"name": "LAST", "as": "X", "optional": true}}, "groups": []any{"pair"}}}
	case name == "version":
		return []int{1}
	case len(f.AllowedValues) > 0:
		return f.AllowedValues[0]
	case fieldChecks[name] != nil && name != "redact":
		return "2030-01-02T00:00:00Z"
	}
	return map[framework.FieldType]any{
		framework.TypeString: hidden, framework.TypeBool: true, framework.TypeInt: 1, framework.TypeDurationSecond: "10m",
		framework.TypeCommaStringSlice: []string{"c"}, framework.TypeMap: data{"A": hidden}, framework.TypeSlice: []any{hidden}, framework.TypeCommaIntSlice: []int{1},
	}[f.Type]
}
