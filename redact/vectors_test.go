package redact

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// secretsOf names values A, B, …
func secretsOf(values ...string) []Secret {
	var list []Secret
	for i, v := range values {
		list = append(list, Secret{Name: string(rune('A' + i)), Version: 1, Value: v})
	}
	return list
}

// TestVectors are inputs on which other redactors leak, reorder or lose text.
func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		why     string
		secrets []string
		writes  []string
		want    string
	}{
		{"a match begins again within a failed one", []string{"abcabcab9"}, []string{"abcabc", "abcab9!"}, "abc[REDACTED:A]!"},
		{"a run before the value", []string{"AAB123456"}, []string{"A", "A", "A", "B123456"}, "A[REDACTED:A]"},
		{"a run before the value, at once", []string{"AAB123456"}, []string{"AAAB123456"}, "A[REDACTED:A]"},
		{"a value within a failed one", []string{"abcX-9999", "bcd1-2399"}, []string{"abcd1-2399!"}, "a[REDACTED:B]!"},
		{"two that overlap", []string{"abcdefgh-1", "gh-1-ijklmn"}, []string{"abcdefgh-1-ijklmn!"}, "[REDACTED:B]!"},
		{"one that goes on, the shorter first", []string{"token-abc", "token-abc-EXTRA"}, []string{"token-abc-EXTRA token-abc-EX"}, "[REDACTED:B] [REDACTED:A]-EX"},
		{"one that goes on, the longer first", []string{"token-abc-EXTRA", "token-abc"}, []string{"token-abc-EXTRA token-abc-EX"}, "[REDACTED:A] [REDACTED:B]-EX"},
		{"the shorter one ends a write", []string{"token-abc", "token-abc-EXTRA"}, []string{"token-abc", "-EXTRA"}, "[REDACTED:B]"},
		{"a finished match before the beginning of another", []string{"password-abcd", "cdef-other-secret"}, []string{"x password-abcd", "\n"}, "x [REDACTED:A]\n"},
		{"UTF-8 cut by a write", []string{"some-secret"}, []string{"\xd0", "\xbf\xd1", "\x80"}, "\u043f\u0440"},
		{"not UTF-8", []string{"some-secret"}, []string{"\xff\xfe some-secret \xff\nsome-secret"}, "\xff\xfe [REDACTED:A] \xff\n[REDACTED:A]"},
		{"no newline at the end", []string{"some-secret"}, []string{"a\nsome-secret"}, "a\n[REDACTED:A]"},
		{"an empty line in a value", []string{"first line of it\n\nsecond line of it"}, []string{"a b\n\nc first line of it\n\nsecond line of it"}, "a b\n\nc [REDACTED:A]"},
		{"JSON as a value", []string{`{"id": 1, "list": ["a", "b"]}`}, []string{`{ } [ ] {"id": 2}`}, `{ } [ ] {"id": 2}`},
		{"a header that other keys have", []string{"-----BEGIN KEY-----\nZq3vT8nLw5XcR1kHs9JdM4bPy7FgU2aE\n-----END KEY-----"},
			[]string{"-----BEGIN KEY-----\nother\n-----END KEY-----"}, "-----BEGIN KEY-----\nother\n-----END KEY-----"},
		{"colours within a value", []string{"hunter2-hunter2"}, []string{"\x1b[1mhunter\x1b[31m2-\x1b[0mhunter2\x1b[0m"}, "\x1b[1m[REDACTED:A]\x1b[0m"},
		{"a link of a terminal", []string{"hunter2-hunter2"}, []string{"\x1b]8;;https://h/?k=hunter2-hunter2\x1b\\here"}, "\x1b]8;;https://h/?k=[REDACTED:A]\x1b\\here"},
		{"what looks like a sequence begins a value", []string{"[31mabcdef"}, []string{"\x1b[31mabcdef"}, "\x1b[REDACTED:A]"},
		{"a terminal breaks the line", []string{"hunter2-hunter2"}, []string{"see hunter2-h\r\n", "unter2"}, "see [REDACTED:A]"},
		{"our own marker", []string{"REDACTED:A"}, []string{"[REDACTED:A]"}, "[[REDACTED:A]]"},
		{"the same value twice", []string{"hunter2-hunter2", "hunter2-hunter2"}, []string{"hunter2-hunter2"}, "[REDACTED:A,B]"},
		{"one next to the other", []string{"hunter2-", "-3retnuh"}, []string{"hunter2--3retnuhhunter2-"}, "[REDACTED:A][REDACTED:B][REDACTED:A]"},
		{"short values within words", []string{"s3cr", "t0p"}, []string{"s3cr s3cret as3cr _s3cr (s3cr) t0p"}, "[REDACTED:A] s3cret as3cr _s3cr ([REDACTED:A]) t0p"},
		{"the first 20 and the last 16 of a random value", []string{"Zq3vT8nLw5XcR1kHs9JdM4bPy7FgU2aE"},
			[]string{"Zq3vT8nLw5XcR1kHs9Jd… …s9JdM4bPy7FgU2aE …JdM4bPy7FgU2aE"}, "[REDACTED:A]… …[REDACTED:A] …JdM4bPy7FgU2aE"},
	} {
		t.Run(v.why, func(t *testing.T) {
			t.Parallel()
			secrets := secretsOf(v.secrets...)
			var cuts []int
			for _, write := range v.writes[:len(v.writes)-1] {
				cuts = append(cuts, len(write)+slices.Max(append(cuts, 0)))
			}
			text := strings.Join(v.writes, "")
			if got, _ := run(NewSet(secrets...), text, cuts...); got != v.want {
				t.Errorf("%q gives %q, want %q", v.writes, got, v.want)
			}
			var each []int
			for at := 1; at < len(text); at++ {
				each = append(each, at)
			}
			agree(t, secrets, text, each)
		})
	}
}

// TestBase64 finds a value that anything stands before and behind, in lines of
// any length.
func TestBase64(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"correct horse battery staple", "abcdefgh-ijklmn", "abcdefgh-ijklmno"} {
		set := NewSet(secretsOf(value)...)
		for before := range 60 {
			for _, behind := range []string{"", "\n", "x", "xy"} {
				code := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("-", before) + value + behind))
				for _, width := range []int{1000, 76, 64} {
					var lines []string
					for rest := code; rest != ""; rest = rest[min(width, len(rest)):] {
						lines = append(lines, rest[:min(width, len(rest))])
					}
					got, _ := set.String(strings.Join(lines, "\n"))
					// A character holds bits of two bytes at both ends, and what stands
					// before the first break may be seven characters.
					known := strings.ReplaceAll(strings.ReplaceAll(got, "[REDACTED:A]", ""), "\n", "")
					if most := (before+len(behind))*4/3 + 4 + 2 + 7; len(known) > most || !strings.Contains(got, "[REDACTED:A]") {
						t.Fatalf("%d bytes before %q, %q behind, lines of %d: %s", before, value, behind, width, got)
					}
				}
			}
		}
	}
}

// TestLatency says what comes out of a Write at once.
func TestLatency(t *testing.T) {
	t.Parallel()
	set := NewSet(secretsOf("Zq3vT8nLw5XcR1kHs9JdM4bPy7FgU2aE", "postgres://app:hunter2-x@db:5432/app", "q7w8")...)
	for _, at := range []string{"Password: ", "$ ", "Continue? [y/N] ", "done.\n", "Zq3vT8n\n", "100%\r", "\x1b[32m?\x1b[0m ", "login postgre ", "q7w8\n", "Zq3vT8nLw5XcR1kHs9JdM4bPy7FgU2aE\n"} {
		var out bytes.Buffer
		w := NewWriter(&out, set, Options{})
		if _, err := w.Write([]byte(at)); err != nil {
			t.Fatal(err)
		}
		early := out.String()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if early != out.String() {
			t.Errorf("of %q, %q came at once", at, early)
		}
	}
}

// TestHoldBack says what is held back at most.
func TestHoldBack(t *testing.T) {
	t.Parallel()
	set := NewSet(secretsOf("hunter2-hunter2", strings.Repeat("long value ", 5000))...)
	for _, text := range []string{
		strings.Repeat("long value ", 6000),
		"hunter2-" + strings.Repeat("\n", 40_000),
		"hunter2-" + strings.Repeat("\x1b[m", 20_000),
		"\x1b]" + strings.Repeat("hunter2-", 5_000),
		"hunter2-\x1b[" + strings.Repeat("1;", 20_000),
	} {
		for _, chunk := range []int{1000, 1 << 20} {
			var out bytes.Buffer
			w := NewWriter(&out, set, Options{})
			for rest := text; rest != ""; rest = rest[min(chunk, len(rest)):] {
				if _, err := w.Write([]byte(rest[:min(chunk, len(rest))])); err != nil {
					t.Fatal(err)
				}
				if held := len(w.buf); held > maxSpan {
					t.Fatalf("%.20q…: %d bytes are held back", text, held)
				}
			}
		}
	}
}

// TestLongValue finds a value that is longer than a form, wherever it is cut.
func TestLongValue(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 700 {
		fmt.Fprintf(&b, "line %d of the value\n", i)
	}
	set := NewSet(secretsOf(b.String())...)
	text := "before " + b.String() + "behind"
	for _, chunk := range []int{1, 77, 1024, 1 << 20} {
		var cuts []int
		for at := chunk; at < len(text); at += chunk {
			cuts = append(cuts, at)
		}
		if got, found := run(set, text, cuts...); got != "before [REDACTED:A]\nbehind" || len(found) != 1 {
			t.Fatalf("in chunks of %d: %d findings, %.100q", chunk, len(found), got)
		}
	}
}
