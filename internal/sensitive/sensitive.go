// Package sensitive holds text that must not be printed by accident.
package sensitive

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"unicode/utf8"
)

const placeholder = "[sensitive]"

// String is a secret text. Every way of printing or encoding it gives a
// placeholder. The text sits behind a pointer because fmt, when it prints a
// struct with an unexported String in it, follows no methods but stops at
// pointers. The zero String is the empty text.
type String struct{ text *string }

// New returns s as a String.
func New(s string) String { return String{&s} }

// Reveal returns the text itself.
func (s String) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Len returns the length of the text in bytes.
func (s String) Len() int { return len(s.Reveal()) }

// Equal compares two texts in a time that depends on their lengths only.
func (s String) Equal(o String) bool {
	a, b := sha256.Sum256([]byte(s.Reveal())), sha256.Sum256([]byte(o.Reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Mask returns a form fit for display: the first three characters of a text of
// at least twenty, and nothing of a shorter one.
func (s String) Mask() string {
	const shown, least = 3, 20
	text := s.Reveal()
	if utf8.RuneCountInString(text) < least {
		return "***...***"
	}
	return string([]rune(text)[:shown]) + "...***..."
}

// Format implements fmt.Formatter.
func (String) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, placeholder) }

// MarshalText implements encoding.TextMarshaler, which JSON uses too.
func (String) MarshalText() ([]byte, error) { return []byte(placeholder), nil }
