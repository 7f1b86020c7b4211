package redact

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
)

// gramLen is how many bytes of a text are looked up at once.
const gramLen = 8

// form is one text to look for, and whose it is.
type form struct {
	text   string
	owners []owner
}

// owner says which secret a form belongs to.
type owner struct {
	secret   *Secret
	encoding encoding
}

// index finds the forms that text begins with. They are sorted, so those with
// the same beginning are neighbours, and a text lies next to the one with which
// it shares most.
type index struct {
	forms  []form
	parent []int32     // the longest form that is a proper prefix of this one, or -1
	first  [257]uint32 // the first form that does not begin with a lesser byte
	slots  []slot
	hash   hash
}

// slot says which forms begin with a gram.
type slot struct {
	gram   uint64
	lo, hi uint32
}

func newIndex(forms []form) index {
	slices.SortFunc(forms, func(a, b form) int {
		if c := strings.Compare(a.text, b.text); c != 0 {
			return c
		}
		// Of forms that are the same, the encoding that comes first is named.
		x, y := a.owners[0], b.owners[0]
		return cmp.Or(cmp.Compare(x.encoding, y.encoding), strings.Compare(x.secret.Name, y.secret.Name), cmp.Compare(x.secret.Version, y.secret.Version))
	})
	x := index{forms: forms[:0]}
	for _, f := range forms {
		last := len(x.forms) - 1
		if last >= 0 && x.forms[last].text == f.text {
			x.forms[last].owners = union(x.forms[last].owners, f.owners)
			continue
		}
		x.forms = append(x.forms, f)
	}
	x.forms = slices.Clip(x.forms)
	x.link()
	return x
}

// union returns the owners of a and those of b whose secret is not in a. It
// leaves both as they are: forms share them.
func union(a, b []owner) []owner {
	a = slices.Clip(a)
	for _, o := range b {
		if !slices.ContainsFunc(a, func(has owner) bool { return has.secret == o.secret }) {
			a = append(a, o)
		}
	}
	return a
}

func (x *index) link() {
	for b := range x.first {
		x.first[b] = uint32(sort.Search(len(x.forms), func(i int) bool { return int(x.forms[i].text[0]) >= b }))
	}
	x.parent = make([]int32, len(x.forms))
	var open []int32
	for i, f := range x.forms {
		for len(open) > 0 && !strings.HasPrefix(f.text, x.forms[open[len(open)-1]].text) {
			open = open[:len(open)-1]
		}
		x.parent[i] = -1
		if len(open) > 0 {
			x.parent[i] = open[len(open)-1]
		}
		open = append(open, int32(i))
	}
}

// hashed makes bucket work. All forms must be at least gramLen long.
func (x *index) hashed() {
	if len(x.forms) == 0 {
		return
	}
	x.hash = newHash(2 * len(x.forms))
	x.slots = make([]slot, x.hash.size())
	for lo := 0; lo < len(x.forms); {
		hi := lo + 1
		for hi < len(x.forms) && x.forms[hi].text[:gramLen] == x.forms[lo].text[:gramLen] {
			hi++
		}
		gram := binary.LittleEndian.Uint64([]byte(x.forms[lo].text[:gramLen]))
		at := x.hash.of(gram)
		for x.slots[at].hi != 0 {
			at = (at + 1) & uint64(len(x.slots)-1)
		}
		x.slots[at] = slot{gram, uint32(lo), uint32(hi)}
		lo = hi
	}
}

// bucket returns the range of forms that begin with gram.
func (x *index) bucket(gram uint64) (lo, hi int) {
	if len(x.slots) == 0 {
		return 0, 0
	}
	for at := x.hash.of(gram); ; at = (at + 1) & uint64(len(x.slots)-1) {
		s := &x.slots[at]
		if s.hi == 0 || s.gram == gram {
			return int(s.lo), int(s.hi)
		}
	}
}

// begins reports whether text, which is shorter than any form, begins one.
func (x *index) begins(text []byte) bool {
	lo, hi := int(x.first[text[0]]), int(x.first[int(text[0])+1])
	return lo < hi && (len(text) == 1 || x.longer(x.after(text, lo, hi), text))
}

// after returns the first form of a range that is greater than text.
func (x *index) after(text []byte, lo, hi int) int {
	return lo + sort.Search(hi-lo, func(i int) bool { return x.forms[lo+i].text > string(text) })
}

// longer reports whether text is a proper prefix of form i.
func (x *index) longer(i int, text []byte) bool {
	return i < len(x.forms) && len(x.forms[i].text) > len(text) && x.forms[i].text[:len(text)] == string(text)
}

// shared returns the length of what form i and text have in common at the front.
func (x *index) shared(i int, text []byte) int {
	s := x.forms[i].text
	n := min(len(s), len(text))
	if s[:n] == string(text[:n]) {
		return n
	}
	at := 0
	for s[at] == text[at] {
		at++
	}
	return at
}

// hash spreads keys over a table. Its factor is random, so that nobody can
// write a text that collides.
type hash struct {
	factor uint64
	shift  int
}

// newHash returns a hash onto the first power of two from least on.
func newHash(least int) hash {
	return hash{rand.Uint64() | 1, 64 - bits.Len(uint(max(least, 2)-1))}
}

func (h hash) of(key uint64) uint64 { return key * h.factor >> h.shift }
func (h hash) size() int            { return 1 << (64 - h.shift) }

// filter is a set of keys that may hold more than was put in.
type filter struct {
	hash
	bits []uint64
}

func newFilter(keys []uint64) filter {
	slices.Sort(keys)
	keys = slices.Compact(keys)
	const least, perKey = 1 << 15, 16 // bits
	h := newHash(max(least, perKey*len(keys)))
	f := filter{h, make([]uint64, h.size()/64)}
	for _, key := range keys {
		word, mask := f.place(key)
		f.bits[word] |= mask
	}
	return f
}

func (f *filter) has(key uint64) bool {
	word, mask := f.place(key)
	return f.bits[word]&mask == mask
}

// place returns the two bits of a key, which are in one word.
func (f *filter) place(key uint64) (word, mask uint64) {
	h := key * f.factor >> (f.shift - 6)
	return h >> 12, 1<<(h&63) | 1<<(h>>6&63)
}

// pairs is a set of two bytes.
type pairs [1 << 10]uint64

func (p *pairs) add(a, b byte)      { p[pair(a, b)/64] |= 1 << (b % 64) }
func (p *pairs) has(a, b byte) bool { return p[pair(a, b)/64]&(1<<(b%64)) != 0 }

func pair(a, b byte) uint16 { return uint16(a)<<8 | uint16(b) }
