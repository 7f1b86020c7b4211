package agentchains

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"strings"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// windowLen is how many bytes of a value it is found by, and so how long a value
// has to be to be found.
const windowLen = 16

// mountTable finds in a text the values of a whole mount, and holds none of them:
// of each it knows keyed hashes of one window and of the whole, and the address
// of its entry. Somebody who knows a part of a value so learns nothing from how
// long a search takes: no entry is read unless the whole is there.
type mountTable struct {
	seed    maphash.Seed
	windows words    // by the hash of the window: where it begins in the value, and the value's length
	filter  []uint64 // one bit for each hash of a window; most other hashes have none
	values  words    // by the hash of the whole: a number of an address

	// Addresses are numbered from 1. Names stand one after the other, because a
	// million strings would take more than all the rest.
	places   []string // with the kind, such as secrets/prod/org
	placeIDs map[string]uint32
	names    []byte
	entries  []tableEntry
}

type tableEntry struct {
	place   uint32
	nameEnd uint32
}

// filterBits is how many bits of the filter there are for each slot of windows. The
// upper half of a hash, which is all that a slot keeps, is enough to choose one.
const filterBits = 16

func newMountTable(seed maphash.Seed) *mountTable {
	t := &mountTable{seed: seed, windows: newWords(), values: newWords(), placeIDs: map[string]uint32{}}
	t.refilter()
	return t
}

// put adds the values of an entry. Those that it had before stay: whoever finds
// one looks whether the entry still has it.
func (t *mountTable) put(a scope.Address, values []string) {
	entry := uint32(0)
	for _, value := range values {
		whole := maphash.String(t.seed, value)
		if t.has(whole, a) {
			continue
		}
		if entry == 0 {
			entry = t.enter(a)
		}
		t.values.add(whole, entry)
		at := window(value)
		hash := maphash.String(t.seed, value[at:at+windowLen])
		slots := len(t.windows.slots)
		t.windows.add(hash, uint32(at)<<16|uint32(len(value)-1))
		if len(t.windows.slots) != slots {
			t.refilter()
		} else {
			t.mark(hash)
		}
	}
}

func (t *mountTable) has(whole uint64, a scope.Address) bool {
	for entry := range t.values.of(whole) {
		if place, name := t.entry(entry); name == a.Name && place == placeID(a) {
			return true
		}
	}
	return false
}

func placeID(a scope.Address) string { return string(a.Kind) + "/" + a.Place.Path() }

// enter numbers an address.
func (t *mountTable) enter(a scope.Address) uint32 {
	id := placeID(a)
	place, known := t.placeIDs[id]
	if !known {
		place = uint32(len(t.places))
		t.places = append(t.places, id)
		t.placeIDs[id] = place
	}
	t.names = append(t.names, a.Name...)
	t.entries = append(t.entries, tableEntry{place, uint32(len(t.names))})
	return uint32(len(t.entries))
}

// entry returns what enter was given.
func (t *mountTable) entry(number uint32) (place, name string) {
	from := uint32(0)
	if number > 1 {
		from = t.entries[number-2].nameEnd
	}
	e := t.entries[number-1]
	return t.places[e.place], string(t.names[from:e.nameEnd])
}

// address returns the address with a number.
func (t *mountTable) address(number uint32) (scope.Address, error) {
	place, name := t.entry(number)
	kind, path, _ := strings.Cut(place, "/")
	return scope.ParseAddress(scope.Kind(kind), path+"/"+name)
}

// bytes returns about how much memory the table takes.
func (t *mountTable) bytes() int {
	const word, placeOverhead = 8, 80
	n := word * (cap(t.windows.slots) + cap(t.filter) + cap(t.values.slots) + cap(t.entries))
	for _, place := range t.places {
		n += 2*len(place) + placeOverhead
	}
	return n + cap(t.names)
}

// mark sets the bit of a window.
func (t *mountTable) mark(hash uint64) {
	at := hash >> t.windows.shift(filterBits)
	t.filter[at/64] |= 1 << (at % 64)
}

// refilter makes the filter fit the slots.
func (t *mountTable) refilter() {
	t.filter = make([]uint64, len(t.windows.slots)*filterBits/64)
	for _, word := range t.windows.slots {
		if word != 0 {
			t.mark(word)
		}
	}
}

// entriesOf returns the addresses of the entries that have or had a value, by its
// hash, at most so many.
func (t *mountTable) entriesOf(hash uint64, most int) []scope.Address {
	var all []scope.Address
	for number := range t.values.of(hash) {
		// What was entered can be parsed.
		if a, err := t.address(number); err == nil && len(all) < most {
			all = append(all, a)
		}
	}
	return all
}

// search finds the values whose windows begin in text[from:to], and gives their
// ranges and hashes. Of effort, which is in bytes, it takes what it looks at beside
// the text itself; when that is used up it ends.
func (t *mountTable) search(text []byte, from, to int, effort *int, found func(start, end int, hash uint64)) {
	shift := t.windows.shift(filterBits)
	for i := from; i < min(to, len(text)-windowLen+1); i++ {
		hash := maphash.Bytes(t.seed, text[i:i+windowLen])
		if at := hash >> shift; t.filter[at/64]>>(at%64)&1 == 0 {
			continue
		}
		for said := range t.windows.of(hash) {
			start := i - int(said>>16)
			end := start + int(said&0xffff) + 1
			if *effort -= windowLen; *effort < 0 {
				return
			}
			if start < 0 || end > len(text) {
				continue
			}
			*effort -= end - start
			whole := maphash.Bytes(t.seed, text[start:end])
			for range t.values.of(whole) {
				found(start, end, whole)
				break
			}
		}
	}
}

// window returns where the window of a value begins: the first one with the most
// different bytes. What many values have in common, such as the header of a JWT or
// the host of a URL, has fewer, and would be found everywhere.
func window(value string) int {
	var counts [256]int
	different, most, best := 0, 0, 0
	for i := range len(value) {
		if counts[value[i]]++; counts[value[i]] == 1 {
			different++
		}
		if i >= windowLen {
			gone := value[i-windowLen]
			if counts[gone]--; counts[gone] == 0 {
				different--
			}
		}
		if i >= windowLen-1 && different > most {
			most, best = different, i-windowLen+1
		}
	}
	return best
}

// words is a hash table of 64-bit words, of which the upper half is of a hash, by
// which a word is found, and the lower one says something, which is never 0.
type words struct {
	slots []uint64 // a power of two
	n     int
}

func newWords() words { return words{slots: make([]uint64, 1<<10)} }

// shift is for the place of a hash among so many times the slots.
func (w *words) shift(times int) int { return bits.LeadingZeros64(uint64(len(w.slots)*times - 1)) }

func (w *words) add(hash uint64, says uint32) {
	const most = 3.0 / 4 // of the slots that are used
	if float64(w.n+1) > most*float64(len(w.slots)) {
		old := w.slots
		w.slots, w.n = make([]uint64, 2*len(old)), 0
		for _, word := range old {
			if word != 0 {
				w.insert(word)
			}
		}
	}
	w.insert(hash&^(1<<32-1) | uint64(says))
}

func (w *words) insert(word uint64) {
	at := word >> w.shift(1)
	for ; w.slots[at] != 0; at = (at + 1) & uint64(len(w.slots)-1) {
		if w.slots[at] == word {
			return
		}
	}
	w.slots[at] = word
	w.n++
}

// of returns what the words of a hash say.
func (w *words) of(hash uint64) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for at := hash >> w.shift(1); w.slots[at] != 0; at = (at + 1) & uint64(len(w.slots)-1) {
			if word := w.slots[at]; word>>32 == hash>>32 && !yield(uint32(word)) {
				return
			}
		}
	}
}
