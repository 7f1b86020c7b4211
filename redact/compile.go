package redact

import (
	"encoding/binary"
	"slices"
	"strings"
)

// compiled is what a Set looks for. It does not change.
type compiled struct {
	gaps []Gap

	whole  index // forms that are found whole
	across index // those with a line break within their first gram
	pieces index // the rest of each random form, from each of its bytes on
	tiny   index // values shorter than a gram

	grams filter // at the first eight places of long forms, and in random ones
	short bool   // there are forms shorter than two grams
	quads filter // four bytes at the first four places of those
	pairs pairs  // the first two bytes of tiny values
	heads filter // beginnings of forms that are shorter than a gram

	what    Formats
	formats map[[markLen]byte][]knownFormat // by the beginning of the prefix
	marks   filter
	opening pairs // the first two bytes of their prefixes
	firsts  [256]bool

	shortest int // of the values
}

// lists are the forms while they are collected.
type lists struct {
	whole, across, pieces, tiny []form

	begun map[[minFragment]byte]bool // beginnings of the secret's pieces
}

func compile(secrets []Secret) *compiled {
	c := new(compiled)
	var l lists
	for _, s := range secrets {
		if reason := unfit(s); reason != "" {
			c.gaps = append(c.gaps, Gap{s.Name, s.Version, reason})
			continue
		}
		// The forms share the secret, but need no second copy of its value.
		secret := &Secret{Name: s.Name, Version: s.Version}
		if n := len(strings.TrimSpace(s.Value)); c.shortest == 0 || n < c.shortest {
			c.shortest = n
		}
		l.begun = map[[minFragment]byte]bool{}
		for _, v := range variants(s) {
			l.add(v, []owner{{secret, v.encoding}})
		}
	}
	c.whole, c.across, c.pieces, c.tiny = newIndex(l.whole), newIndex(l.across), newIndex(l.pieces), newIndex(l.tiny)
	c.whole.hashed()
	c.across.hashed()
	c.pieces.hashed()
	c.filters()
	return c
}

// add takes the forms of a variant in: line breaks are left out, as they are of
// the text that is searched, and what is too long is cut in pieces that overlap.
func (l *lists) add(v variant, owners []owner) {
	t := joined(v.text)
	var breaks []int // where in t the line breaks were
	for i := range len(v.text) {
		if isBreak(v.text[i]) {
			breaks = append(breaks, i-len(breaks))
		}
	}
	broken := func(at int) bool {
		k, _ := slices.BinarySearch(breaks, at+1)
		return k < len(breaks) && breaks[k] < min(at+gramLen, len(t))
	}
	if len(t) < gramLen {
		if t != "" {
			l.tiny = append(l.tiny, form{t, owners})
		}
		return
	}
	whole := func(at int) {
		f := form{t[at:min(at+maxForm, len(t))], owners}
		if broken(at) {
			l.across = append(l.across, f)
		} else {
			l.whole = append(l.whole, f)
		}
	}
	for at := 0; at+maxForm < len(t); at += maxForm - minFragment {
		whole(at)
	}
	whole(max(0, len(t)-maxForm))
	for at := range len(t) {
		switch {
		case v.random && at+minFragment <= len(t) && distinctive(t[at:at+minFragment]):
			// The forms of a value have most pieces in common. A longer one that begins
			// the same is covered by those that begin behind it.
			if key := [minFragment]byte([]byte(t[at : at+minFragment])); !l.begun[key] {
				l.begun[key] = true
				l.pieces = append(l.pieces, form{t[at:min(at+maxForm, len(t))], owners})
			}
		case v.tail > 0 && at > 0 && at < gramLen && at+v.tail <= len(t):
			// A line break within the first gram would hide the form.
			whole(at)
		}
	}
}

func (c *compiled) filters() {
	var grams, quads, heads []uint64
	for _, x := range []*index{&c.whole, &c.across, &c.pieces, &c.tiny} {
		for i, f := range x.forms {
			switch t := f.text; {
			case len(t) < gramLen && len(t) > 1:
				c.pairs.add(t[0], t[1])
			case len(t) < gramLen:
				for b := range 256 {
					c.pairs.add(t[0], byte(b))
				}
			case len(t) < 2*gramLen:
				for at := range gramLen / 2 {
					quads = append(quads, uint64(binary.LittleEndian.Uint32([]byte(t[at:at+gramLen/2]))))
				}
			default:
				for at := range gramLen {
					grams = append(grams, binary.LittleEndian.Uint64([]byte(t[at:at+gramLen])))
				}
			}
			same := 0
			if i > 0 {
				same = x.shared(i-1, []byte(f.text))
			}
			for n := same + 1; n < min(gramLen, len(f.text)); n++ {
				heads = append(heads, head(f.text[:n]))
			}
		}
	}
	c.short = len(quads) > 0
	c.grams, c.quads, c.heads = newFilter(grams), newFilter(quads), newFilter(heads)
}

// pairsIn reports whether a tiny value may begin at one of eight places.
func (c *compiled) pairsIn(block []byte) bool {
	for i := range gramLen {
		if c.pairs.has(block[i], block[i+1]) {
			return true
		}
	}
	return false
}
