package redact

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// reportedKeys are texts with a key that what stands around it tells, and the rule.
var reportedKeys = []struct{ text, key, rule string }{
	{"DATADOG_API_KEY=%s\n", "0ab8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0", "datadog-access-token"},
	{"heroku_api_key: \"%s\"\n", "12345678-ABCD-EF01-2345-6789abcdef01", "heroku-api-key"},
	{"my_api_token = '%s';\n", "Zq3vT8nLw5XcR1kHs9Jd", "generic-api-key"},
	{`{"client_secret":"%s"}` + "\n", "Zq3vT8nLw5XcR1kHs9Jd", "generic-api-key"},
	{"export FOO_PASSWORD=%s", "Zq3vT8nLw5XcR1kHs9Jd", "generic-api-key"},
	{"curl -u 'deploy:%s' https://h/\n", "Zq3vT8nLw5", "curl-auth-user"},
	{"blob %s end\n", "Q29ycmVjdC1Ib3JzZS1CYXR0ZXJ5LVN0YXBsZS05OTg3NjU0MzIx", "high-entropy-base64"},
	{"blob %s end\n", "0ab8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8", "high-entropy-hex"},
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, k := range reportedKeys {
		text := "before\n" + fmt.Sprintf(k.text, k.key) + "behind\n"
		at := int64(strings.Index(text, k.key))
		set := NewSet()
		set.FindFormats(Precise)
		for step := 1; step < 40; step += 7 {
			var cuts []int
			for end := step; end < len(text); end += step {
				cuts = append(cuts, end)
			}
			got, found := run(set, text, cuts...)
			if got != text {
				t.Errorf("%s: the text has changed: %s", k.rule, got)
			}
			if len(found) != 1 || found[0].Name != k.rule || found[0].Redacted || found[0].Offset > at || found[0].Offset+int64(found[0].Length) < at+int64(len(k.key)) {
				t.Errorf("%s: in steps of %d %+v is found, want it at %d", k.rule, step, found, at)
			}
		}
		all := NewSet()
		all.FindFormats(All)
		got, _ := run(all, text, 5, 9)
		if hidden := !strings.Contains(got, k.key); hidden != !strings.HasPrefix(k.rule, "high-entropy") {
			t.Errorf("%s: with All it gives %s", k.rule, got)
		}
	}
}

// TestReportsOnce tells of a key by the rule that says most, and not of what is redacted.
func TestReportsOnce(t *testing.T) {
	t.Parallel()
	set := NewSet(secretsOf("Zq3vT8nLw5XcR1kHs9JdM4bPy7FgU2aE")...)
	set.FindFormats(Precise)
	text := "datadog_secret_key=0ab8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0\napi_key=Zq3vT8nLw5XcR1kHs9JdM4bPy7FgU2aE\n" +
		"token: ghp_aE2gF7yPb4MdJ9sHk1RcX5wLn8Tv3qZ12345\n"
	_, found := set.String(text)
	var names []string
	for _, f := range found {
		names = append(names, fmt.Sprint(f.Name, " ", f.Redacted))
	}
	if want := []string{"datadog-access-token false", "A true", "github-pat true"}; !slices.Equal(slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(want))) {
		t.Errorf("%q, want %q", names, want)
	}
}

func TestInnocent(t *testing.T) {
	t.Parallel()
	set := NewSet()
	set.FindFormats(All)
	for _, text := range []string{
		"token=$GITHUB_TOKEN_1234567890", "api_key=${API_KEY}", "password: ********", "primary_key=abcdef1234567890",
		"key: the quick brown fox", "secret_name=projects/1234567890", "monkey=Zq3vT8nLw5XcR1kHs9Jd",
		"commit 0ab8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0", "sha256:0ab8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b00ab8c7d6e5f4a3b2c1d0e9f8",
		"https://example.com:8080/a@b", "http://user@example.com/x:y", "postgres://app:$PASSWORD@db", "git clone https://token:<token>@host",
	} {
		if got, found := set.String(text + "\n"); got != text+"\n" {
			t.Errorf("%q gives %q: %+v", text, got, found)
		}
	}
}

func TestURLPassword(t *testing.T) {
	t.Parallel()
	set := NewSet()
	set.FindFormats(Precise)
	for text, want := range map[string]string{
		"postgres://app:hunter2-x@db:5432/app":          "postgres://app:[REDACTED:url-password]@db:5432/app",
		"see https://:tok3n@host/ and http://a:b@h":     "see https://:[REDACTED:url-password]@host/ and http://a:b@h",
		"amqp://user:p%40ss%2Fword@[::1]:5672/":         "amqp://user:[REDACTED:url-password]@[::1]:5672/",
		"open http://localhost:8080":                    "open http://localhost:8080",
		"redis://default:Zq3vT8nLw5@cache and the rest": "redis://default:[REDACTED:url-password]@cache and the rest",
	} {
		for cut := 1; cut < len(text); cut++ {
			if got, _ := run(set, text, cut); got != want {
				t.Errorf("%q cut at %d gives %q", text, cut, got)
			}
		}
	}
}

// TestLongLine finds keys in a line that is longer than what is looked at in one go.
func TestLongLine(t *testing.T) {
	t.Parallel()
	set := NewSet()
	set.FindFormats(All)
	text := strings.Repeat(strings.Repeat("word ", 300)+"api_token=Zq3vT8nLw5XcR1kHs9Jd ", 20)
	for _, chunk := range []int{100, 5000, len(text)} {
		var cuts []int
		for end := chunk; end < len(text); end += chunk {
			cuts = append(cuts, end)
		}
		if got, found := run(set, text, cuts...); strings.Count(got, "[REDACTED:generic-api-key]") != 20 || len(found) != 20 {
			t.Errorf("in chunks of %d, %d keys are found", chunk, len(found))
		}
	}
}

// TestJSONRules finds keys that the name of the member tells, and within strings.
func TestJSONRules(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		`{"client_secret":"Zq3vT8nLw5XcR1kHs9Jd","n":1}`:          `{"client_secret":"[REDACTED:generic-api-key]","n":1}`,
		`["export API_TOKEN=Zq3vT8nLw5XcR1kHs9Jd\nls","a"]`:       `["export API_TOKEN=[REDACTED:generic-api-key]\nls","a"]`,
		`{"url":"postgres://app:hunter2-x@db"}`:                   `{"url":"postgres://app:[REDACTED:url-password]@db"}`,
		`{"blob":"Q29ycmVjdC1Ib3JzZS1CYXR0ZXJ5LVN0YXBsZS05OTg3"}`: `{"blob":"Q29ycmVjdC1Ib3JzZS1CYXR0ZXJ5LVN0YXBsZS05OTg3"}`,
	} {
		for _, what := range []Formats{Precise, All} {
			set := NewSet()
			set.FindFormats(what)
			got, found, err := set.JSON([]byte(doc))
			if err != nil || len(found) != 1 {
				t.Fatalf("%s: %+v, %v", doc, found, err)
			}
			if want := map[bool]string{true: want, false: doc}[found[0].Redacted]; string(got) != want || found[0].Redacted != (what == All || found[0].Name == "url-password") && want != doc {
				t.Errorf("%s gives %s: %+v", doc, got, found)
			}
		}
	}
}

// FuzzFormats says that keys of known formats, and what is reported, do not depend
// on how a text is cut.
func FuzzFormats(f *testing.F) {
	f.Add([]byte("abc"), uint64(1))
	f.Fuzz(fuzzFormats)
}

func TestRandomFormats(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	for range 60 { // FuzzFormats does as many as one likes
		data := make([]byte, 60)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		fuzzFormats(t, data, random.Uint64())
	}
}

// fuzzFormats makes a text of keys, pieces of keys and what stands around them.
func fuzzFormats(t *testing.T, data []byte, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 9))
	formats := slices.Concat(formats[:], ownFormats())
	var text strings.Builder
	for _, b := range data[:min(len(data), 60)] {
		f := formats[random.IntN(len(formats))]
		key := ""
		if b < 120 {
			key = f.sample(random, false)
		}
		switch b % 10 {
		case 0, 1:
			text.WriteString(key)
		case 2:
			text.WriteString(key[:random.IntN(len(key)+1)])
		case 3:
			k := reportedKeys[random.IntN(len(reportedKeys))]
			fmt.Fprintf(&text, k.text, k.key)
		case 4:
			at := random.IntN(len(key) + 1)
			text.WriteString(key[:at] + []string{"\n", "\r\n", "\x1b[31m", "-"}[random.IntN(4)] + key[at:])
		case 5:
			text.WriteString(apiKey[:random.IntN(len(apiKey)+1)])
		case 6:
			text.WriteString("\n")
		default:
			text.WriteString([]string{" ", "://", ":", "@", "-----BEGIN ", "a", "=", `"`, "eyJ", "ghp_", "key"}[random.IntN(11)])
		}
	}
	for _, what := range []Formats{Precise, All} {
		set := NewSet(Secret{Name: "KEY", Version: 1, Value: apiKey})
		set.FindFormats(what)
		want, reported := run(set, text.String())
		for _, step := range []int{1, 3, 20, 100} {
			var cuts []int
			for at := 1 + random.IntN(step); at < text.Len(); at += 1 + random.IntN(step) {
				cuts = append(cuts, at)
			}
			got, found := run(set, text.String(), cuts...)
			if got != want {
				t.Fatalf("%q cut at %d\n gives %q\n  want %q", text.String(), cuts, got, want)
			}
			for _, list := range [][]Finding{found, reported} {
				slices.SortFunc(list, func(a, b Finding) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
			if !slices.Equal(found, reported) {
				t.Fatalf("%q cut at %d\n finds %+v\n whole %+v", text.String(), cuts, found, reported)
			}
		}
	}
}
