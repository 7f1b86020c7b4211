package acceptance

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// door is a path that OpenAPI lists.
type door struct {
	word   string // it begins with
	paths  []string
	body   data // that would be stored
	fields map[string]schema
	names  []string // of the fields, sorted
}

// doors returns all of them, in an order that does not change.
func (e *engine) doors() []door {
	e.Helper()
	spec := e.openAPI()
	var all []door
	for _, published := range slices.Sorted(maps.Keys(spec.Paths)) {
		template := strings.TrimPrefix(published, "/"+e.mount+"/")
		d := door{paths: examples[template].paths, body: examples[template].body, fields: map[string]schema{}}
		d.word, _, _ = strings.Cut(template, "/")
		for _, method := range []string{"post", "patch"} {
			if raw, ok := spec.Paths[published][method]; ok {
				var o operation
				e.must(json.Unmarshal(raw, &o))
				maps.Copy(d.fields, spec.body(o.OperationID))
			}
		}
		d.names = slices.Sorted(maps.Keys(d.fields))
		all = append(all, d)
	}
	return all
}

// base is what makes the doors answer something. It is sent again and again,
// since it does not stay for long.
func (a *attack) base() []request {
	return []request{
		{update, "config", data{"environments": []string{"dev", "prod"}, "allowed_hosts": []string{"127.0.0.1:1"}, "execution_ttl": "60s", "on_overdue": "alert"}},
		{update, "scopes/project/known", data{"chains_allowed": []string{"known", "new"}}},
		{update, "scopes/chain/known", data{"project": "known", "agents": []data{{"name": "Worker", "secrets": []any{"KNOWN", "ROTATING"}, "groups": []string{"known"}}}}},
		{update, "secrets/prod/org/KNOWN", data{"value": a.values[0], "force": true}},
		{update, "secrets/prod/org/ROTATING", data{"value": a.values[1], "force": true}},
		{update, "secrets/prod/org/ROTATING", data{"value": a.values[2], "force": true}},
		{update, "groups/prod/org/known", data{"values": data{"MEMBER": a.values[3], "OTHER": a.values[4]}, "force": true}},
		{update, "rotators/known", data{"type": "password"}},
		{update, "notifiers/known", data{"url": "http://127.0.0.1:1/hook", "hmac_secret": a.values[5], "events": "*"}},
		{update, "schedules/prod/org/KNOWN", data{"rotation_period": "90d", "rotator": "known"}},
		{remove, "revoke/all", nil},
		{remove, "revoke/chain/prod/known", nil},
		{remove, "revoke/agent/prod/known/Worker", nil},
		{remove, "revoke/run/harmless", nil},
	}
}

var methods = map[op]string{read: "GET", list: "LIST", update: "POST", patch: "PATCH", remove: "DELETE"}

func pick[T any](c *attacker, from ...T) T { return from[c.random.IntN(len(from))] }

// one reports true once in n times.
func (c *attacker) one(n int) bool { return c.random.IntN(n) == 0 }

// next makes the next shot. One in three is as it should be, so that there is
// something for the others to break.
func (c *attacker) next() shot {
	if c.one(16) {
		r := pick(c, c.known...)
		return shot{method: methods[r.o], path: r.path, body: encoded(r.body), contentType: "application/json", token: c.tokens[0]}
	}
	d := pick(c, c.doors...)
	s := shot{
		method:      pick(c, "GET", "GET", "LIST", "POST", "POST", "POST", "PUT", "PATCH", "PATCH", "DELETE"),
		contentType: "application/json", token: c.tokens[0], path: c.example(d),
	}
	if s.method == "PATCH" {
		s.contentType = "application/merge-patch+json"
	}
	writes := s.method[0] == 'P'
	if c.one(3) {
		if writes {
			s.body = encoded(c.secret(d))
		}
		return s
	}
	s.path = c.path(d, s.path)
	if writes {
		s.body = c.body(d)
	} else {
		s.query = c.query()
	}
	if c.one(4) {
		s.token = pick(c, c.tokens...)
	}
	if c.one(50) {
		s.method = pick(c, "HEAD", "OPTIONS", "TRACE", "get", "SCAN", "CONNECTION")
	}
	if c.one(50) {
		s.contentType = pick(c, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/merge-patch+json")
	}
	return s
}

// length returns one that is nearly always short.
func (c *attacker) length(most int) int {
	if c.one(10) {
		return c.random.IntN(most)
	}
	return c.random.IntN(50)
}

func encoded(body data) []byte {
	text, _ := json.Marshal(body) // what is made here always encodes
	return text
}

// example returns a path of the door, with an id that there is.
func (c *attacker) example(d door) string {
	path, known, n := pick(c, d.paths...), !c.one(8), c.random.Int()
	if len(c.ids) == 0 || !known {
		return path
	}
	id := c.ids[n%len(c.ids)]
	return strings.NewReplacer(noExecution, id, noIncident, id).Replace(path)
}

// path returns the one given, one of another door behind this one, one of the
// grammar, or something that is none.
func (c *attacker) path(d door, path string) string {
	switch c.random.IntN(8) {
	case 0:
		_, tail, _ := strings.Cut(pick(c, pick(c, c.doors...).paths...), "/")
		path = d.word + "/" + tail
	case 1:
		path = strings.Join([]string{d.word,
			pick(c, "prod", "dev", "all", "staging", "nosuch"),
			pick(c, "org", "project/known", "chain/known", "agent/known/Worker", "known", "known/Worker", "a/b/c/d/e"),
			pick(c, "KNOWN", "NEW", "known", "Worker", "PATH", "LD_PRELOAD", "AGENTCHAINS_X")}, "/")
	case 2:
		for range 1 + c.random.IntN(3) {
			path = c.bend(path)
		}
	}
	return path
}

// bend spoils a path.
func (c *attacker) bend(path string) string {
	at := c.random.IntN(len(path) + 1)
	switch c.random.IntN(4) {
	case 0:
		return path[:at] + pick(c, "..", "/../", "//", "/./", "%2e%2e%2f", "%2f", "%00", "%0a", "%ff", "%C0%AE", "\u00e9", "\u202e", "\U0001f512", "*", "+", "?", ";", "\\", "'", "\"", "{}", "${x}", "%25", "%") + path[at:]
	case 1:
		return path[:at] + strings.Repeat(pick(c, "a", "/", "A/", "\u00e9", "%41"), 1+c.length(3000)) + path[at:]
	case 2:
		return path[:at]
	}
	return path[at:]
}

func (c *attacker) query() string {
	if c.one(2) {
		return ""
	}
	field := pick(c, "list", "after", "limit", "version", "generation", "wait", "force", "id", "help", "value", "%00", "path", "unknown")
	query := field + "=" + pick(c, "true", "false", "0", "1", "-1", "99999999999999999999", "1.5", "harmless", "%00", "", "../..", "%F0%9F%94%92")
	if c.one(8) {
		query += "&" + query
	}
	return query
}

// body returns one that would be stored, or one that is bent.
func (c *attacker) body(d door) []byte {
	if c.one(8) {
		return c.spoil(encoded(d.body)) // no value is in it, which might become a key
	}
	body := c.secret(d)
	for range c.random.IntN(4) {
		if len(d.names) == 0 || c.one(8) {
			name := pick(c, "unknown", "path", "name", "id", strings.Repeat("x", 200), "", "\x00", "\U0001f512")
			body[name] = pick(c, any(c.value()), any(data{"key": c.value()}), nil)
			continue
		}
		name := pick(c, d.names...)
		switch s := d.fields[name]; c.random.IntN(4) {
		case 0:
			delete(body, name)
		case 1:
			body[name] = pick(c, wrong(name, s, c.value())...)
		default:
			body[name] = c.plausible(name, s)
		}
	}
	return encoded(body)
}

// secret returns a body that would be stored, with values where they belong.
func (c *attacker) secret(d door) data {
	body := data{}
	for _, name := range slices.Sorted(maps.Keys(d.body)) {
		body[name] = d.body[name]
		if s := d.fields[name]; s.DisplayAttrs.Sensitive && name != "data" {
			body[name] = c.sensitive(s)
		}
	}
	return body
}

func (c *attacker) value() string { return pick(c, c.values...) }

// sensitive returns a value of a field that may hold one.
func (c *attacker) sensitive(s schema) any {
	value := c.value()
	switch c.random.IntN(12) {
	case 0:
		value += pick(c, "\x00", "\n", "\u202e", "\u00e9", " ")
	case 1:
		value = strings.Repeat(value, 1+c.length(5000))
	case 2:
		value = ""
	}
	if s.Type == "object" {
		return data{pick(c, "KNOWN", "MEMBER", "value", "X-Key", "PATH", "a b"): value}
	}
	return value
}

// plausible returns a value of the field's own type. Only what is sensitive may
// be a secret: the rest is shown to whoever reads it.
func (c *attacker) plausible(name string, s schema) any {
	words := []string{"", "harmless", "known", "KNOWN", "new/*", "*", "prod", "2031-01-01T00:00:00Z", "not a time", "10m", "../..", "a\x00b", "\u202e\u00e9\U0001f512", "https://hooks.example.com/x", "http://127.0.0.1:1/", "file:///etc/passwd", "169.254.169.254", "1 1 * * *", strings.Repeat("long ", 1000)}
	word := pick(c, words...)
	switch kind := s.Type + " " + s.Format; {
	case s.DisplayAttrs.Sensitive:
		return c.sensitive(s)
	case name == "agents":
		return []any{data{"name": word, "secrets": []any{word, data{"name": "KNOWN", "as": word, "optional": true}}, "groups": []any{word}}}
	case kind == "string duration":
		return pick(c, any(0), 1, 3600, 1<<40, "10m", "7d", "999999h", "1e9")
	case strings.HasPrefix(kind, "string"):
		return word
	case strings.HasPrefix(kind, "integer"):
		return pick(c, any(-1), 0, 1, 2, 1<<31, 1<<53, "1")
	case strings.HasPrefix(kind, "boolean"):
		return c.one(2)
	case strings.HasPrefix(kind, "array"):
		return slices.Repeat([]string{word}, c.length(2000))
	}
	return data{word: word, "null": nil}
}

// spoil turns JSON into something that is none, or none that anybody expects.
func (c *attacker) spoil(text []byte) []byte {
	at := c.random.IntN(len(text) + 1)
	switch c.random.IntN(7) {
	case 0:
		return text[:at]
	case 1:
		return slices.Insert(text, at, byte(c.random.IntN(256)))
	case 2:
		return slices.Concat(text[:at], text)
	case 3:
		return []byte(pick(c, "null", "[]", "1", `"x"`, "", "{}{}", "\x00", "\xff\xfe", `{"value":1e999}`, `{"value":"\ud800"}`, `{"value":"a","value":"b"}`, `{"values":{"A":"a","A":null}}`))
	case 4:
		depth := 1 + c.length(20_000)
		return []byte(`{"values":` + strings.Repeat(pick(c, "[", `{"a":`), depth))
	case 5:
		if c.one(20) {
			return fmt.Appendf(nil, `{%q:%q}`, pick(c, "value", "text", "description", "unknown"), strings.Repeat("huge", 1+c.random.IntN(400_000)))
		}
	}
	many := data{}
	for i := range c.length(2000) {
		many[fmt.Sprint("KEY_", i)] = "x"
	}
	return encoded(data{pick(c, "values", "custom_metadata", "unknown", "data"): many})
}
