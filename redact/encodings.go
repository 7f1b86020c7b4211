package redact

import (
	"encoding/json"
	"fmt"
	"html"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// encoding is a way in which programs write a value.
type encoding uint8

const (
	raw encoding = iota
	asJSON
	percent
	asXML
	shell
	golang
	python
	quoted
	inBase64
	inHex
	dump
	fragment
	byFormat
)

func (e encoding) String() string {
	return [...]string{"raw", "json", "percent", "xml", "shell", "go", "python", "quoted", "base64", "hex", "dump", "fragment", "format"}[e]
}

// encoders give the texts that show a value, without the quotes around it.
var encoders = map[encoding]func(string) iter.Seq[string]{
	asJSON: jsons, percent: percents, asXML: xmls, shell: shells, golang: literals,
	python: pythons, quoted: doubles, inBase64: base64s, inHex: hexes, dump: dumps,
}

// jsons gives what writers of JSON make of v. They agree on quotes and control
// characters only: some escape <, > and &, some the slash, some all that is not
// ASCII. The last are JSON within JSON.
func jsons(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		full, err := json.Marshal(v)
		if err != nil {
			return
		}
		web := string(full[1 : len(full)-1])
		least := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&", `\u2028`, "\u2028", `\u2029`, "\u2029").Replace(web)
		ascii := escapeRunes(least, "%04x")
		for _, s := range []string{
			least, web, ascii, escapeRunes(least, "%04X"),
			strings.ReplaceAll(least, "/", `\/`), strings.ReplaceAll(ascii, "/", `\/`), strings.ReplaceAll(web, "/", `\/`),
			strings.NewReplacer("<", `\u003C`, ">", `\u003E`, "&", `\u0026`, "'", `\u0027`, "+", `\u002B`).Replace(escapeRunes(least, "%04X")),
		} {
			again := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
			if !yield(s) || !yield(again) {
				return
			}
		}
	}
}

// escapeRunes writes what is not ASCII as \u and four digits.
func escapeRunes(s, format string) string {
	var b strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u`+format, unit)
		}
	}
	return b.String()
}

// percents gives v as it stands in URLs and forms.
func percents(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~"
		for _, plain := range []string{
			letters,                        // RFC 3986, all but the unreserved
			letters[:len(letters)-1] + "*", // forms in browsers
			letters + "/",                  // Python's quote, curl
			letters + "!'()*",              // encodeURIComponent
			letters + "$&+=:@",             // Go's path segments
			letters + "!#$&'()*+,/:;=?@",   // encodeURI
			letters + "!$&'()*+,;=",        // userinfo
		} {
			for _, digits := range []string{"0123456789ABCDEF", "0123456789abcdef"} {
				var b strings.Builder
				for i := range len(v) {
					if strings.IndexByte(plain, v[i]) >= 0 {
						b.WriteByte(v[i])
					} else {
						b.WriteString("%" + digits[v[i]>>4:][:1] + digits[v[i]&15:][:1])
					}
				}
				if !yield(b.String()) || !yield(strings.ReplaceAll(b.String(), "%20", "+")) {
					return
				}
			}
		}
		yield(url.QueryEscape(v))
	}
}

// xmls gives v as text or an attribute of XML and HTML.
func xmls(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		least := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(v)
		for _, s := range []string{
			least,
			strings.ReplaceAll(least, `"`, "&quot;"),
			strings.NewReplacer(`"`, "&quot;", "'", "&apos;").Replace(least),
			strings.NewReplacer(`"`, "&quot;", "'", "&#39;").Replace(least),
			strings.NewReplacer(`"`, "&quot;", "'", "&#x27;").Replace(least),
			strings.NewReplacer(`"`, "&quot;", "'", "&#x27;", "/", "&#x2F;", "`", "&#x60;", "=", "&#x3D;").Replace(least),
			html.EscapeString(v),
			strings.NewReplacer(`"`, "&#34;", "'", "&#39;", "\n", "&#xA;", "\r", "&#xD;", "\t", "&#x9;").Replace(least),
			strings.NewReplacer(`"`, "&quot;", "\n", "&#10;", "\r", "&#13;", "\t", "&#9;").Replace(least),
		} {
			if !yield(s) {
				return
			}
		}
	}
}

// shells gives v as shells write it: in single quotes, in double quotes, with
// backslashes as printf %q does, and as $'…'.
func shells(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		backslash := func(special string) string {
			var b strings.Builder
			for i := range len(v) {
				if strings.IndexByte(special, v[i]) >= 0 {
					b.WriteByte('\\')
				}
				b.WriteByte(v[i])
			}
			return b.String()
		}
		const double, bash = "\"\\$`", " \t!\"$&'()*,;<>?[\\]^`{|}"
		for _, s := range []string{
			strings.ReplaceAll(v, "'", `'\''`),
			strings.ReplaceAll(v, "'", `'"'"'`),
			backslash(double),
			backslash(double + "!"),
			backslash(bash),
			backslash(bash + "#~"),
			backslash(bash + "#~=%:@+/"),
			strings.ReplaceAll(v, "$", "$$"),
			ansiC(v, strconv.IsPrint),
			ansiC(v, func(r rune) bool { return r >= ' ' && r <= '~' }),
		} {
			if !yield(s) {
				return
			}
		}
	}
}

// ansiC gives v as it stands in $'…': bash writes what it cannot print in octal.
func ansiC(v string, printable func(rune) bool) string {
	var b strings.Builder
	for i := 0; i < len(v); {
		r, n := utf8.DecodeRuneInString(v[i:])
		switch at := strings.IndexByte("\a\b\t\n\v\f\r\x1b", v[i]); {
		case at >= 0:
			b.WriteString(`\` + "abtnvfrE"[at:at+1])
		case v[i] == '\'' || v[i] == '\\':
			b.WriteString(`\` + v[i:i+1])
		case r == utf8.RuneError && n == 1 || !printable(r):
			for k := range n {
				fmt.Fprintf(&b, `\%03o`, v[i+k])
			}
		default:
			b.WriteString(v[i : i+n])
		}
		i += n
	}
	return b.String()
}

// literals gives v as Go writes it with %q and %+q.
func literals(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, q := range []string{strconv.Quote(v), strconv.QuoteToASCII(v)} {
			if !yield(q[1 : len(q)-1]) {
				return
			}
		}
	}
}

// pythons gives v as Python's repr writes it, as text and as bytes, and ascii.
func pythons(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		repr := func(bytes, ascii bool) string {
			quotes := strings.Contains(v, "'") && !strings.Contains(v, `"`)
			var b strings.Builder
			for i := 0; i < len(v); {
				r, n := utf8.DecodeRuneInString(v[i:])
				if bytes || r == utf8.RuneError {
					n = 1
				}
				switch at := strings.IndexByte("\t\n\r\\", v[i]); {
				case at >= 0:
					b.WriteString(`\` + `tnr\`[at:at+1])
				case v[i] == '\'' && !quotes:
					b.WriteString(`\'`)
				case v[i] < 0x20 || v[i] == 0x7f || v[i] >= utf8.RuneSelf && n == 1:
					fmt.Fprintf(&b, `\x%02x`, v[i])
				case ascii && r >= utf8.RuneSelf:
					switch {
					case r <= 0xff:
						fmt.Fprintf(&b, `\x%02x`, r)
					case r <= 0xffff:
						fmt.Fprintf(&b, `\u%04x`, r)
					default:
						fmt.Fprintf(&b, `\U%08x`, r)
					}
				default:
					b.WriteString(v[i : i+n])
				}
				i += n
			}
			return b.String()
		}
		_ = yield(repr(false, false)) && yield(repr(true, false)) && yield(repr(false, true))
	}
}

// doubles gives v with its quotes doubled, as SQL, YAML, CSV and PowerShell have
// it, or its backslashes, as Node.js prints strings in lists.
func doubles(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, s := range []string{
			strings.ReplaceAll(v, "'", "''"),
			strings.ReplaceAll(v, `"`, `""`),
			strings.ReplaceAll(v, `\`, `\\`),
			strings.NewReplacer(`\`, `\\`, "`", "\\`", "${", `\${`).Replace(v),
		} {
			if !yield(s) {
				return
			}
		}
	}
}
