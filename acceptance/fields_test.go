package acceptance

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// openAPI is what Vault publishes of the engine.
type openAPI struct {
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas map[string]struct{ Properties map[string]schema }
	}
}

type operation struct {
	OperationID string
	Parameters  []parameter
}

type parameter struct {
	Name, In string
	Schema   schema
}

type schema struct {
	Type, Format string
	DisplayAttrs struct{ Sensitive bool } `json:"x-vault-displayAttrs"`
}

func (e *engine) openAPI() openAPI {
	e.Helper()
	// Vault asks every mount, so also the one whose plugin a test has just killed.
	resp, err := e.retrying().client.Logical().ReadRaw("sys/internal/specs/openapi")
	e.must(err)
	defer resp.Body.Close()
	var spec openAPI
	e.must(resp.DecodeJSON(&spec))
	maps.DeleteFunc(spec.Paths, func(path string, _ map[string]json.RawMessage) bool { return !strings.HasPrefix(path, "/"+e.mount+"/") })
	if len(spec.Paths) == 0 {
		e.Fatal("OpenAPI lists no path of the mount")
	}
	return spec
}

// body returns the fields that an operation takes in its body. Vault loses the
// references to the schemas of an external plugin, so they go by their names.
func (s openAPI) body(id string) map[string]schema {
	name := ""
	for word := range strings.SplitSeq(id, "-") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	return s.Components.Schemas[name+"Request"].Properties
}

var verbs = map[string]op{"get": read, "post": update, "patch": patch, "delete": remove}

// examples has paths for each one that OpenAPI lists, and a body that would be
// stored. A path that is new in the engine belongs here.
var examples = map[string]struct {
	paths []string
	body  data
}{
	"config":                  {[]string{"config"}, data{"on_overdue": "kill"}},
	"status":                  {[]string{"status"}, nil},
	"env/{path}":              {[]string{"env/prod/known/Worker"}, nil},
	"env/":                    {[]string{"env"}, nil},
	"env/{path}/":             {[]string{"env/prod/known"}, nil},
	"creds/{path}":            {[]string{"creds/prod/known/Worker"}, nil},
	"explain/{path}":          {[]string{"explain/prod/known/Worker"}, nil},
	"policy/{path}":           {[]string{"policy/prod/known/Worker"}, nil},
	"reveal/{path}":           {[]string{"reveal/prod/org/KNOWN", "reveal/prod/org/known"}, nil},
	"redact/{path}":           {[]string{"redact/prod/known/Worker"}, data{"text": "harmless"}},
	"redact/mount":            {[]string{"redact/mount"}, data{"text": "harmless"}},
	"secrets/{path}":          {[]string{"secrets/prod/org/KNOWN", "secrets/prod/org/NEW"}, data{"value": "harmless"}},
	"secrets/":                {[]string{"secrets"}, nil},
	"secrets/{path}/":         {[]string{"secrets/prod/org"}, nil},
	"groups/{path}":           {[]string{"groups/prod/org/known", "groups/prod/org/new"}, data{"values": data{"NEW": "harmless"}}},
	"groups/":                 {[]string{"groups"}, nil},
	"groups/{path}/":          {[]string{"groups/prod/org"}, nil},
	"data/{path}":             {[]string{"data/prod/org/KNOWN", "data/prod/org/NEW", "data/prod/org/known"}, data{"data": data{"value": "harmless"}}},
	"metadata/{path}":         {[]string{"metadata/prod/org/KNOWN"}, data{"custom_metadata": data{"a": "harmless"}}},
	"metadata/":               {[]string{"metadata"}, nil},
	"metadata/{path}/":        {[]string{"metadata/prod/org"}, nil},
	"scopes/chain/{path}":     {[]string{"scopes/chain/known", "scopes/chain/new"}, data{"agents": []data{{"name": "New"}}}},
	"scopes/chain/":           {[]string{"scopes/chain"}, nil},
	"scopes/chain/{path}/":    {[]string{"scopes/chain"}, nil},
	"scopes/project/{path}":   {[]string{"scopes/project/known", "scopes/project/new"}, data{"chains_allowed": []string{"new"}}},
	"scopes/project/":         {[]string{"scopes/project"}, nil},
	"scopes/project/{path}/":  {[]string{"scopes/project"}, nil},
	"executions/{path}":       {[]string{"executions/prod/known/Worker"}, data{"run": "harmless"}},
	"executions/":             {[]string{"executions"}, nil},
	"executions/{path}/":      {[]string{"executions/prod/known/Worker"}, nil},
	"execution/{id}":          {[]string{"execution/" + noExecution}, nil},
	"execution/{id}/watch":    {[]string{"execution/" + noExecution + "/watch"}, nil},
	"execution/{id}/finish":   {[]string{"execution/" + noExecution + "/finish"}, data{"exit_code": 0}},
	"execution/{id}/finding":  {[]string{"execution/" + noExecution + "/finding"}, data{"name": "HARMLESS"}},
	"execution/{id}/ack":      {[]string{"execution/" + noExecution + "/ack"}, data{"pid": 1}},
	"revoke/secret/{path}":    {[]string{"revoke/secret/prod/org/KNOWN", "revoke/secret/prod/org/known"}, data{"reason": "harmless"}},
	"revoke/execution/{path}": {[]string{"revoke/execution/" + noExecution}, data{"reason": "harmless"}},
	"revoke/run/{path}":       {[]string{"revoke/run/harmless"}, data{"reason": "harmless"}},
	"revoke/agent/{path}":     {[]string{"revoke/agent/prod/known/Worker"}, data{"reason": "harmless"}},
	"revoke/chain/{path}":     {[]string{"revoke/chain/prod/known"}, data{"reason": "harmless"}},
	"revoke/all":              {[]string{"revoke/all"}, data{"reason": "harmless"}},
	"holds/{path}":            {[]string{"holds/" + noIncident}, nil},
	"holds/":                  {[]string{"holds"}, nil},
	"holds/{path}/":           {[]string{"holds"}, nil},
	"incidents/{path}":        {[]string{"incidents/" + noIncident}, nil},
	"incidents/":              {[]string{"incidents"}, nil},
	"incidents/{path}/":       {[]string{"incidents"}, nil},
	"notifiers/{name}":        {[]string{"notifiers/known", "notifiers/new"}, data{"url": "https://hooks.example.com", "template": "slack"}},
	"notifiers/{name}/test":   {[]string{"notifiers/known/test"}, nil},
	"notifiers/{name}/retry":  {[]string{"notifiers/known/retry"}, nil},
	"notifiers/":              {[]string{"notifiers"}, nil},
	"notifiers/{path}/":       {[]string{"notifiers"}, nil},
	"rotate/{path}":           {[]string{"rotate/prod/org/KNOWN"}, data{"value": "harmless"}},
	"rotate/":                 {[]string{"rotate"}, nil},
	"rotate/{path}/":          {[]string{"rotate/prod/org"}, nil},
	"promote/{path}":          {[]string{"promote/prod/org/ROTATING"}, data{"force": true}},
	"abort/{path}":            {[]string{"abort/prod/org/ROTATING"}, data{"reason": "harmless"}},
	"confirm/{path}":          {[]string{"confirm/prod/org/ROTATING"}, data{"reason": "harmless"}},
	"schedules/{path}":        {[]string{"schedules/prod/org/KNOWN", "schedules/prod/org/known"}, data{"rotation_period": "30d"}},
	"schedules/":              {[]string{"schedules"}, nil},
	"schedules/{path}/":       {[]string{"schedules/prod/org"}, nil},
	"rotators/{name}":         {[]string{"rotators/known", "rotators/new"}, data{"type": "password"}},
	"rotators/":               {[]string{"rotators"}, nil},
	"rotators/{path}/":        {[]string{"rotators"}, nil},
}

// Ids that no execution, and no incident, has.
const (
	noExecution = "00000000000000000000000000000000"
	noIncident  = "20300101-120000-00000000"
)

// wrong returns values of every JSON type but the one that a field has. A list
// of strings may be one string, because the vault command sends it so; redact
// may also be a boolean.
func wrong(name string, s schema, secret string) []any {
	const number, fraction = 12345, 1.5
	inList, inObject := []any{secret}, data{"key": secret}
	switch kind := s.Type + " " + s.Format; {
	case name == "redact":
		return []any{nil, number, inObject, []any{number}, []any{inList}}
	case strings.HasPrefix(kind, "array") && name == "agents":
		return []any{nil, true, number, secret, inObject, inList, []any{number}}
	case strings.HasPrefix(kind, "array"):
		return []any{nil, true, number, inObject, []any{number}, []any{inList}, []any{inObject}}
	case kind == "string duration":
		return []any{nil, true, fraction, -number, secret, inList, inObject}
	case strings.HasPrefix(kind, "string"):
		return []any{nil, true, number, inList, inObject}
	case strings.HasPrefix(kind, "integer"):
		return []any{nil, true, fraction, secret, inList, inObject}
	case strings.HasPrefix(kind, "boolean"):
		return []any{nil, number, secret, inList, inObject}
	case strings.HasPrefix(kind, "object"):
		return []any{nil, true, number, secret, inList, data{"KEY": number}, data{"KEY": true}, data{"KEY": inList}, data{"KEY": inObject}}
	}
	return nil
}

// Every operation of every path refuses an unknown field, and every field
// refuses every JSON type but its own, with a sentence that names the field;
// nothing is stored.
func TestWrongFields(t *testing.T) {
	e := newEngine(t)
	e.chain("known", "", "KNOWN")
	e.secret("prod/org/KNOWN", nil)
	e.write("groups/prod/org/known", data{"values": data{"KNOWN": e.value("group")}})
	e.write("scopes/project/known", data{"chains_allowed": []string{"known"}})
	e.write("rotators/known", data{"type": "password"})
	e.write("config", data{"allowed_hosts": []string{"hooks.example.com"}})
	e.write("notifiers/known", data{"url": "https://hooks.example.com", "template": "slack", "events": "secret.expired"})
	e.write("schedules/prod/org/KNOWN", data{"rotation_period": "90d"})
	e.secret("prod/org/ROTATING", nil)
	e.secret("prod/org/ROTATING", nil)
	before := e.stored()
	spec, sensitive, refused := e.openAPI(), map[string]bool{}, 0
	for published, operations := range spec.Paths {
		template := strings.TrimPrefix(published, "/"+e.mount+"/")
		example, ok := examples[template]
		if !ok {
			t.Errorf("%s has no example in this test", template)
		}
		for method, o := range verbs {
			raw, ok := operations[method]
			if !ok {
				continue
			}
			var published operation
			e.must(json.Unmarshal(raw, &published))
			if o == read && strings.HasSuffix(template, "/") {
				o = list
			}
			for _, path := range example.paths {
				unknown := data{"nosuch": "harmless"}
				if o == update || o == patch {
					unknown = with(example.body, "nosuch", e.value("unknown"))
				}
				e.refused(400, "there is no field nosuch", o, path, unknown)
				refused++
				for _, p := range published.Parameters {
					if p.Schema.Type == "integer" {
						e.refusedField(o, path, p.Name, data{p.Name: "many"})
						refused++
					}
				}
				for name, s := range spec.body(published.OperationID) {
					sensitive[name] = s.DisplayAttrs.Sensitive
					values := wrong(name, s, e.value(name))
					if values == nil {
						t.Errorf("%s of %s has the type %q, which this test does not know", name, path, s.Type)
					}
					for _, value := range values {
						if value == nil && o == patch {
							continue // it deletes
						}
						e.refusedField(o, path, name, with(example.body, name, value))
						refused++
					}
				}
			}
		}
	}
	e.same("what is stored", e.stored(), before)
	maps.DeleteFunc(sensitive, func(_ string, yes bool) bool { return !yes })
	e.same("Sensitive fields", slices.Sorted(maps.Keys(sensitive)), []string{
		"access_key_id", "admin_password", "data", "headers", "hmac_secret", "registration_access_token", "routing_key", "secret_access_key", "secret_id", "text", "value", "values",
	})
	t.Logf("%d requests were refused", refused)
}

func with(body data, name string, value any) data {
	changed := data{}
	maps.Copy(changed, body)
	changed[name] = value
	return changed
}

// refusedField sends a field with a wrong value. What pages a list is a field
// of no other operation, although OpenAPI shows it with each.
func (e *engine) refusedField(o op, path, name string, body data) {
	e.Helper()
	want := name
	if (name == "after" || name == "limit") && o != list && o != read {
		want = "there is no field " + name
	}
	e.refused(400, want, o, path, body)
}
