package agentchains

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestMountTable finds exactly what looking for each value finds, in texts that are
// made of values and of pieces of them.
func TestMountTable(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	table := newMountTable(maphash.MakeSeed())
	values := map[string][]string{} // and the paths of the entries that have them
	header := token(1) + token(2)
	for i := range 5000 {
		value := token(i)
		switch rng.IntN(4) {
		case 0:
			value = header[:rng.IntN(len(header))] + value
		case 1:
			value += header[:rng.IntN(len(header))]
		case 2:
			value = token(rng.IntN(i + 1))[:windowLen+rng.IntN(windowLen)]
		}
		a := address(fmt.Sprintf("prod/project/p%d/NAME_%d", i%70, i))
		table.put(a, []string{value})
		table.put(a, []string{value}) // it is there already
		values[value] = append(values[value], a.Path())
	}
	if n := len(table.entries); n != 5000 {
		t.Errorf("%d addresses", n)
	}
	known := slices.Sorted(maps.Keys(values))
	total := 0
	for range 50 {
		var b strings.Builder
		for range 30 {
			value := known[rng.IntN(len(known))]
			from := rng.IntN(4) / 3 * rng.IntN(len(value))
			b.WriteString(value[from:max(from, len(value)-rng.IntN(4)/3*rng.IntN(8))])
			b.WriteString(" \n=abc"[:rng.IntN(7)])
		}
		text := b.String()
		got, want, effort := map[string]bool{}, map[string]bool{}, mostEffort
		table.search([]byte(text), 0, len(text), &effort, func(start, end int, hash uint64) {
			got[fmt.Sprint(start, end)] = true
			var paths []string
			for _, a := range table.entriesOf(hash, 5000) {
				paths = append(paths, a.Path())
			}
			slices.Sort(paths)
			if has := slices.Sorted(slices.Values(values[text[start:end]])); !slices.Equal(paths, has) {
				t.Errorf("the entries of a value are %v, want %v", paths, has)
			}
		})
		for _, value := range known {
			for from := 0; ; from++ {
				at := strings.Index(text[from:], value)
				if at < 0 {
					break
				}
				from += at
				want[fmt.Sprint(from, from+len(value))] = true
			}
		}
		total += len(want)
		if !maps.Equal(got, want) {
			t.Errorf("found %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
	if total < 500 {
		t.Errorf("only %d values were in the texts", total)
	}
}

// TestMountTableEffort ends a search in a text that is made to be expensive.
func TestMountTableEffort(t *testing.T) {
	t.Parallel()
	table := newMountTable(maphash.MakeSeed())
	window := "0123456789abcDEF"
	for i := range 100 {
		table.put(address(fmt.Sprintf("prod/org/NAME_%d", i)), []string{window + strings.Repeat("-", 1000+i)})
	}
	text := []byte(strings.Repeat(window, maxRedactText/windowLen))
	index, effort := newMountIndex(), mostEffort
	index.search(table, text, &effort, func(int, int, uint64) { t.Error("found") })
	if effort >= 0 {
		t.Errorf("%d of the effort are left", effort)
	}
}

// TestReadingsOfShortLines takes a text of a character in each line, which all goes on.
func TestReadingsOfShortLines(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("Q\n", maxRedactText/2)
	for r := range readings([]byte(text)) {
		if start, end := r.origin(len(r.text)-1, len(r.text)); end <= start || end > len(text) || end < len(text)-16 {
			t.Errorf("%s: %d to %d of %d", r.encoding, start, end, len(text))
		}
	}
}

// TestReadings reads encoded texts back, wherever in a run they begin, with the
// ranges in which each byte stands.
func TestReadings(t *testing.T) {
	t.Parallel()
	plain := token(1) + "~" + token(2)
	lines := func(text string) string {
		return text[:76] + "\r\n" + text[76:]
	}
	for name, encoded := range map[string]string{
		"base64": lines(base64.StdEncoding.EncodeToString([]byte(plain + "?>"))), "hex": lines(hex.EncodeToString([]byte(plain))),
	} {
		for _, before := range []string{"", "a", "ab", "abc", "see ", "é"} {
			text := before + encoded + " end"
			found := 0
			for r := range readings([]byte(text)) {
				at := strings.Index(string(r.text), plain)
				if at < 0 || r.encoding != name {
					continue
				}
				found++
				start, end := r.origin(at, at+len(plain))
				if start != len(before) || end < start+len(plain)*8/r.bits+2 || end > len(text)-len(" end") {
					t.Errorf("%s after %q: %d to %d of %d", name, before, start, end, len(text))
				}
			}
			if found != 1 {
				t.Errorf("%s after %q: read %d times", name, before, found)
			}
		}
	}
	short := base64.StdEncoding.EncodeToString([]byte(plain[:windowLen-1]))
	for r := range readings([]byte(short)) {
		if r.encoding != "raw" {
			t.Error("a run too short for a value is decoded")
		}
	}
}
