package agentchains

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// agentSet is what is redacted for an agent. It is shared: read, never changed.
type agentSet struct {
	of    []seen
	set   *redact.Set
	gaps  []redact.Gap    // values that are left readable, or not found in every form
	known map[uint64]bool // all values of the entries, by their hashes
	size  int             // in memory, about
}

// seen is an entry that an agent sees.
type seen struct {
	kind     scope.Kind
	entry    *secretEntry
	variable string // of a secret: what the agent calls it
}

// setKey is a key in the cache only, as resolutionKey is.
func setKey(path string) string { return "~" + path }

// agentSet returns the set of the agent that a path names. One that does not resolve
// has a set of what does, so that more is redacted, not less.
func (b *backend) agentSet(ctx context.Context, s logical.Storage, path string) (*agentSet, error) {
	r, err := b.resolvePath(ctx, s, path)
	if err != nil {
		return nil, err
	}
	of, err := b.seenBy(ctx, s, r)
	if err != nil {
		return nil, err
	}
	return b.compiledSet(setKey(path), of), nil
}

// compiledSet returns the set of entries, from the cache when none of them was
// written meanwhile: a written entry is another one in memory.
func (b *backend) compiledSet(key string, of []seen) *agentSet {
	cached := func() *agentSet {
		value, ok, _ := b.cache.get(key)
		if set, _ := value.(*agentSet); ok && slices.Equal(set.of, of) {
			return set
		}
		return nil
	}
	if set := cached(); set != nil {
		return set
	}
	b.setLock.Lock()
	defer b.setLock.Unlock()
	set := cached()
	if set == nil {
		set = b.newAgentSet(of)
		b.cache.keep(key, set, set.size/2) // it takes the double of what an entry takes encoded
	}
	return set
}

// seenBy returns the entries that are shared with an agent, whatever their state.
func (b *backend) seenBy(ctx context.Context, s logical.Storage, r *resolution) ([]seen, error) {
	var of []seen
	for i := range r.results {
		result := &r.results[i]
		if !result.Found || result.Cause == scope.NotShared {
			continue
		}
		e, err := b.getSecret(ctx, s, r.addressOf(result))
		if err != nil {
			return nil, err
		}
		if e != nil {
			of = append(of, seen{result.Kind, e, result.Variable("")})
		}
	}
	return of, nil
}

// newAgentSet compiles the live versions of entries.
func (b *backend) newAgentSet(of []seen) *agentSet {
	a := &agentSet{of: of, known: map[uint64]bool{}, size: baseSetBytes}
	var secrets []redact.Secret
	for _, x := range of {
		for _, v := range x.entry.live() {
			for _, name := range v.names() {
				value := v.Values[name]
				a.known[b.mount.hash(printed(value))] = true
				called := cmp.Or(x.variable, name)
				mode := x.entry.Redact.mode(x.kind, name, value)
				if mode == redactNever {
					a.gaps = append(a.gaps, redact.Gap{Name: called, Version: v.Number, Reason: "its redact says so"})
					continue
				}
				secrets = append(secrets, redact.Secret{Name: called, Version: v.Number, Value: value.Reveal(), Force: mode == redactAlways})
			}
		}
	}
	a.bound(secrets)
	a.set = redact.NewSet(secrets...)
	a.set.FindFormats(redact.Precise)
	a.gaps = append(a.gaps, a.set.Report()...)
	return a
}

const (
	// mostSetBytes is half of what the cache holds by default.
	mostSetBytes = 32 << 20
	baseSetBytes = 200 << 10 // of a set without values: measured, as what follows
)

// formBytes returns about what all forms of a value take in a set: of one that looks
// random also all pieces, and of one with lines those of each.
func formBytes(value string) int {
	const each, plain, random, lines, randomLines = 60 << 10, 25, 1500, 1500, 3000 // the last four for each byte
	switch many := strings.Contains(strings.TrimSpace(value), "\n"); {
	case redact.Random(value) && many:
		return randomLines * len(value)
	case redact.Random(value):
		return random * len(value)
	case many:
		return each + lines*len(value)
	}
	return each + plain*len(value)
}

// bound keeps the set within its size: of the values that are too large only
// themselves are looked for, not their other forms.
func (a *agentSet) bound(secrets []redact.Secret) {
	slices.SortStableFunc(secrets, func(x, y redact.Secret) int { return cmp.Compare(len(x.Value), len(y.Value)) })
	for i := range secrets {
		x := &secrets[i]
		if takes := formBytes(x.Value); a.size+takes <= mostSetBytes {
			a.size += takes
			continue
		}
		x.Plain = true
		a.gaps = append(a.gaps, redact.Gap{Name: x.Name, Version: x.Version, Reason: "the agent's values are large: it is redacted as it is, and not in other encodings or in pieces"})
	}
}

const (
	maxRedactText = 1 << 20 // Vault takes no longer string
	mostFindings  = 1000    // in an answer
)

// answer redacts a text, the values of the set and the matches in it.
func (a *agentSet) answer(text string, matches []mountMatch) map[string]any {
	out, found := a.set.String(text)
	if len(matches) > 0 {
		out = redactMatches(text, out, found, matches)
	}
	for _, m := range matches {
		found = append(found, redact.Finding{Encoding: m.encoding, Offset: int64(m.start), Length: m.end - m.start, Redacted: true})
	}
	gaps := make([]any, 0, len(a.gaps))
	for _, g := range a.gaps[:min(len(a.gaps), mostFindings)] {
		gaps = append(gaps, map[string]any{"name": g.Name, "version": g.Version, "reason": g.Reason})
	}
	return map[string]any{"text": out, "count": len(found), "findings": grouped(found), "gaps": gaps}
}

// grouped returns the findings as the data of an answer: the first one of each kind,
// with how many there are.
func grouped(found []redact.Finding) []any {
	slices.SortStableFunc(found, func(x, y redact.Finding) int { return cmp.Compare(x.Offset, y.Offset) })
	groups, places := []any{}, map[redact.Finding]int{}
	for _, f := range found {
		kind := f
		kind.Offset, kind.Length = 0, 0
		at, known := places[kind]
		switch {
		case known:
			group := groups[at].(map[string]any)
			group["count"] = group["count"].(int) + 1
		case len(groups) < mostFindings:
			places[kind] = len(groups)
			groups = append(groups, map[string]any{
				"name": f.Name, "version": f.Version, "encoding": f.Encoding, "redacted": f.Redacted,
				"count": 1, "offset": f.Offset, "length": f.Length,
			})
		}
	}
	return groups
}

// nameless stands for a secret whose name the caller may not know.
const nameless = "[REDACTED]"

// redacted is a range of a text and what stands in its place.
type redacted struct {
	start, end int
	marker     string
}

// redactMatches returns text redacted, of which out is what the set made, with the
// findings in it. Ranges that overlap become one, with the marker of the longest.
func redactMatches(text, out string, found []redact.Finding, matches []mountMatch) string {
	var ranges []redacted
	at, end := 0, 0 // in out, and in text
	for _, f := range found {
		start := int(f.Offset)
		if !f.Redacted || start < end {
			continue // another secret in the same range
		}
		at += start - end
		n := strings.IndexByte(out[at:], ']') + 1
		end = start + f.Length
		ranges = append(ranges, redacted{start, end, out[at : at+n]})
		at += n
	}
	for _, m := range matches {
		ranges = append(ranges, redacted{m.start, m.end, nameless})
	}
	slices.SortStableFunc(ranges, func(x, y redacted) int { return cmp.Compare(x.start, y.start) })
	var b bytes.Buffer
	end = 0
	for i := 0; i < len(ranges); {
		r, longest := ranges[i], ranges[i]
		for i++; i < len(ranges) && ranges[i].start < r.end; i++ {
			r.end = max(r.end, ranges[i].end)
			if ranges[i].end-ranges[i].start > longest.end-longest.start {
				longest = ranges[i]
			}
		}
		b.WriteString(text[end:r.start])
		b.WriteString(longest.marker)
		end = r.end
	}
	b.WriteString(text[end:])
	return b.String()
}
