package agentchains

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"sort"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

const (
	// searchBatch is for how many bytes of a text the table is kept from writers.
	searchBatch = 32 << 10
	// mostEffort bounds what a text may cost in which beginnings of values stand
	// again and again: see mountTable.search.
	mostEffort = 16 << 20
	// mostAsked bounds how many entries are asked whether they still have a value.
	mostAsked = 1000
)

// mountMatch is a value of the mount in a text.
type mountMatch struct {
	start, end int // in the text
	encoding   string
	hash       uint64 // of the value
	value      sensitive.String
}

// searchMount finds the values of the mount in a text, but for those whose hashes
// are known.
func (b *backend) searchMount(ctx context.Context, s logical.Storage, t *mountTable, text []byte, known map[uint64]bool) ([]mountMatch, error) {
	var matches []mountMatch
	effort := mostEffort
	for r := range readings(text) {
		b.mount.search(t, r.text, &effort, func(start, end int, hash uint64) {
			if !known[hash] {
				m := mountMatch{encoding: r.encoding, hash: hash, value: sensitive.New(string(r.text[start:end]))}
				m.start, m.end = r.origin(start, end)
				matches = append(matches, m)
			}
		})
	}
	if effort < 0 {
		return nil, tooMuch()
	}
	return b.liveMatches(ctx, s, t, matches)
}

func tooMuch() error {
	return badRequest("the text holds too much that looks like secrets of the mount: send it in smaller parts")
}

// search is mountTable.search, in batches.
func (x *mountIndex) search(t *mountTable, text []byte, effort *int, found func(start, end int, hash uint64)) {
	for from := 0; from < len(text) && *effort >= 0; from += searchBatch {
		x.mu.RLock()
		t.search(text, from, from+searchBatch, effort, found)
		x.mu.RUnlock()
	}
}

// liveMatches returns those of which an entry has the value now.
func (b *backend) liveMatches(ctx context.Context, s logical.Storage, t *mountTable, matches []mountMatch) ([]mountMatch, error) {
	live, left := map[uint64]bool{}, mostAsked
	for _, m := range matches {
		if _, asked := live[m.hash]; asked {
			continue
		}
		b.mount.mu.RLock()
		addresses := t.entriesOf(m.hash, left+1)
		b.mount.mu.RUnlock()
		live[m.hash] = false
		for _, a := range addresses {
			if left--; left < 0 {
				return nil, tooMuch()
			}
			e, err := b.getSecret(ctx, s, a)
			if err != nil {
				return nil, err
			}
			if e != nil && slices.ContainsFunc(e.searched(a.Kind), func(value string) bool { return m.value.Equal(sensitive.New(value)) }) {
				live[m.hash] = true
				break
			}
		}
	}
	return slices.DeleteFunc(matches, func(m mountMatch) bool { return !live[m.hash] }), nil
}

// reading is one way to read a part of a text.
type reading struct {
	encoding string
	text     []byte // what the part says
	bits     int    // of text in each character of the part
	skipped  int    // characters at the beginning of the part
	part     []piece
}

// piece is a range of the text, without line breaks.
type piece struct {
	start, end int
	before     int // characters of the part in the pieces before it
}

// origin returns the range of the text in which bytes of the reading stand.
func (r *reading) origin(start, end int) (int, int) {
	first, last := r.skipped+start*8/r.bits, r.skipped+(end*8-1)/r.bits
	return r.at(first), r.at(last) + 1
}

// at returns where in the text a character of the part is.
func (r *reading) at(i int) int {
	p := r.part[sort.Search(len(r.part), func(k int) bool { return r.part[k].before > i })-1]
	return p.start + i - p.before
}

// alphabet is what an encoding is written with.
type alphabet struct {
	encoding string
	bits     int // in each character
	phases   int // at so many characters of a run a byte may begin
	digits   [256]byte
}

// noDigit says that a character is not of the alphabet.
const noDigit = 0xff

// alphabets are those of base64, the standard one and that of URLs, and of hex.
var alphabets = []*alphabet{
	newAlphabet("base64", 6, 4, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", "-_"),
	newAlphabet("hex", 4, 2, "0123456789abcdef", "ABCDEF"),
}

// newAlphabet takes the digits, and others for the last of them.
func newAlphabet(encoding string, bits, phases int, digits, others string) *alphabet {
	a := &alphabet{encoding: encoding, bits: bits, phases: phases}
	for i := range a.digits {
		a.digits[i] = noDigit
	}
	for i := range digits {
		a.digits[digits[i]] = byte(i)
	}
	for i := range others {
		a.digits[others[i]] = byte(len(digits) - len(others) + i)
	}
	return a
}

// readings returns the text itself, and what its runs of base64 and hex say from each
// place on at which a byte may begin.
func readings(text []byte) iter.Seq[*reading] {
	return func(yield func(*reading) bool) {
		if !yield(&reading{encoding: "raw", text: text, bits: 8, part: []piece{{end: len(text)}}}) {
			return
		}
		for _, a := range alphabets {
			for part := range a.runs(text) {
				for skipped := range a.phases {
					if !yield(&reading{a.encoding, a.decode(text, part, skipped), a.bits, skipped, part}) {
						return
					}
				}
			}
		}
	}
}

// runs returns the runs of the alphabet that are long enough to hold a value. A run
// goes on behind a line break.
func (a *alphabet) runs(text []byte) iter.Seq[[]piece] {
	least := (windowLen*8 + a.bits - 1) / a.bits
	return func(yield func([]piece) bool) {
		var run []piece
		length := 0
		for i := 0; i <= len(text); {
			end := i
			for end < len(text) && a.digits[text[end]] != noDigit {
				end++
			}
			if end > i {
				run, length = append(run, piece{i, end, length}), length+end-i
				if n := lineBreak(text[end:]); n > 0 && end+n < len(text) && a.digits[text[end+n]] != noDigit {
					i = end + n
					continue
				}
			}
			if length >= least && !yield(run) {
				return
			}
			run, length = nil, 0
			i = end + 1
		}
	}
}

// lineBreak returns the length of the line break that text begins with.
func lineBreak(text []byte) int {
	switch {
	case bytes.HasPrefix(text, []byte("\r\n")):
		return 2
	case bytes.HasPrefix(text, []byte("\n")):
		return 1
	}
	return 0
}

// decode returns what a run says from a character on. Bits that do not fill a byte
// are left out.
func (a *alphabet) decode(text []byte, run []piece, skip int) []byte {
	var out []byte
	bits, n := uint(0), 0
	for _, p := range run {
		for _, c := range text[min(p.start+skip, p.end):p.end] {
			bits = bits<<a.bits | uint(a.digits[c])
			if n += a.bits; n >= 8 {
				n -= 8
				out = append(out, byte(bits>>n))
			}
		}
		skip -= min(skip, p.end-p.start)
	}
	return out
}
