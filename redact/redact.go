// Package redact takes known secrets out of text: out of a stream as it is
// written, whatever the sizes of the writes, or out of a text that is whole.
//
// A [Set] holds values with their names. Of each value it looks for the value
// itself and for the forms in which programs print it: escaped for JSON, XML,
// URLs and shells, as Go and Python literals, in hex and in base64 at every
// alignment; and, of values that look random, for every piece of 16 characters
// or more. Line breaks and terminal sequences inside a form do not hide it. What
// is found is replaced by [REDACTED:NAME]; all else comes out unchanged, in
// order, in the same Write unless it may be the beginning of something known.
//
// What is in the text counts, not how it was cut: every range that matches is
// redacted, ranges that overlap become one, and the result is the same for any
// division into writes.
//
// Not found are: a form that a line break divides within its first 8 characters,
// when less than 16 characters follow (8 of base64 and hex), and up to 7
// characters before such a break; the character of base64 that holds bits of a
// value and of what stands before it; pieces of values that look like words.
//
// Set.FindFormats adds the keys whose format is known, whoever's they are.
//
// This guards against accidents. A program that means to leak a value can
// compress, encrypt or spell it: give it no value that it must not have.
package redact

import (
	"bytes"
	"fmt"
	"sync/atomic"
)

// Secret is a value that must not be printed.
type Secret struct {
	Name    string
	Version int
	Value   string `json:"-"`

	// Force redacts a value that is too short or too common otherwise: see
	// Set.Report. Below 8 bytes it is still found only between boundaries.
	Force bool
	// Plain looks for nothing but the value itself: no other form, no pieces.
	Plain bool
}

// Format implements fmt.Formatter, so that a value is not printed by accident.
func (s Secret) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s@%d", s.Name, s.Version)
}

// Gap is a secret that a Set does not look for.
type Gap struct {
	Name    string
	Version int
	Reason  string
}

// Finding is one secret in one redacted range. A range in which several secrets
// overlap is one finding for each.
type Finding struct {
	Name     string
	Version  int
	Encoding string // the form that was found: raw, base64, fragment, …
	Offset   int64  // of the range, in bytes of the input
	Length   int    // of the range
	Redacted bool   // false: it was only reported, see Precise
}

// Set is a set of secrets. Any number of goroutines may use one at once.
type Set struct {
	now     atomic.Pointer[compiled]
	formats Formats
}

// NewSet returns a set of these secrets.
func NewSet(secrets ...Secret) *Set {
	s := new(Set)
	s.Update(secrets...)
	return s
}

// Update replaces the secrets of the set. Writers look for the new ones from
// their next Write on, also in what they hold back.
func (s *Set) Update(secrets ...Secret) {
	c := compile(secrets)
	if s.formats != 0 {
		c.findFormats(s.formats)
	}
	s.now.Store(c)
}

// Report returns the secrets that the set does not look for, and why.
func (s *Set) Report() []Gap { return s.now.Load().gaps }

// Bytes returns text redacted.
func (s *Set) Bytes(text []byte) ([]byte, []Finding) {
	var (
		out   bytes.Buffer
		found []Finding
	)
	w := NewWriter(&out, s, Options{OnFinding: func(f Finding) { found = append(found, f) }})
	// A bytes.Buffer takes everything.
	_, _ = w.Write(text)
	_ = w.Close()
	return out.Bytes(), found
}

// String returns text redacted.
func (s *Set) String(text string) (string, []Finding) {
	out, found := s.Bytes([]byte(text))
	return string(out), found
}
