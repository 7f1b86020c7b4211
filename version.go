package agentchains

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

const (
	maxValueSize = 64 << 10
	maxGroupSize = 128 << 10
)

// version is an immutable set of values. Its number is never used again.
type version struct {
	Number    int                         `json:"number"`
	CreatedAt time.Time                   `json:"created_at"`
	CreatedBy string                      `json:"created_by"`
	ValidFrom time.Time                   `json:"valid_from"` // readers get it from then on; zero: not yet
	ExpiresAt time.Time                   `json:"expires_at"` // zero: never
	Values    map[string]sensitive.String `json:"-"`
	Memo      map[string]sensitive.String `json:"-"`                  // of the rotator that made it
	Told      string                      `json:"told,omitempty"`     // the last event about its expiry
	Rotator   string                      `json:"rotator,omitempty"`  // that made it
	FarSide   bool                        `json:"far_side,omitempty"` // and that has to remove it elsewhere
	KeepAt    time.Time                   `json:"keep_at"`            // when the rotator keeps it alive again; zero: it needs not
}

// tombstone is what stays of a version.
type tombstone struct {
	Number      int       `json:"number"`
	CreatedAt   time.Time `json:"created_at"`
	CreatedBy   string    `json:"created_by"`
	DestroyedAt time.Time `json:"destroyed_at"`
	DestroyedBy string    `json:"destroyed_by"`
	Reason      string    `json:"reason"`
	Stop        bool      `json:"stop,omitempty"`     // who holds it is told to stop
	Incident    string    `json:"incident,omitempty"` // that has revoked it
}

func (v *version) reveal() map[string]string {
	if v == nil {
		return nil
	}
	return revealed(v.Values)
}

func revealed(values map[string]sensitive.String) map[string]string {
	if values == nil {
		return nil
	}
	texts := make(map[string]string, len(values))
	for name, value := range values {
		texts[name] = value.Reveal()
	}
	return texts
}

func concealed(texts map[string]string) map[string]sensitive.String {
	if texts == nil {
		return nil // nothing was made yet, which is not the same as no values
	}
	values := make(map[string]sensitive.String, len(texts))
	for name, text := range texts {
		values[name] = sensitive.New(text)
	}
	return values
}

func (v *version) expired(now time.Time) bool {
	return !v.ExpiresAt.IsZero() && !now.Before(v.ExpiresAt)
}

// names returns the variables of the version, sorted.
func (v *version) names() []string { return slices.Sorted(maps.Keys(v.Values)) }

func (v *version) equal(values map[string]sensitive.String) bool {
	return v != nil && maps.EqualFunc(v.Values, values, sensitive.String.Equal)
}

// number returns the version's number, and 0 when there is none.
func (v *version) number() int {
	if v == nil {
		return 0
	}
	return v.Number
}

// masked returns what of the version's values may be shown.
func (v *version) masked(a scope.Address) any {
	if a.Kind == scope.Secret {
		return v.Values[a.Name].Mask()
	}
	masked := make(map[string]any, len(v.Values))
	for name, value := range v.Values {
		masked[name] = value.Mask()
	}
	return masked
}

func (v *version) validate() error {
	size := 0
	for name, value := range v.Values {
		if err := scope.CheckVariable(name); err != nil {
			return badRequest("a name in values %s", err)
		}
		text := value.Reveal()
		switch {
		case text == "":
			return badRequest("the value of %s must not be empty", name)
		case len(text) > maxValueSize:
			return badRequest("the value of %s must be at most %d bytes", name, maxValueSize)
		case strings.ContainsRune(text, 0):
			return badRequest("the value of %s must not hold a NUL byte, which an environment variable cannot carry", name)
		}
		size += len(name) + len(text)
	}
	if len(v.Values) == 0 {
		return badRequest("values must have at least one member")
	}
	if size > maxGroupSize {
		return badRequest("values must be at most %d bytes together", maxGroupSize)
	}
	return nil
}
