package redact

import (
	"math"
	"regexp"
	"slices"
)

// format is a kind of key that can be told by its form.
type format struct {
	name    string
	prefix  string
	entropy float64 // in bits for a byte; a key has more
	steps   []step  // what follows the prefix
	lines   bool    // line breaks may stand in it
	part    int     // the step that is secret, from 1; 0: all of it
}

// step is a run of bytes of one class. It takes all it can, since no step can
// begin with what the one before it takes, unless that has a fixed length.
type step struct {
	class    string // pairs of the first and the last byte of a range
	min, max int
}

// ownFormats are those that the rules of gitleaks cannot be made into steps for,
// and passwords in URLs. Of a private key, all that follows the header is taken up
// to the next dash, also when it is cut off.
func ownFormats() []format {
	const (
		code   = "--09AZ__az"
		base64 = "++//09AZaz"
		user   = "!!$.09;;==AZ__az~~"           // of userinfo in RFC 3986, but for the colon
		secret = "!!%&()+.09:;==AZ\\\\^_az||~~" // what people write there, but for placeholders
	)
	list := []format{
		{name: "jwt", prefix: "eyJ", entropy: 3, steps: []step{
			{code, 14, 4096}, {"..", 1, 1}, {"ee", 1, 1}, {"yy", 1, 1}, {code, 14, 8192}, {"..", 1, 1}, {code, 0, 1024},
		}},
		{name: "jwt-base64", prefix: "ZXlK", entropy: 4, steps: []step{{base64, 60, 8192}, {"==", 0, 2}}},
		{name: "atlassian-api-token", prefix: "ATATT3", entropy: 3.5, steps: []step{{"--09==AZ__az", 186, 186}}},
		{name: "hashicorp-tf-api-token", prefix: ".atlasv1.", entropy: 3.5, steps: []step{{"--09==AZ__az", 60, 70}}},
		{name: "microsoft-teams-webhook", prefix: ".webhook.office.com/webhookb2/", steps: []step{{"--09@@az", 73, 73}, {"//", 1, 1}, {"AZaz", 15, 15}, {"//", 1, 1}, {"--//09az", 69, 69}}},
		{name: "sentry-org-token", prefix: "sntrys_eyJpYXQiO", entropy: 4.5, steps: []step{{base64, 20, 440}, {"==", 0, 2}, {"__", 1, 1}, {base64, 43, 43}}},
		{name: "url-password", prefix: "://", steps: []step{{user, 0, 256}, {"::", 1, 1}, {secret, 3, 256}, {"@@", 1, 1}, {"--09AZ[[az", 1, 1}}, part: 3},
	}
	for _, kind := range []string{"services/", "workflows/", "triggers/"} {
		list = append(list, format{name: "slack-webhook-url", prefix: "hooks.slack.com/" + kind, steps: []step{{base64, 43, 56}}})
	}
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

// Formats says what is done with keys of known formats, whoever's they are.
type Formats int

const (
	// Precise redacts keys that their form alone tells, such as ghp_ and 36
	// letters, private keys, and passwords in URLs. Keys that are told by what
	// stands around them, such as password=…, are reported as findings that are
	// not redacted, and so are long runs of base64 and hex that look random.
	Precise Formats = iota + 1
	// All redacts both kinds of keys. A Writer then holds back a line until it is
	// complete, or 8 KiB of it.
	All
)

// FindFormats makes s find keys of known formats too. They are redacted by the
// name of the format, which is that of the rule in gitleaks. It must be called
// before s is used.
func (s *Set) FindFormats(what Formats) {
	s.formats = what
	c := *s.now.Load()
	c.findFormats(what)
	s.now.Store(&c)
}

func (c *compiled) findFormats(what Formats) {
	var marks []uint64
	c.what = what
	c.formats = map[[markLen]byte][]knownFormat{}
	for _, f := range slices.Concat(formats[:], ownFormats()) {
		mark := [markLen]byte([]byte(f.prefix))
		known := knownFormat{&f, []owner{{&Secret{Name: f.name}, byFormat}}, expressions(innocent[f.name])}
		c.formats[mark] = append(c.formats[mark], known)
		marks = append(marks, markOf(mark[:]))
		c.opening.add(mark[0], mark[1])
		c.firsts[mark[0]] = true
	}
	c.marks = newFilter(marks)
}

// knownFormat is a format as the owner of what it matches.
type knownFormat struct {
	*format
	owners   []owner
	innocent func() []*regexp.Regexp // of keys that are none
}

func markOf(t []byte) uint64 { return uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 }

// formatted finds the keys at byte i of the view.
func (s *scanner) formatted(i int) (live bool) {
	t := s.view.text[i:]
	if len(t) >= markLen && !s.set.marks.has(markOf(t)) || isWord(t[0]) && !s.view.boundary(i) {
		return false
	}
	end := s.view.whole(i)
	t = s.view.text[i:end]
	more := !s.final && end == len(s.view.text) && !s.view.seam(end)
	switch len(t) {
	case 1:
		return more && s.set.firsts[t[0]]
	case 2:
		return more && s.set.opening.has(t[0], t[1])
	}
	for _, f := range s.set.formats[[markLen]byte(t)] {
		t, more := t, more
		if f.lines {
			end, more = s.view.window(i)
			t, more = s.view.text[i:end], more && !s.final
		}
		start, end, next, open := f.match(t)
		switch {
		case open && more:
			live, s.next = true, next
		case end > 0 && !matchAny(f.innocent(), t[start:end]):
			s.add(i+start, end-start, byFormat, f.owners)
		}
	}
	return live
}

// match returns the range of the key that t begins with; end is 0 if it begins
// with none. It is open when more text can change that; next is what leaves it so.
func (f *format) match(t []byte) (start, end int, next expected, open bool) {
	n := min(len(f.prefix), len(t))
	if f.prefix[:n] != string(t[:n]) {
		return 0, 0, expected{}, false
	}
	if n < len(f.prefix) {
		return 0, 0, expected{form: f.prefix[n:]}, true
	}
	shown := 0
	for i, s := range f.steps {
		from := n
		for n < len(t) && n-from < s.max && inClass(s.class, t[n]) {
			n++
		}
		key := f.part == 0 || f.part == i+1
		if key {
			shown += n - from
		}
		next, open = expected{shown: shown}, n == len(t) && n-from < s.max
		if open {
			next = expected{class: s.class, room: s.max - (n - from), lines: f.lines, shown: shown, key: key}
		}
		if n-from < s.min {
			return 0, 0, next, open
		}
		if f.part == i+1 {
			start, end = from, n
		}
	}
	if f.part == 0 {
		end = n
	}
	switch {
	case n == len(t):
		open = true // what follows may make it none
	case isWord(t[n]) && isWord(t[n-1]) && f.part == 0:
		return 0, 0, expected{}, false
	}
	if entropy(t[:n]) <= f.entropy {
		end = 0
	}
	return start, end, next, open
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
