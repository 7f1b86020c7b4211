package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// span is a range of a text, and what takes its place.
type span struct {
	start, end int
	marker     string
}

// oracle finds forms in the plainest way: it looks at each byte of a text for
// each form that may begin there.
func oracle(text []byte, forms []form) []span {
	const head = 8
	byHead := map[[head]byte][]form{}
	for _, f := range forms {
		key := [head]byte([]byte(f.text))
		byHead[key] = append(byHead[key], f)
	}
	var spans []span
	for i := 0; i+head <= len(text); i++ {
		for _, f := range byHead[[head]byte(text[i:])] {
			if bytes.HasPrefix(text[i:], []byte(f.text)) {
				spans = append(spans, span{i, i + len(f.text), "[REDACTED:" + f.name + "]"})
			}
		}
	}
	return spans
}

// replace appends text to out, with one marker in place of the spans that overlap:
// that of the longest.
func replace(out, text []byte, spans []span) []byte {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	at := 0
	for i := 0; i < len(spans); {
		all, longest := spans[i], spans[i]
		for i++; i < len(spans) && spans[i].start < all.end; i++ {
			all.end = max(all.end, spans[i].end)
			if spans[i].end-spans[i].start > longest.end-longest.start {
				longest = spans[i]
			}
		}
		out = append(append(out, text[at:all.start]...), longest.marker...)
		at = all.end
	}
	return append(out, text[at:]...)
}

// spansOf returns the spans that findings report as redacted. They must cover
// the planted ones.
func spansOf(found []redact.Finding, planted []span) ([]span, error) {
	var spans []span
	for _, f := range found {
		if !f.Redacted {
			continue
		}
		s := span{int(f.Offset), int(f.Offset) + f.Length, "[REDACTED:" + f.Name + "]"}
		spans = append(spans, s)
	}
	for _, p := range planted {
		covered := false
		for _, s := range spans {
			covered = covered || s.start <= p.start && p.end <= s.end
		}
		if !covered {
			return nil, fmt.Errorf("%s at %d is not found", p.marker, p.start)
		}
	}
	return spans, nil
}
