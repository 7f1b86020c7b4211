package redact

import (
	"encoding/base64"
	"encoding/hex"
	"iter"
	"strings"
)

// base64s gives what of the base64 of a text shows v, wherever v begins in the
// text: the characters that hold nothing but v. When v is the end of the text,
// or a newline follows, all characters to the end are known.
func base64s(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for skip := range 3 {
			before, first := make([]byte, skip), (skip*8+5)/6
			texts := []string{base64.RawStdEncoding.EncodeToString(append(before, v...))[first : (skip+len(v))*8/6]}
			for _, end := range []string{"", "\n"} {
				full := base64.StdEncoding.EncodeToString(append(before, v+end...))[first:]
				texts = append(texts, strings.TrimRight(full, "="), full)
			}
			for _, text := range texts {
				if !yield(text) || !yield(strings.NewReplacer("+", "-", "/", "_").Replace(text)) {
					return
				}
			}
		}
	}
}

// hexes gives v in hex.
func hexes(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		digits := hex.EncodeToString([]byte(v))
		_ = yield(digits) && yield(strings.ToUpper(digits))
	}
}

// maxDump is the longest value that dumps are looked for of: each is a form for
// every byte.
const maxDump = 4 << 10

// dumps gives v as tools dump it byte by byte, each eight bytes that follow each
// other, because a dump has short lines.
func dumps(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for at := range max(1, len(v)-gramLen+1) {
			digits := hex.EncodeToString([]byte(v[at:min(at+gramLen, len(v))]))
			upper := strings.ToUpper(digits)
			for _, text := range []string{
				grouped(digits, 2, " "), grouped(digits, 2, ":"), grouped(digits, 2, ", 0x"), grouped(digits, 2, `\x`),
				grouped(upper, 2, " "), grouped(upper, 2, ":"),
				// xxd writes two bytes together; the value may begin at either.
				grouped(digits, 4, " "), digits[:2] + " " + grouped(digits[2:], 4, " "),
			} {
				if !yield(text) {
					return
				}
			}
		}
	}
}

// grouped returns digits with a separator after each group of so many.
func grouped(digits string, size int, separator string) string {
	var b strings.Builder
	for at := 0; at < len(digits); at += size {
		if at > 0 {
			b.WriteString(separator)
		}
		b.WriteString(digits[at:min(at+size, len(digits))])
	}
	return b.String()
}
