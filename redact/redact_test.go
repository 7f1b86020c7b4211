package redact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	apiKey   = "Zq3vT8nLw5XcR1kHs9JdM4bPy7FgU2aE"
	password = "hunter2-hunter2"
)

func TestReport(t *testing.T) {
	t.Parallel()
	var secrets []Secret
	for value, reason := range map[string]string{
		"": "empty", " \n": "empty", "a1": "shorter", "x-1": "shorter", "8080": "number", "-1": "shorter", "123456789012": "number",
		"production": "word", "Production": "word", "EUROPE": "word", "us-west-2": "region", "europe-west1": "region", "eu-central-1a": "region",
		"a1\nb2\nc3": "lines",
		"q7w8":       "", "hunter2": "", "correct horse": "", "1234567890123": "", "myDatabase": "", "productionenv": "", "10.0.0.1": "",
	} {
		secrets = append(secrets, Secret{Name: reason, Version: len(secrets), Value: value})
	}
	gaps := NewSet(secrets...).Report()
	for i, s := range secrets {
		at := slices.IndexFunc(gaps, func(g Gap) bool { return g.Version == i })
		switch {
		case at < 0 && s.Name != "":
			t.Errorf("%q is not reported, want %s", s.Value, s.Name)
		case at >= 0 && (s.Name == "" || !strings.Contains(gaps[at].Reason, s.Name)):
			t.Errorf("%q is reported: %s, want %q", s.Value, gaps[at].Reason, s.Name)
		}
		s.Force = true
		forced := NewSet(s)
		if out, _ := forced.String("(" + s.Value + ")"); len(forced.Report()) == 0 && strings.Contains(out, strings.TrimSpace(s.Value)) {
			t.Errorf("forced, %q is left", s.Value)
		}
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	set := NewSet(
		Secret{Name: "KEY", Version: 2, Value: apiKey},
		Secret{Name: "KEY", Version: 3, Value: password},
		Secret{Name: "URL", Version: 1, Value: "postgres://app:" + password + "@db/app"},
		Secret{Name: "PLAIN", Version: 1, Value: "plain-" + apiKey[:10], Plain: true})
	for text, want := range map[string]string{
		"a " + apiKey + " b":      "a [REDACTED:KEY] b [{KEY 2 raw 2 32 true}]",
		"a " + apiKey[3:20]:       "a [REDACTED:KEY] [{KEY 2 fragment 2 17 true}]",
		password + password:       "[REDACTED:KEY,URL][REDACTED:KEY,URL] [{KEY 3 raw 0 15 true} {URL 1 raw 0 15 true} {KEY 3 raw 15 15 true} {URL 1 raw 15 15 true}]",
		"//app:" + password + "@": "//[REDACTED:URL]@ [{URL 1 raw 2 19 true} {KEY 3 raw 2 19 true}]",
		"xaHVudGVyMi1odW50ZXIyx":  "x[REDACTED:KEY,URL]x [{KEY 3 base64 1 20 true} {URL 1 base64 1 20 true}]",
		"plain-Zq3vT8nLw5":        "[REDACTED:PLAIN] [{PLAIN 1 raw 0 16 true}]",
		"cGxhaW4tWnEzdlQ4bkx3NQ":  "cGxhaW4tWnEzdlQ4bkx3NQ []",
	} {
		got, found := set.String(text)
		if got := fmt.Sprint(got, " ", found); got != want {
			t.Errorf("%q\n gives %s\n  want %s", text, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	set := NewSet(
		Secret{Name: "KEY", Version: 1, Value: apiKey},
		Secret{Name: "QUOTED", Version: 1, Value: "a\"b\\c/<d>\u00e9\nf-1"},
		Secret{Name: "PIN", Version: 1, Value: "1234567", Force: true})
	for doc, want := range map[string]string{
		`{"a": "` + apiKey + `", "n": 1.5e3,"t":true}`:             `{"a": "[REDACTED:KEY]", "n": 1.5e3,"t":true}`,
		`{"` + apiKey + `":[null,false , ""]}` + "\n":              `{"[REDACTED:KEY]":[null,false , ""]}` + "\n",
		`["\u005aq3vT8nLw5XcR1kHs9JdM4bPy7FgU2aE \u00e9 \""]`:      `["[REDACTED:KEY] é \""]`,
		`["a\"b\\c\/\u003cd\u003E\u00e9\nf-1"]`:                    `["[REDACTED:QUOTED]"]`,
		`["{\"x\":\"a\\\"b\\\\c/<d>é\\nf-1\"}"]`:                   `["{\"x\":\"[REDACTED:QUOTED]\"}"]`,
		`{"pin":1234567,"other":12345678, "s":"pin 1234567"}`:      `{"pin":"[REDACTED:PIN]","other":12345678, "s":"pin [REDACTED:PIN]"}`,
		`{"a":1}` + "\n" + `{"k":"` + apiKey + `"}` + "\n\n" + `2`: `{"a":1}` + "\n" + `{"k":"[REDACTED:KEY]"}` + "\n\n" + `2`,
		`["` + apiKey[:20] + `","` + apiKey[20:] + `"]`:            `["[REDACTED:KEY]","` + apiKey[20:] + `"]`,
		"[\"\xff" + apiKey + "\"]":                                 `["\ufffd[REDACTED:KEY]"]`,
		`"é\u2028<&>"`:                                             `"é\u2028<&>"`,
		``:                                                         ``,
	} {
		got, found, err := set.JSON([]byte(doc))
		if err != nil || string(got) != want {
			t.Errorf("%s\n gives %s, %v\n  want %s", doc, got, err, want)
			continue
		}
		for d := json.NewDecoder(bytes.NewReader(got)); ; {
			var v any
			if err := d.Decode(&v); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s is no JSON: %v", got, err)
			}
		}
		for _, f := range found {
			if token := doc[f.Offset:][:f.Length]; !strings.HasPrefix(token, `"`) && token != "1234567" {
				t.Errorf("in %s, the finding is at %s", doc, token)
			}
		}
		if changed := doc != want; changed != (len(found) > 0) {
			t.Errorf("%s: %v", doc, found)
		}
	}
	for _, doc := range []string{`{`, `{"a":1}}`, apiKey, `{"a" "b"}`, `"`} {
		if _, _, err := set.JSON([]byte(doc)); err == nil || strings.Contains(err.Error(), apiKey) {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

func TestFlush(t *testing.T) {
	t.Parallel()
	set := NewSet(Secret{Name: "KEY", Version: 1, Value: apiKey}, Secret{Name: "B", Version: 1, Value: apiKey[30:] + " and what comes after it"})
	for _, v := range []struct {
		strict bool
		writes []string // each is flushed
		want   []string
	}{
		{false, []string{"a Z", "q3vT8nLw5XcR1kHs9!"}, []string{"a Z", "[REDACTED:KEY]!"}},
		{true, []string{"a Z", "q3vT8nLw5XcR1kHs9!"}, []string{"a ", "[REDACTED:KEY]!"}},
		{false, []string{"a Z", "z"}, []string{"a Z", "z"}},
		{false, []string{"a Zq", "3vT8!"}, []string{"a Zq", "3vT8!"}},
		{false, []string{"a Zq3", "vT8!"}, []string{"a ", "Zq3vT8!"}},
		{false, []string{"a Z", "q", "3", "vT8!"}, []string{"a Z", "q", "", "3vT8!"}},
		{false, []string{"a " + apiKey[:20], apiKey[20:31], "!"}, []string{"a ", "", "[REDACTED:KEY]!"}},
		{false, []string{"a " + apiKey, " and what comes after it", "!"}, []string{"a [REDACTED:KEY]", "", "!"}},
		{true, []string{"a " + apiKey, " and what comes after it", "!"}, []string{"a ", "", "[REDACTED:KEY]!"}},
		{false, []string{"a " + apiKey, " and not", "!"}, []string{"a [REDACTED:KEY]", " and not", "!"}},
	} {
		var out bytes.Buffer
		w := NewWriter(&out, set, Options{Strict: v.strict})
		for i, write := range v.writes {
			_, err := io.WriteString(w, write)
			if err = errors.Join(err, w.Flush()); err != nil || out.String() != v.want[i] {
				t.Errorf("%q, strict %v: write %d gives %q, %v, want %q", v.writes, v.strict, i, &out, err, v.want[i])
			}
			out.Reset()
		}
	}
}

// TestUpdate changes the set between the halves of values.
func TestUpdate(t *testing.T) {
	t.Parallel()
	set := NewSet(Secret{Name: "KEY", Version: 1, Value: password})
	var out bytes.Buffer
	w := NewWriter(&out, set, Options{})
	write := func(s string) {
		if _, err := io.WriteString(w, s); err != nil {
			t.Fatal(err)
		}
	}
	write("old " + password[:9])
	set.Update(Secret{Name: "KEY", Version: 1, Value: password}, Secret{Name: "KEY", Version: 2, Value: apiKey})
	write(password[9:] + " new " + apiKey[:9])
	set.Update(Secret{Name: "KEY", Version: 2, Value: apiKey})
	write(apiKey[9:] + " old " + password + " held hun")
	set.Update()
	write("ter2")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if want := "old [REDACTED:KEY] new [REDACTED:KEY] old " + password + " held hunter2"; out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	both := []Secret{{Name: "KEY", Version: 1, Value: password}, {Name: "KEY", Version: 2, Value: apiKey}}
	set := NewSet(both...)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				if got, _ := set.String("a " + apiKey); got != "a [REDACTED:KEY]" {
					t.Error(got)
				}
				if i%10 == 0 {
					set.Update(both[i/10%2], both[1])
				}
			}
		})
	}
	wg.Wait()
}

// broken fails after so many bytes.
type broken struct{ left int }

var errBroken = errors.New("broken")

func (b *broken) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestError(t *testing.T) {
	t.Parallel()
	w := NewWriter(&broken{10}, NewSet(Secret{Name: "KEY", Value: password}), Options{})
	if _, err := io.WriteString(w, "ten bytes."); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := io.WriteString(w, "more "); !errors.Is(err, errBroken) {
			t.Error(err)
		}
	}
	if err := errors.Join(w.Flush(), w.Close()); !errors.Is(err, errBroken) {
		t.Error(err)
	}
}

// TestPrinting prints what holds values.
func TestPrinting(t *testing.T) {
	t.Parallel()
	s := Secret{Name: "KEY", Version: 1, Value: password}
	set := NewSet(s)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "set", set)
	asJSON, err := json.Marshal([]any{s, &s, set})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if got := fmt.Sprintf(format, []any{s, &s, []Secret{s}, set}) + log.String() + string(asJSON); strings.Contains(got, password) || strings.Contains(got, fmt.Sprintf("%x", password)) {
			t.Errorf("%s prints the value", format)
		}
	}
}

func TestAllocations(t *testing.T) {
	set := NewSet(Secret{Name: "KEY", Version: 1, Value: apiKey}, Secret{Name: "B", Version: 1, Value: "q7w8"})
	text := append(lines(4000), "a "+apiKey+" b\x1b[31m q7w8\x1b[0m\n"...)
	found := 0
	w := NewWriter(io.Discard, set, Options{OnFinding: func(Finding) { found++ }})
	for _, chunk := range []int{64, 1000, len(text)} {
		write := func() {
			for at := 0; at < len(text); at += chunk {
				_, _ = w.Write(text[at:min(at+chunk, len(text))])
			}
		}
		write()
		if n := testing.AllocsPerRun(20, write); n != 0 {
			t.Errorf("%v allocations in chunks of %d", n, chunk)
		}
	}
	if found == 0 {
		t.Error("nothing was found")
	}
}

// TestMemory compiles 100,000 values into less than 64 MB.
func TestMemory(t *testing.T) {
	list := tokens(100_000, true)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	set := NewSet(list...)
	if grown := heap() - before; grown > 64<<20 {
		t.Errorf("the set takes %d bytes", grown)
	}
	if got, _ := set.String(list[77_777].Value); got != "[REDACTED:TOKEN_77777]" {
		t.Error(got)
	}
	runtime.KeepAlive(list)
}

// TestTypewriter writes a byte at a time, with a Flush after each: next to nothing
// of a value gets out.
func TestTypewriter(t *testing.T) {
	t.Parallel()
	for _, value := range []string{apiKey, password, "postgres://app:" + password + "@db/app", "correct horse battery staple and more", "q7w8e9r0"} {
		set := NewSet(Secret{Name: "KEY", Value: value})
		set.FindFormats(Precise)
		for _, text := range []string{value, value[:4] + "\x1b[m" + value[4:], "ghp_" + apiKey + "1234", "https://x:Zq3vT8nLw5Xc@host/", "AKIAQ7W2E5R6T3Y2U4I7"} {
			for _, step := range []int{1, 2, 3, 5} {
				got := typed(t, set, " "+text+" ", step)
				left := strings.NewReplacer("\x1b[m", "", "[REDACTED:KEY]", "", "[REDACTED:github-pat]", "", "[REDACTED:url-password]", "",
					"[REDACTED:aws-access-token]", "", "https://x:", "", "@host/", "").Replace(got)
				if most := max(5, 3+len("ghp_")); len(left)-2 > most || !strings.Contains(got, "[REDACTED:") {
					t.Errorf("%d bytes at a time, %q gives %q", step, text, got)
				}
			}
		}
	}
}

// TestPrompts shows what shows nothing as soon as there is a pause.
func TestPrompts(t *testing.T) {
	t.Parallel()
	set := NewSet(Secret{Name: "KEY", Value: apiKey}, Secret{Name: "PASSWORD", Value: "name-of-my-first-pet"})
	set.FindFormats(Precise)
	for _, prompt := range []string{"na", "user na\x1b[0m", "http://localhost:3000", "\x1b[1mZq\x1b[K\x1b[12;6H", "see https://", "ghp_", "sk"} {
		var out bytes.Buffer
		w := NewWriter(&out, set, Options{})
		_, _ = w.Write([]byte(prompt))
		if err := w.Flush(); err != nil || out.String() != prompt {
			t.Errorf("of %q, %q is shown: %v", prompt, out.String(), err)
		}
	}
}

func typed(t *testing.T, set *Set, text string, step int) string {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, set, Options{})
	for ; text != ""; text = text[min(step, len(text)):] {
		_, _ = w.Write([]byte(text[:min(step, len(text))]))
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
