package acceptance

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// secrets are all values of the run.
var secrets = &registry{labels: map[string]string{}}

// registry knows every value that a test stored or sent, and every text that
// must hold none: the audit file, the server's log, and what Vault and its
// command answered in place of a result.
//
// Vault's audit devices hash only strings that are values in a body: numbers,
// booleans, the keys of objects and the query of a request they write in clear,
// before any plugin sees them. So a test that sends something of the wrong type
// puts a registered value inside a list or an object, and uses a harmless
// constant for a number and in a query.
type registry struct {
	mu     sync.Mutex        // guards all below
	labels map[string]string // by half a value: what quotes only its beginning or its end leaks too
	texts  []text
}

type text struct {
	where string
	body  []byte
}

// half is the length of half a value.
const half = 16

// value returns a new random value of capital letters and digits.
func (r *registry) value(label string) string {
	first, second := rand.Text()[:half], rand.Text()[:half]
	r.mu.Lock()
	defer r.mu.Unlock()
	r.labels[first], r.labels[second] = label, label
	return first + second
}

// note adds a text that must hold no value.
func (r *registry) note(where string, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, text{where, body})
}

// leaks says which values occur where, by their labels.
func (r *registry) leaks() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	leaks := map[string]bool{}
	for _, t := range r.texts {
		for i := 0; i+half <= len(t.body); i++ {
			if label, ok := r.labels[string(t.body[i:i+half])]; ok {
				leaks[fmt.Sprintf("value %q occurs in %s", label, t.where)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(leaks))
}

// censor replaces the values in a text by their labels, for a test's own messages.
func (r *registry) censor(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for part, label := range r.labels {
		text = strings.ReplaceAll(text, part, "<"+label+">")
	}
	return text
}

func TestLeaksAreFound(t *testing.T) {
	needVault(t)
	r := &registry{labels: map[string]string{}}
	planted, kept := r.value("planted"), r.value("kept")
	r.note("whole", []byte(`{"error":"cannot use `+planted+`"}`))
	r.note("cut", []byte(planted[:len(planted)-1]+"…"))
	r.note("clean", []byte("cannot use "+strings.ToLower(kept)+planted[:10]))
	want := []string{`value "planted" occurs in cut`, `value "planted" occurs in whole`}
	if got := r.leaks(); !slices.Equal(got, want) {
		t.Errorf("leaks are %q, want %q", got, want)
	}
}
