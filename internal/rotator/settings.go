package rotator

import "time"

// Kind is the type of a field's value.
type Kind string

// The kinds of fields. In Settings a Text is a string, a Number an int, a Flag a
// bool, a Duration a time.Duration, a List a []string and a Map a
// map[string]string.
const (
	Text     Kind = "text"
	Number   Kind = "number"
	Flag     Kind = "flag"
	Duration Kind = "duration"
	List     Kind = "list"
	Map      Kind = "map"
)

// Field is a setting of a type of rotators. Types that have a field of one name
// give it the same kind and the same meaning.
type Field struct {
	Name        string
	Kind        Kind
	Description string // one sentence
	Default     any    // of the kind's type; nil: none
	Required    bool
	// Sensitive is for what nobody is shown: such a Text is a sensitive.String in
	// Settings, and such a Map a map[string]sensitive.String.
	Sensitive bool
	// Address is for what says where a sensitive field is sent. When it changes,
	// the sensitive fields that are not sent with it are dropped.
	Address bool
}

// Settings are the values of a rotator's fields, by name. Defaults are filled in.
type Settings map[string]any

// Get returns the value of a field, and the zero T when it was not given.
func Get[T any](s Settings, name string) T {
	v, _ := s[name].(T)
	return v
}

// The fields that several types have.
var (
	templateField = Field{Name: "template", Kind: Map, Description: "What the values are made of, by variable; of a secret under the name value. {{name}} stands for what the type gives."}
	lengthField   = Field{Name: "length", Kind: Number, Default: 32, Description: "How many characters a new value has, at least 16."}
	caField       = Field{Name: "ca_pem", Kind: Text, Address: true, Description: "Certificates in PEM that the far side's is checked against, instead of the system's."}
)

// stepTimeout bounds a call to the far side where the caller's own bound is longer.
const stepTimeout = 30 * time.Second
