package redact

import (
	"bytes"
	"cmp"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// rule tells a key by what stands around it, within a line.
type rule struct {
	name     string
	words    []string // in lower case; one of them stands in the line
	assigned bool     // what is assigned to something named so is the key
	regex    string   // of the key, else of all, with the key in its first group
	least    int      // bytes of a key that is assigned
	entropy  float64  // in bits for a byte; a key has more
}

const (
	// maxLine is how much of a line is looked at in one go.
	maxLine = 8 << 10
	// maxLead is how much may stand before a key in the rule's match, and maxKey
	// how long one may be.
	maxLead, maxKey = 64, 600
	// wordLen is how much of a word is looked up.
	wordLen = 3
)

// hint is a key that a rule has found, or a run that looks like one.
type hint struct {
	start, end int
	by         *knownRule
}

// knownRule is a rule as the owner of what it matches.
type knownRule struct {
	*rule
	owners   []owner
	key      func() *regexp.Regexp
	innocent func() []*regexp.Regexp // of keys that are none
	matches  func() []*regexp.Regexp // of matches that are none
}

// ruler finds keys in lines.
type ruler struct {
	found []hint // scratch
}

// words are those of all rules, by their beginnings.
type words struct {
	rules   map[[wordLen - 1]byte][]wordOf
	marks   filter
	opening pairs
}

// wordOf is a word of some rules.
type wordOf struct {
	word  string
	rules []*knownRule
}

var (
	base64Run = &knownRule{rule: &rule{name: "high-entropy-base64"}}
	hexRun    = &knownRule{rule: &rule{name: "high-entropy-hex"}}
)

var allWords = sync.OnceValue(func() *words {
	all := &words{rules: map[[wordLen - 1]byte][]wordOf{}}
	always := expressions(innocent[""])
	var marks []uint64
	for i := range rules {
		own := expressions(innocent[rules[i].name])
		known := &knownRule{
			rule: &rules[i], owners: []owner{{&Secret{Name: rules[i].name}, byFormat}}, key: sync.OnceValue(rules[i].compile),
			innocent: func() []*regexp.Regexp { return slices.Concat(always(), own()) }, matches: expressions(innocentMatches[rules[i].name]),
		}
		for _, word := range rules[i].words {
			mark := [wordLen - 1]byte([]byte(word))
			list := all.rules[mark]
			at := slices.IndexFunc(list, func(w wordOf) bool { return w.word == word })
			if at < 0 {
				at, list = len(list), append(list, wordOf{word: word})
			}
			list[at].rules = append(list[at].rules, known)
			all.rules[mark] = list
			for b := range 256 {
				if len(word) == wordLen-1 || word[wordLen-1] == byte(b) {
					marks = append(marks, markOf([]byte{word[0], word[1], byte(b)}))
				}
			}
		}
	}
	for mark := range all.rules {
		all.opening.add(mark[0], mark[1])
	}
	all.marks = newFilter(marks)
	return all
})

// expressions compiles regexps when they are needed for the first time.
func expressions(list []string) func() []*regexp.Regexp {
	return sync.OnceValue(func() []*regexp.Regexp {
		var compiled []*regexp.Regexp
		for _, e := range list {
			compiled = append(compiled, regexp.MustCompile(e))
		}
		return compiled
	})
}

func matchAny(list []*regexp.Regexp, text []byte) bool {
	return slices.ContainsFunc(list, func(e *regexp.Regexp) bool { return e.Match(text) })
}

func (r *rule) compile() *regexp.Regexp {
	if r.assigned {
		return regexp.MustCompile(`^(` + r.regex + `)(?:[\x60'"\s;]|\\[nr]|$)`)
	}
	return regexp.MustCompile(r.regex)
}

// find returns the keys of a line, in order; none overlaps another.
func (r *ruler) find(line []byte) []hint {
	words := allWords()
	r.found = r.found[:0]
	run := 0 // begins here
	for i, b := range line {
		if kinds[b] == 0 {
			r.run(line, run, i)
			run = i + 1
		}
		if i+wordLen <= len(line) && words.opening.has(lowered[b], lowered[line[i+1]]) {
			r.word(line, i)
		}
	}
	r.run(line, run, len(line))
	if len(r.found) < 2 {
		return r.found
	}
	// Of those that overlap, the rule that says most about it names it.
	slices.SortStableFunc(r.found, func(a, b hint) int { return cmp.Compare(a.rank(), b.rank()) })
	kept := r.found[:0]
	for _, h := range r.found {
		if !slices.ContainsFunc(kept, func(k hint) bool { return h.start < k.end && k.start < h.end }) {
			kept = append(kept, h)
		}
	}
	slices.SortFunc(kept, func(a, b hint) int { return cmp.Compare(a.start, b.start) })
	r.found = kept
	return kept
}

func (h hint) rank() int {
	switch {
	case h.by.words == nil:
		return 2
	case h.by.name == generic:
		return 1
	}
	return 0
}

// generic is the rule for all that is named like a secret.
const generic = "generic-api-key"

// word finds the keys of rules that have a word at byte i.
func (r *ruler) word(line []byte, i int) {
	words, first, second := allWords(), lowered[line[i]], lowered[line[i+1]]
	if !words.marks.has(markOf([]byte{first, second, lowered[line[i+2]]})) {
		return
	}
	for _, w := range words.rules[[wordLen - 1]byte{first, second}] {
		if folded(line[i:], w.word) {
			r.after(line, i, i+len(w.word), w.rules)
		}
	}
}

// folded reports whether t begins with a word, in letters of any case.
func folded(t []byte, word string) bool {
	if len(t) < len(word) {
		return false
	}
	for i := range len(word) {
		if lowered[t[i]] != word[i] {
			return false
		}
	}
	return true
}

// after finds the keys of rules that have a word at line[from:to].
func (r *ruler) after(line []byte, from, to int, rules []*knownRule) {
	at, ok := assigned(line, to)
	for _, known := range rules {
		switch {
		case !known.assigned:
			r.all(line, known)
		case ok:
			r.assignment(line, from, at, known)
		}
	}
}

// assigned returns where the operator ends by which something is assigned to what
// ends at byte i, as in "key : value".
func assigned(line []byte, i int) (end int, ok bool) {
	const longestName, longestGap = 20, 3
	for limit := i + longestName; i < len(line) && i < limit && inName(line[i]); {
		i++
	}
	for limit := i + longestGap; i < len(line) && i < limit && inGap(line[i]); {
		i++
	}
	for _, operator := range operators {
		if bytes.HasPrefix(line[i:], operator) {
			return i + len(operator), true
		}
	}
	return 0, false
}

var operators = [][]byte{[]byte("=>"), []byte("="), []byte(">"), []byte(":::="), []byte("::="), []byte(":="), []byte(":"), []byte("||"), []byte("?="), []byte(",")}

func inName(b byte) bool {
	return isWord(b) && b < 0x80 || b == ' ' || b == '\t' || b == '.' || b == '-'
}
func inGap(b byte) bool {
	return b == ' ' || b == '\t' || b == '\'' || b == '"' || isBreak(b)
}

// assignment finds the key that begins at byte i or, after quotes, soon.
func (r *ruler) assignment(line []byte, from, i int, known *knownRule) {
	const longestFill = 5
	for fill := 0; i < len(line); fill++ {
		if length(line[i:]) >= known.least || line[i] == '"' {
			t := line[i:min(i+maxKey, len(line))]
			if m := known.key().FindSubmatchIndex(t); m != nil && r.add(line, from, i, i+m[3], known) {
				return
			}
		}
		if fill == longestFill || !inGap(line[i]) && line[i] != '`' && line[i] != '=' {
			return
		}
		i++
	}
}

// length returns how long a key at the beginning of t may be.
func length(t []byte) int {
	for i, b := range t {
		if !(isWord(b) || b == '.' || b == '=' || b == '-' || b == '+' || b == '/' || b == ':' || b == '%') {
			return i
		}
	}
	return len(t)
}

// all finds the keys of a rule that matches what stands around them too.
func (r *ruler) all(line []byte, known *knownRule) {
	for _, m := range known.key().FindAllSubmatchIndex(line, -1) {
		for group := 2; group < len(m); group += 2 {
			if m[group] >= 0 {
				r.add(line, m[0], m[group], m[group+1], known)
				break
			}
		}
	}
}

// add takes a key in, unless it is none.
func (r *ruler) add(line []byte, from, start, end int, known *knownRule) bool {
	key := line[start:end]
	if entropy(key) <= known.entropy {
		return false
	}
	if matchAny(known.innocent(), key) {
		return false
	}
	if known.name == generic {
		for limit := from - maxLead; from > 0 && from > limit && (isWord(line[from-1]) || line[from-1] == '.' || line[from-1] == '-'); {
			from--
		}
		if !bytes.ContainsAny(key, "0123456789") || stops(bytes.ToLower(key)) || matchAny(known.matches(), line[from:end]) {
			return false
		}
	}
	r.found = append(r.found, hint{start, end, known})
	return true
}

var stopList = sync.OnceValue(func() [][]byte { return bytes.Split([]byte(stopwords), []byte("\n")) })

// stops reports whether a key contains a word that no key does.
func stops(key []byte) bool {
	return slices.ContainsFunc(stopList(), func(word []byte) bool { return bytes.Contains(key, word) })
}

// run takes in a run of base64 or hex that is long and looks random. Those that
// are as long as digests are mostly digests.
func (r *ruler) run(line []byte, start, end int) {
	const leastBase64, leastHex = 40, 32
	if end-start < leastHex {
		return
	}
	run := line[start:end]
	switch {
	case !slices.ContainsFunc(run, func(b byte) bool { return kinds[b] != hexDigit }):
		if !slices.Contains([]int{32, 40, 56, 64, 96, 128}, len(run)) && entropy(run) > 3 {
			r.found = append(r.found, hint{start, end, hexRun})
		}
	case len(run) >= leastBase64 && entropy(run) > 4.5 && random(string(run)):
		r.found = append(r.found, hint{start, end, base64Run})
	}
}

const (
	hexDigit = 1 + iota
	base64Digit
)

var kinds, lowered = func() (kinds, lowered [256]byte) {
	for i := range 256 {
		b := byte(i)
		lowered[i] = b
		switch {
		case b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F':
			kinds[i] = hexDigit
		case b >= 'g' && b <= 'z' || b >= 'G' && b <= 'Z' || strings.IndexByte("+/=", b) >= 0:
			kinds[i] = base64Digit
		}
		if b >= 'A' && b <= 'Z' {
			lowered[i] += 'a' - 'A'
		}
	}
	return kinds, lowered
}()
