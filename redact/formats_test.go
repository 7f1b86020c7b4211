package redact

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// sample makes a key of a format. With most, runs are as long as they may be, up to 300.
func (f *format) sample(random *rand.Rand, most bool) string {
	for {
		var b strings.Builder
		b.WriteString(f.prefix)
		for _, s := range f.steps {
			var letters []byte
			for i := 0; i < len(s.class); i += 2 {
				for c := s.class[i]; c <= s.class[i+1]; c++ {
					letters = append(letters, c)
				}
			}
			n := s.min
			if most {
				n = min(s.max, max(s.min, 300))
			}
			for range n {
				b.WriteByte(letters[random.IntN(len(letters))])
			}
		}
		if key := b.String(); entropy([]byte(key)) > f.entropy && !matchAny(expressions(innocent[f.name])(), []byte(key)) {
			return key
		}
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	set := NewSet(Secret{Name: "KEY", Version: 1, Value: apiKey})
	set.FindFormats(Precise)
	random := rand.New(rand.NewPCG(5, 6))
	for _, f := range slices.Concat(formats[:], ownFormats()) {
		for n := range 4 {
			key := f.sample(random, n%2 == 0)
			text := "a=" + key + "\n" + key + " \x1b[1m" + key + "\x1b[m x" + key
			var cuts []int
			for at := 1 + random.IntN(9); at < len(text); at += 1 + random.IntN(9) {
				cuts = append(cuts, at)
			}
			whole, _ := run(set, text)
			parts, found := run(set, text, cuts...)
			times := 3
			if !isWord(f.prefix[0]) {
				times = 4 // also within a word
			}
			if got := strings.Count(whole, "[REDACTED:"+f.name+"]"); got != times {
				t.Errorf("%s: %.300q gives %.300q, want it %d times", f.name, text, whole, times)
			}
			if parts != whole {
				t.Errorf("%s cut at %d\n gives %.300q\n  want %.300q", f.name, cuts, parts, whole)
			}
			if len(found) < 3 || found[0].Encoding != "format" {
				t.Errorf("%+v", found)
			}
		}
	}
}

// TestPrivateKey finds a key that no set holds, also within JSON and cut off.
func TestPrivateKey(t *testing.T) {
	t.Parallel()
	set := NewSet()
	set.FindFormats(Precise)
	line := "\n" + strings.Repeat("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ", 1) + "abcdefghijklmn"
	body := strings.Repeat(line, 12)
	for text, want := range map[string]string{
		"a -----BEGIN PRIVATE KEY-----" + body + "\n-----END PRIVATE KEY-----\nb":                                              "a [REDACTED:private-key]\n-----END PRIVATE KEY-----\nb",
		"-----BEGIN OPENSSH PRIVATE KEY-----" + body:                                                                           "[REDACTED:private-key]",
		`{"k":"-----BEGIN RSA PRIVATE KEY-----` + strings.ReplaceAll(body, "\n", `\n`) + `\n-----END RSA PRIVATE KEY-----\n"}`: `{"k":"[REDACTED:private-key]-----END RSA PRIVATE KEY-----\n"}`,
		"-----BEGIN CERTIFICATE-----" + body:                                                                                   "-----BEGIN CERTIFICATE-----" + body,
	} {
		for step := range 3 {
			var cuts []int
			for at := 1 + step; at < len(text); at += 1 + 30*step {
				cuts = append(cuts, at)
			}
			if got, _ := run(set, text, cuts...); got != want {
				t.Errorf("%.60q, step %d, gives %q", text, step, got)
			}
		}
	}
}

// TestNoFormats leaves what only resembles a key.
func TestNoFormats(t *testing.T) {
	t.Parallel()
	set := NewSet()
	set.FindFormats(Precise)
	text := string(lines(1<<20)) + strings.Join([]string{
		"ghp_", "ghp_short", "ghp_" + strings.Repeat("a", 36), "xghp_" + apiKey + "abcd", "ghp_" + apiKey + "abcde",
		"AKIA", "AKIAAAAAAAAAAAAAAAAA", "hf_", "sk-", "glpat-", "-----BEGIN CERTIFICATE-----", "123e4567-e89b-12d3-a456-426614174000",
	}, "\n")
	if got, found := set.String(text); got != text {
		t.Errorf("%+v", found)
	}
	set.Update(Secret{Name: "KEY", Version: 1, Value: apiKey})
	if got, _ := set.String("ghp_" + apiKey + "abcd, " + apiKey); got != "[REDACTED:github-pat], [REDACTED:KEY]" {
		t.Error(got)
	}
}
