package redact

import (
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// variant is a text that shows a value, or the part of it that is secret.
type variant struct {
	encoding encoding
	text     string
	random   bool // pieces of it show the value too
	tail     int  // without its first bytes it is found when so much is left
}

// variants returns the texts that show a secret, each once, the plainest first.
func variants(s Secret) []variant {
	value := strings.TrimSpace(s.Value)
	if s.Plain {
		return []variant{{encoding: raw, text: value}}
	}
	var (
		list []variant
		seen = map[string]bool{}
	)
	add := func(v variant) {
		if v.text != "" && !seen[v.text] && (v.encoding == raw || len(v.text) >= gramLen) {
			seen[v.text] = true
			list = append(list, v)
		}
	}
	for i, part := range append([]string{value}, parts(value)...) {
		if i > 0 && unfit(Secret{Value: part}) != "" {
			continue
		}
		pieces := random(part)
		add(variant{raw, part, pieces, minFragment})
		for e := raw + 1; e < fragment; e++ {
			if e == dump && len(value) > maxDump {
				continue
			}
			core := ""
			for text := range encoders[e](part) {
				// Sixteen characters of a form that writes many for a byte show too
				// little. A form that contains another has its pieces.
				own := e != dump && len(text) <= 2*len(part) && (core == "" || !strings.Contains(text, core))
				if core == "" {
					core = text
				}
				v := variant{e, text, pieces && own, 0}
				switch {
				case own && (e == inBase64 || e == inHex):
					v.tail = gramLen
				case own:
					v.tail = minFragment
				}
				add(v)
			}
		}
	}
	return list
}

// parts returns what is secret by itself within a value: the password of a URL
// and the pair that Basic authentication sends, what is named a password or the
// like, what looks random in JSON, and the long lines.
func parts(value string) []string {
	var found []string
	if u, err := url.Parse(value); err == nil && u.User != nil {
		if password, ok := u.User.Password(); ok {
			written, _, _ := strings.Cut(u.User.String(), ":")
			_, escaped, _ := strings.Cut(value, "://"+written+":")
			escaped, _, _ = strings.Cut(escaped, "@")
			found = append(found, password, escaped, u.User.Username()+":"+password)
		}
	}
	for _, m := range named.FindAllStringSubmatch(value, -1) {
		found = append(found, m[1])
	}
	var document any
	if value[:1] == "{" || value[:1] == "[" {
		if json.Unmarshal([]byte(value), &document) == nil {
			found = append(found, leaves("", document)...)
		}
	}
	if lines := strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == '\r' }); len(lines) > 1 {
		for _, line := range lines {
			if line = strings.TrimSpace(line); len(line) >= minFragment && random(line) {
				found = append(found, line)
			}
		}
	}
	return found
}

var (
	named  = regexp.MustCompile(`(?i)(?:password|passwd|pwd|secret|token|key)\s*[=:]\s*["']?([^\s;&"',]+)`)
	hidden = regexp.MustCompile(`(?i)pass|pwd|secret|token|key|credential`)
)

// leaves returns the strings of a JSON document that look random, or whose name
// says that they are secret.
func leaves(name string, document any) []string {
	var found []string
	switch d := document.(type) {
	case string:
		if d = strings.TrimSpace(d); len(d) >= minFragment && random(d) || len(d) >= gramLen && hidden.MatchString(name) {
			found = append(found, d)
			found = append(found, parts(d)...)
		}
	case []any:
		for _, e := range d {
			found = append(found, leaves(name, e)...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(d)) {
			found = append(found, leaves(key, d[key])...)
		}
	}
	return found
}
