package rotator_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// newRandom returns a rotator of a type that makes values by itself.
func newRandom(name string, given map[string]any, host rotator.Host) (rotator.Rotator, error) {
	t := rotator.Types[name]
	s := rotator.Settings{}
	for _, f := range t.Fields {
		if f.Default != nil {
			s[f.Name] = f.Default
		}
	}
	maps.Copy(s, given)
	return t.New(s, host)
}

// made returns the value that a rotation of a secret makes.
func made(t *testing.T, r rotator.Rotator) string {
	t.Helper()
	job := &rotator.Job{Path: "dev/org/KEY", Variable: "KEY"}
	if err := r.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context, *rotator.Job) error{r.Set, r.Test, r.Finish} {
		if err := step(t.Context(), job); err != nil {
			t.Error(err)
		}
	}
	if len(job.New.Values) != 1 {
		t.Fatalf("a secret has %d values", len(job.New.Values))
	}
	return job.New.Values["KEY"].Reveal()
}

func TestRandomValues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, kind       string
		given            map[string]any
		length           int
		prefix, alphabet string
	}{
		{"a password", "password", nil, 32, "", letters},
		{"a short one", "password", map[string]any{"length": 16}, 16, "", letters},
		{"a long one", "password", map[string]any{"length": 1024}, 1024, "", letters},
		{"digits", "password", map[string]any{"alphabet": "0123456789"}, 32, "", "0123456789"},
		{"with a blank and braces", "password", map[string]any{"alphabet": "{} :/@%&?#"}, 32, "", "{} :/@%&?#"},
		{"in a text", "password", map[string]any{"template": map[string]string{"value": "key:{{password}}"}}, 32 + 4, "key:", letters},
		{"an API key", "api-key", map[string]any{"prefix": "ac_live_"}, 32 + 8, "ac_live_", letters},
		{"an API key without a prefix", "api-key", map[string]any{"length": 48}, 48, "", letters},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, err := newRandom(test.kind, test.given, rotator.Host{})
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for range 100 {
				value := made(t, r)
				random, ok := strings.CutPrefix(value, test.prefix)
				if len(value) != test.length || !ok || strings.Trim(random, test.alphabet) != "" {
					t.Fatalf("a value of %d characters, want %d with the prefix %q and of the alphabet", len(value), test.length, test.prefix)
				}
				if seen[value] {
					t.Fatal("a value came twice")
				}
				seen[value] = true
			}
		})
	}
}

// TestRandomIsEven compares how often each character comes, and each pair of
// neighbours, with what chance allows: a bound that is passed once in more than a
// million runs, but always when bytes are taken modulo the alphabet's length.
func TestRandomIsEven(t *testing.T) {
	t.Parallel()
	const chars, length = 1000 * len(letters), 1000
	for name, alphabet := range map[string]string{"all": letters, "ten": "0123456789"} {
		r, err := newRandom("password", map[string]any{"alphabet": alphabet, "length": length}, rotator.Host{})
		if err != nil {
			t.Fatal(err)
		}
		single, pairs := map[string]int{}, map[string]int{}
		for range chars / length {
			value := made(t, r)
			for i := range len(value) {
				single[value[i:i+1]]++
			}
			for i := 0; i < len(value); i += 2 {
				pairs[value[i:i+2]]++
			}
		}
		n := len(alphabet)
		even(t, name+": characters", single, n, chars)
		even(t, name+": pairs", pairs, n*n, chars/2)
	}
}

// even fails when counts of draws from n equal possibilities are not even: their
// chi-square has a mean of n-1 and a variance of 2(n-1).
func even(t *testing.T, what string, counts map[string]int, n, draws int) {
	t.Helper()
	expected := float64(draws) / float64(n)
	chi := expected * float64(n-len(counts)) // what never came
	for _, count := range counts {
		chi += (float64(count) - expected) * (float64(count) - expected) / expected
	}
	freedom := float64(n - 1)
	if bound := freedom + 7*math.Sqrt(2*freedom) + 20; len(counts) > n || chi > bound {
		t.Errorf("%s: chi-square is %.0f, at most %.0f would be even", what, chi, bound)
	}
}

func TestRandomSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kind  string
		given map[string]any
		want  string
	}{
		"too short":               {"password", map[string]any{"length": 15}, "length must"},
		"too long":                {"password", map[string]any{"length": 1025}, "length must"},
		"a short key":             {"api-key", map[string]any{"length": 0}, "length must"},
		"few characters":          {"password", map[string]any{"alphabet": "012345678"}, "alphabet must"},
		"no characters":           {"password", map[string]any{"alphabet": ""}, "alphabet must"},
		"one twice":               {"password", map[string]any{"alphabet": "01234567890"}, "alphabet must"},
		"one that is not printed": {"password", map[string]any{"alphabet": "0123456789\n"}, "alphabet must"},
		"one beyond ASCII":        {"password", map[string]any{"alphabet": "0123456789é"}, "alphabet must"},
	} {
		if _, err := newRandom(test.kind, test.given, rotator.Host{}); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

func TestPasswordPolicy(t *testing.T) {
	t.Parallel()
	host := rotator.Host{Password: func(_ context.Context, policy string) (string, error) {
		if policy != "strong" {
			return "", errors.New("no such policy")
		}
		return "of-the-policy", nil
	}}
	r, err := newRandom("password", map[string]any{"policy": "strong"}, host)
	if err != nil {
		t.Fatal(err)
	}
	if made(t, r) != "of-the-policy" {
		t.Error("the value is not the policy's")
	}
	if r, err = newRandom("password", map[string]any{"policy": "weak"}, host); err != nil {
		t.Fatal(err)
	}
	job := &rotator.Job{Variable: "KEY"}
	if err := r.Create(t.Context(), job); err == nil || !strings.Contains(err.Error(), "policy weak") {
		t.Error(err)
	}
	if job.New.Values != nil {
		t.Error("there is a value, though its policy gave none")
	}
}

func TestRandomOfAGroup(t *testing.T) {
	t.Parallel()
	r, err := newRandom("api-key", map[string]any{"prefix": "k_", "template": map[string]string{"KEY": "{{password}}", "HEADER": "Bearer {{password}}"}}, rotator.Host{})
	if err != nil {
		t.Fatal(err)
	}
	old := map[string]sensitive.String{"KEY": sensitive.New("old"), "URL": sensitive.New("https://example.com")}
	job := &rotator.Job{Path: "dev/org/api", Old: rotator.Version{Values: old}}
	if err := r.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	values := job.New.Values
	key := values["KEY"].Reveal()
	if len(values) != 3 || !strings.HasPrefix(key, "k_") || values["HEADER"].Reveal() != "Bearer "+key || values["URL"].Reveal() != "https://example.com" {
		t.Error("the group is not what its templates and its old values make")
	}
	if len(old) != 2 || old["KEY"].Reveal() != "old" {
		t.Error("the old values were changed")
	}
}
