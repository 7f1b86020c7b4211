package redact

import "encoding/binary"

const (
	// minFragment is how long a piece of a random value must be to be found.
	minFragment = 16
	// maxForm is the longest form. Longer ones are looked for in pieces.
	maxForm = 1 << 10
	// maxSpan bounds a match with what line breaks and terminal sequences it is
	// spread over, and so what a Writer holds back.
	maxSpan = 16 << 10
)

// match is a range of the input in which a form was found.
type match struct {
	start, end int
	size       int // of the form, without what was left out of the view
	encoding   encoding
	owners     []owner
}

// scanner finds the matches in a view.
type scanner struct {
	set   *compiled
	view  view
	final bool // no more input will come
	found []match
	next  expected // what more input begins with if nothing changes
	// byFormat is set when no form of a secret is undecided.
	byFormat bool
}

// expected is what makes more of what may be the beginning of something known,
// and leaves open whether it is. It saves looking at a long one from its beginning
// each time that a little more of it comes.
type expected struct {
	form  string // this, up to its last byte
	class string // or so many bytes of this class
	room  int
	lines bool // with line breaks in it

	shown int  // bytes of a key of a known format that have come
	key   bool // the class is of such bytes
}

// take reports whether b is expected, and what is expected next.
func (e *expected) take(b byte) bool {
	switch {
	case b == esc:
		return false
	case isBreak(b):
		return e.form != "" || e.lines
	case len(e.form) > 1 && e.form[0] == b:
		e.form = e.form[1:]
		return true
	case e.room > 1 && inClass(e.class, b):
		e.room--
		if e.key {
			e.shown++
		}
		return true
	}
	return false
}

// scan finds what begins before live, which is where the first range begins that
// more input may make a match, or the end of the input. Matches that begin
// there or later may be among found: they are not decided.
func (s *scanner) scan() (live int) {
	s.next, s.byFormat = expected{}, false
	t, c := s.view.text, s.set
	n := len(t)
	grams, quads := c.grams, c.quads
	i := 0
	// What begins at any of eight places has one of its first eight grams at the
	// last of them. So one look there says whether the eight need a closer one.
	for ; i+2*gramLen <= n; i += gramLen {
		block := t[i : i+2*gramLen : i+2*gramLen]
		if grams.has(binary.LittleEndian.Uint64(block[gramLen-1:])) ||
			c.short && (quads.has(uint64(binary.LittleEndian.Uint32(block[gramLen/2-1:]))) ||
				quads.has(uint64(binary.LittleEndian.Uint32(block[gramLen-1:])))) ||
			c.tiny.forms != nil && c.pairsIn(block) {
			for k := i; k < i+gramLen; k++ {
				if s.begins(k) {
					return s.view.origin(k)
				}
			}
			continue
		}
		if c.formats == nil {
			continue
		}
		for k := range gramLen {
			if c.opening.has(block[k], block[k+1]) && s.formatted(i+k) {
				s.byFormat = true
				return s.view.origin(i + k)
			}
		}
	}
	for ; i < n; i++ {
		if s.begins(i) {
			return s.view.origin(i)
		}
	}
	return s.view.raw
}

// begins finds what begins at byte i of the view, and reports whether more
// input could change that.
func (s *scanner) begins(i int) (live bool) {
	live = s.known(i)
	if s.set.formats != nil && s.formatted(i) {
		s.byFormat = !live
		return true
	}
	return live
}

// known finds the forms of secrets at byte i.
func (s *scanner) known(i int) (live bool) {
	t, c := s.view.text[i:], s.set
	if c.tiny.forms != nil {
		live = s.bounded(i)
	}
	if len(t) < gramLen {
		return live || !s.final && c.heads.has(head(t)) && s.head(i)
	}
	gram := binary.LittleEndian.Uint64(t)
	if !c.grams.has(gram) && !(c.short && c.quads.has(gram&(1<<32-1))) {
		return live
	}
	if lo, hi := c.across.bucket(gram); lo < hi {
		live = s.forms(&c.across, i, lo, hi) || live
	}
	if lo, hi := c.whole.bucket(gram); lo < hi && !s.view.broken(i) {
		live = s.forms(&c.whole, i, lo, hi) || live
	}
	if lo, hi := c.pieces.bucket(gram); lo < hi && !s.view.broken(i) {
		live = s.fragment(i, lo, hi) || live
	}
	return live
}

// forms finds the forms of x[lo:hi] at byte i.
func (s *scanner) forms(x *index, i, lo, hi int) (live bool) {
	end, more := s.view.window(i)
	t := s.view.text[i:end]
	next := x.after(t, lo, hi)
	for k := int32(next - 1); k >= int32(lo); k = x.parent[k] {
		if f := &x.forms[k]; x.shared(int(k), t) == len(f.text) {
			s.add(i, len(f.text), f.owners[0].encoding, f.owners)
		}
	}
	return more && !s.final && s.begun(x, next, t)
}

// begun reports whether t is a proper prefix of form i.
func (s *scanner) begun(x *index, i int, t []byte) bool {
	if !x.longer(i, t) {
		return false
	}
	s.next = expected{form: x.forms[i].text[len(t):]}
	return true
}

// fragment finds the longest piece of a random value at byte i. When several
// values have it, it is a piece of each.
func (s *scanner) fragment(i, lo, hi int) (live bool) {
	x := &s.set.pieces
	end, more := s.view.window(i)
	t := s.view.text[i:end]
	next := x.after(t, lo, hi)
	size := minFragment
	for k := max(lo, next-1); k < min(hi, next+1); k++ {
		size = max(size, x.shared(k, t))
	}
	for k := next - 1; k >= lo && x.shared(k, t) == size; k-- {
		s.add(i, size, fragment, x.forms[k].owners)
	}
	for k := next; k < hi && x.shared(k, t) == size; k++ {
		s.add(i, size, fragment, x.forms[k].owners)
	}
	return more && !s.final && s.begun(x, next, t)
}

// head reports whether the text from byte i on, which is shorter than a gram,
// is the beginning of a form.
func (s *scanner) head(i int) bool {
	t, c := s.view.text[i:], s.set
	if end, more := s.view.window(i); !more || end < len(s.view.text) {
		return false
	}
	return c.across.begins(t) || !s.view.broken(i) && (c.whole.begins(t) || c.pieces.begins(t))
}

// bounded finds a tiny value at byte i: one that stands alone, in one piece.
func (s *scanner) bounded(i int) (live bool) {
	x, t := &s.set.tiny, s.view.text[i:]
	if len(t) > 1 && !s.set.pairs.has(t[0], t[1]) || !s.view.boundary(i) {
		return false
	}
	end := s.view.whole(i)
	t = s.view.text[i:end]
	more := !s.final && end == len(s.view.text) && !s.view.seam(end)
	next := x.after(t, 0, len(x.forms))
	for k := int32(next - 1); k >= 0; k = x.parent[k] {
		f := &x.forms[k]
		switch n := len(f.text); {
		case x.shared(int(k), t) < n:
		case n < len(t) && isWord(t[n]):
		case n == len(t) && more:
			live = true
		default:
			s.add(i, n, f.owners[0].encoding, f.owners)
		}
	}
	return live || more && x.longer(next, t)
}

func (s *scanner) add(i, size int, encoding encoding, owners []owner) {
	s.found = append(s.found, match{
		start: s.view.origin(i), end: s.view.origin(i+size-1) + 1,
		size: size, encoding: encoding, owners: owners,
	})
}

// head is a key for a text shorter than a gram. It differs by length too.
func head[T string | []byte](t T) uint64 {
	key := uint64(len(t))
	for i := range len(t) {
		key = key<<8 | uint64(t[i])
	}
	return key
}

func isWord(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b >= 0x80
}
