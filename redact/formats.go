package redact

import (
	"math"
	"slices"
)

// format is a kind of key that can be told by its form.
type format struct {
	name    string
	prefix  string
	entropy float64 // in bits for a byte; a key has more
	steps   []step  // what follows the prefix
	lines   bool    // line breaks may stand in it
}

// step is a run of bytes of one class. It takes all it can, since no step can
// begin with what the one before it takes, unless that has a fixed length.
type step struct {
	class    string // pairs of the first and the last byte of a range
	min, max int
}

// ownFormats are those that the rules of gitleaks cannot be made into steps for.
// Of a private key, all that follows the header is taken up to the next dash,
// also when it is cut off.
func ownFormats() []format {
	const code = "--09AZ__az"
	list := []format{{name: "jwt", prefix: "eyJ", entropy: 3, steps: []step{
		{code, 14, 4096}, {"..", 1, 1}, {"ee", 1, 1}, {"yy", 1, 1}, {code, 14, 8192}, {"..", 1, 1}, {code, 10, 1024},
	}}}
	for _, kind := range []string{"", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED ", "PGP "} {
		header := "-----BEGIN " + kind + "PRIVATE KEY-----"
		if kind == "PGP " {
			header = "-----BEGIN PGP PRIVATE KEY BLOCK-----"
		}
		list = append(list, format{name: "private-key", prefix: header, lines: true, steps: []step{
			{"\t\t  +,/:==AZ\\\\az", 64, 12 << 10},
		}})
	}
	return list
}

// markLen is how much of a prefix is looked up.
const markLen = 3

// FindFormats makes s find keys of known formats too, whoever's they are, such as
// ghp_ and 36 letters. They are redacted by the name of the format, which is that
// of the rule in gitleaks. It must be called before s is used.
func (s *Set) FindFormats() {
	s.formats = true
	c := *s.now.Load()
	c.findFormats()
	s.now.Store(&c)
}

func (c *compiled) findFormats() {
	var marks []uint64
	c.formats = map[[markLen]byte][]knownFormat{}
	for _, f := range slices.Concat(formats[:], ownFormats()) {
		mark := [markLen]byte([]byte(f.prefix))
		known := knownFormat{&f, []owner{{&Secret{Name: f.name}, byFormat}}}
		c.formats[mark] = append(c.formats[mark], known)
		marks = append(marks, markOf(mark[:]))
		c.opening.add(mark[0], mark[1])
	}
	c.marks = newFilter(marks)
}

// knownFormat is a format as the owner of what it matches.
type knownFormat struct {
	*format
	owners []owner
}

func markOf(t []byte) uint64 { return uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 }

// marksIn reports whether a key may begin at one of eight places.
func (c *compiled) marksIn(block []byte) bool {
	for i := range gramLen {
		if c.opening.has(block[i], block[i+1]) && c.marks.has(markOf(block[i:])) {
			return true
		}
	}
	return false
}

// formatted finds the keys at byte i of the view.
func (s *scanner) formatted(i int) (live bool) {
	t := s.view.text[i:]
	if len(t) >= markLen && !s.set.marks.has(markOf(t)) || !s.view.boundary(i) {
		return false
	}
	end := s.view.whole(i)
	t = s.view.text[i:end]
	more := !s.final && end == len(s.view.text) && !s.view.seam(end)
	if len(t) < markLen {
		return more && s.marked(t)
	}
	for _, f := range s.set.formats[[markLen]byte(t)] {
		t, more := t, more
		if f.lines {
			end, more = s.view.window(i)
			t, more = s.view.text[i:end], more && !s.final
		}
		n, open := f.match(t)
		switch {
		case open && more:
			live = true
		case n > 0:
			s.add(i, n, byFormat, f.owners)
		}
	}
	return live
}

// marked reports whether a prefix begins with t, which is shorter than a mark.
func (s *scanner) marked(t []byte) bool {
	for mark := range s.set.formats {
		if string(mark[:len(t)]) == string(t) {
			return true
		}
	}
	return false
}

// match returns the length of the key that t begins with, 0 if with none, and
// whether more text could change that.
func (f *format) match(t []byte) (n int, open bool) {
	n = min(len(f.prefix), len(t))
	if f.prefix[:n] != string(t[:n]) {
		return 0, false
	}
	if n < len(f.prefix) {
		return 0, true
	}
	for _, s := range f.steps {
		from := n
		for n < len(t) && n-from < s.max && inClass(s.class, t[n]) {
			n++
		}
		open = n == len(t) && n-from < s.max
		if n-from < s.min {
			return 0, open
		}
	}
	switch {
	case n == len(t):
		open = true
	case isWord(t[n]) && isWord(t[n-1]):
		return 0, false
	}
	if entropy(t[:n]) <= f.entropy {
		n = 0
	}
	return n, open
}

func inClass(class string, b byte) bool {
	for i := 0; i < len(class); i += 2 {
		if class[i] <= b && b <= class[i+1] {
			return true
		}
	}
	return false
}

// entropy is Shannon's, in bits for a byte.
func entropy(t []byte) float64 {
	var counts [256]int
	for _, b := range t {
		counts[b]++
	}
	sum := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(t))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}
