package acceptance

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// secrets are all values of the run.
var secrets = newRegistry()

// registry knows every value that a test stored or sent, and searches every text
// that must hold none: the audit file, the server's log, and what Vault and its
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
	found  map[string]bool   // what was found, and where
}

func newRegistry() *registry { return &registry{labels: map[string]string{}, found: map[string]bool{}} }

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

// note searches a text that must hold no value.
func (r *registry) note(where string, body []byte) {
	_ = r.search(where, bytes.NewReader(body)) // it never fails
}

// search reads a text that must hold no value.
func (r *registry) search(where string, text io.ByteReader) error {
	var run []byte // the last letters and digits, as of a value
	for {
		c, err := text.ReadByte()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case (c < 'A' || c > 'Z') && (c < '0' || c > '9'):
			run = run[:0]
			continue
		}
		run = append(run, c)
		if len(run) < half {
			continue
		}
		run = run[len(run)-half:]
		r.mu.Lock()
		if label, ok := r.labels[string(run)]; ok {
			r.found[fmt.Sprintf("value %q occurs in %s", label, where)] = true
		}
		r.mu.Unlock()
	}
}

// leaks says which values occurred where, by their labels.
func (r *registry) leaks() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.found))
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
	r := newRegistry()
	planted, kept := r.value("planted"), r.value("kept")
	r.note("whole", []byte(`{"error":"cannot use `+planted+`"}`))
	r.note("cut", []byte(planted[:len(planted)-1]+"…"))
	r.note("clean", []byte("cannot use "+strings.ToLower(kept)+planted[:10]))
	want := []string{`value "planted" occurs in cut`, `value "planted" occurs in whole`}
	if got := r.leaks(); !slices.Equal(got, want) {
		t.Errorf("leaks are %q, want %q", got, want)
	}
}
