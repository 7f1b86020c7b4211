package agentchains

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// marker stands for a secret that was sent in the wrong place.
const marker = "s3cr3t-in-the-wrong-place"

// wrongTypes are JSON values, with the types of fields that may take them.
var wrongTypes = []struct {
	value any
	fits  []framework.FieldType
}{
	{12345.5, nil},
	{true, []framework.FieldType{framework.TypeBool}},
	{nil, nil},
	{[]any{marker}, []framework.FieldType{framework.TypeCommaStringSlice, framework.TypeSlice}},
	{[]any{data{"x": marker}}, []framework.FieldType{framework.TypeSlice}},
	{data{"x": marker}, []framework.FieldType{framework.TypeMap}},
	{data{"x": []any{marker}}, nil},
	{data{"x": 7.0}, nil},
	{marker, []framework.FieldType{framework.TypeString, framework.TypeCommaStringSlice}},
}

// examples are a path for each pattern.
var examples = map[string]string{
	"env/": "env/prod/c/A", "creds/": "creds/prod/c/A", "explain/": "explain/prod/c/A", "policy/": "policy/prod/c/A",
	"reveal/": "reveal/prod/org/KEY", "redact/": "redact/prod/c/A", "redact/mount": "redact/mount", "secrets/": "secrets/prod/org/KEY", "groups/": "groups/prod/org/pair", "data/": "data/prod/org/KEY", "metadata/": "metadata/prod/org/KEY",
	"scopes/chain/": "scopes/chain/c", "scopes/project/": "scopes/project/p", "config": "config", "status": "status",
	"executions/": "executions/prod/c/A", "execution/": "execution/" + noExecution, "revoke/execution/": "revoke/execution/" + noExecution,
	"revoke/secret/": "revoke/secret/prod/org/KEY", "revoke/run/": "revoke/run/42", "revoke/agent/": "revoke/agent/prod/c/A", "revoke/chain/": "revoke/chain/prod/c", "revoke/all": "revoke/all",
	"incidents/": "incidents/20300101-000000-00000000", "holds/": "holds/20300101-000000-00000000",
	"rotate/": "rotate/prod/org/KEY", "promote/": "promote/prod/org/KEY", "abort/": "abort/prod/org/KEY", "confirm/": "confirm/prod/org/KEY",
	"schedules/": "schedules/prod/org/KEY", "rotators/": "rotators/r", "notifiers/": "notifiers/n",
}

// noExecution is an id that no execution has.
const noExecution = "00000000000000000000000000000000"

func example(p *framework.Path) string {
	prefix, _, _ := strings.Cut(strings.TrimPrefix(p.Pattern, "^"), "(")
	if p.Operations[lists] != nil {
		return prefix
	}
	_, verb, _ := strings.Cut(p.Pattern, ")")
	return examples[strings.TrimSuffix(prefix, "$")] + strings.TrimSuffix(verb, "$")
}

// TestWrongInput sends every wrong JSON type for every field of every path, and
// an unknown field. Each is a 400 that stores nothing and says nothing of what
// was sent, neither in the answer nor in the log.
func TestWrongInput(t *testing.T) {
	both(t, func(e *env) {
		e.seed()
		before := e.dump()
		for _, p := range e.b.Paths {
			for op := range p.Operations {
				refused := func(field string, value any) {
					e.Helper()
					status, text, _ := e.send(e.request(op, example(p), data{field: value}))
					if status != 400 || strings.Contains(text, marker) {
						e.Errorf("%s %s with %s as %T: %d", op, example(p), field, value, status)
					}
				}
				refused("unknown", marker)
				refused(marker, marker)
				refused("path", marker)
				for name, schema := range p.Fields {
					if !operationTakes[op](name, schema) {
						refused(name, marker)
						continue
					}
					for _, wrong := range wrongTypes {
						fits := false
						for _, fit := range wrong.fits {
							fits = fits || fit == schema.Type
						}
						null := wrong.value == nil && op == logical.PatchOperation
						redact := name == "redact" && schema.Type == framework.TypeCommaStringSlice && (wrong.value == true || fmt.Sprint(wrong.value) == "["+marker+"]")
						if !fits && !null && !redact || name == "expires_at" && wrong.value == any(marker) {
							refused(name, wrong.value)
						}
					}
				}
			}
		}
		e.is(e.dump(), before)
		if strings.Contains(e.log.String(), marker) {
			e.Error("the log holds what was sent")
		}
	})
}

// dump returns all of storage.
func (e *env) dump() string {
	e.Helper()
	var dump strings.Builder
	for _, key := range e.stored("") {
		entry, err := e.s.InmemStorage.Get(e.Context(), key)
		if err != nil {
			e.Fatal(err)
		}
		fmt.Fprintln(&dump, key, string(entry.Value))
	}
	return dump.String()
}

// TestScalarsAsStrings covers what the vault command and a query send.
func TestScalarsAsStrings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		check func(any) string
		good  []any
		bad   []any
	}{
		{checkBool, []any{true, "true", "false"}, []any{"1", "yes", 1.0, nil}},
		{checkInteger, []any{1, int64(1), 1.0, "12", "-1"}, []any{"0x10", "1e3", 1.5, 1e300, "12345678901234567890", true}},
		{checkDuration, []any{"10m", "7d", "60", 60.0, 0}, []any{"-1s", -1.0, "soon", 1e300, 1.5, true, nil}},
		{checkTime, []any{"", "2030-01-31T12:00:00Z", "2030-01-31T12:00:00.5+02:00"}, []any{"2030-01-31", 1700000000.0, true}},
		{checkStrings, []any{"a,b", []any{}, []any{"a"}, []string{"a"}}, []any{[]any{1.0}, data{}, 1.0}},
		{checkStringMap, []any{data{}, data{"a": "b"}, data{"a": nil}}, []any{"a=b", []any{}, data{"a": 1.0}}},
		{checkRedact, []any{true, "false", []any{"A"}, "A,B"}, []any{1.0, data{}}},
	} {
		for _, v := range tt.good {
			if expected := tt.check(v); expected != "" {
				t.Errorf("%v is refused: must be %s", v, expected)
			}
		}
		for _, v := range tt.bad {
			if tt.check(v) == "" {
				t.Errorf("%v passes", v)
			}
		}
	}
}

// TestPanic ends a request, and not the process, which other mounts share. What
// was panicked with may hold anything, and stays out of the answer and the log.
func TestPanic(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.s.onOp = func(string) { panic(marker) }
	status, text, _ := e.send(&logical.Request{Operation: read, Path: "scopes/chain/c", Storage: e.s})
	if status != 500 || text != "internal error: see the server's log" {
		t.Errorf("%d %q", status, text)
	}
	done := false
	err := e.b.atOnce([]string{"x", "y"}, func(id string) error {
		if id == "x" {
			panic(marker)
		}
		done = true
		return nil
	})
	if err == nil || !strings.HasPrefix(err.Error(), "the record of x") || !done {
		t.Error("of records that are worked on together, not one fails but", err)
	}
	found, exists, err := e.b.HandleExistenceCheck(t.Context(), e.request(update, "scopes/chain/c", nil))
	if !found || exists || err != nil {
		t.Error(found, exists, err)
	}
	if log := e.log.String(); strings.Contains(log, marker) || strings.Count(log, `panic`) < 3 {
		t.Error("the log is not as it should be")
	}
}
