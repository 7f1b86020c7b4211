package redact

import (
	"regexp"
	"strings"
)

// minForced is how long a value must be to be found without being forced.
const minForced = 4

// Random reports whether a value looks like one that a generator made: it has 16
// bytes or more, and most of its windows of 16 change often between kinds of
// characters, or have many different ones of several kinds. Pieces of such a value
// are found.
func Random(value string) bool { return random(strings.TrimSpace(value)) }

// unfit returns why a secret is not looked for, or nothing.
func unfit(s Secret) string {
	v := strings.TrimSpace(s.Value)
	switch {
	case v == "":
		return "it is empty"
	case strings.ContainsAny(v, "\r\n") && len(joined(v)) < gramLen:
		return "its lines are too short"
	case s.Force:
		return ""
	case len(v) < minForced:
		return "it is shorter than 4 bytes"
	case number.MatchString(v):
		return "it is a number"
	case word.MatchString(v):
		return "it is a word"
	case region.MatchString(v):
		return "it is the name of a region"
	}
	return ""
}

// joined returns text without line breaks.
func joined(text string) string {
	if !strings.ContainsAny(text, "\r\n") {
		return text
	}
	return strings.NewReplacer("\r", "", "\n", "").Replace(text)
}

// These are left readable: as members of a group they are mostly no secrets, and
// every text is full of them.
var (
	number = regexp.MustCompile(`^[+-]?[0-9]{1,12}$`)
	word   = regexp.MustCompile(`^(?:[A-Z]?[a-z]{1,10}|[A-Z]{1,11})$`)
	region = regexp.MustCompile(`^[a-z]{2,}(?:-[a-z]+)+-?[0-9]{1,2}[a-z]?$`)
)

func random(v string) bool {
	windows, mixed := 0, 0
	for at := 0; at+minFragment <= len(v); at++ {
		windows++
		// Base32 has few digits.
		if n := changes(v[at : at+minFragment]); n >= 4 || n >= 2 && different(v[at:at+minFragment]) >= 10 {
			mixed++
		}
	}
	return 2*mixed > windows
}

// distinctive reports whether a piece of a random value says that it is one.
func distinctive(piece string) bool {
	return different(piece) >= 6 && changes(piece) >= 2
}

// different counts the different bytes.
func different(s string) int {
	var seen [256]bool
	n := 0
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
			n++
		}
	}
	return n
}

// changes counts the neighbours of different kinds: lower case, upper case, digits.
func changes(s string) int {
	n, before := 0, byte(0)
	for i := range len(s) {
		kind := byte(0)
		switch b := s[i]; {
		case b >= 'a' && b <= 'z':
			kind = 1
		case b >= 'A' && b <= 'Z':
			kind = 2
		case b >= '0' && b <= '9':
			kind = 3
		}
		if kind != before && kind != 0 && before != 0 {
			n++
		}
		before = kind
	}
	return n
}
