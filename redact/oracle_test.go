package redact

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// seen is a byte of a view and where it is in the text.
type seen struct {
	b  byte
	at int
}

// expect says by brute force which ranges of a text are redacted, and by whom.
// It shares with the code under test only the forms and the parser of terminal
// sequences.
func expect(text string, secrets []Secret) string {
	type hit struct {
		start, end, size int
		names            []string
	}
	var hits []hit
	for _, escapes := range []bool{false, true} {
		v, bytes, state := []seen(nil), []byte(nil), parser(0)
		for i := range len(text) {
			state = state.next(text[i])
			if text[i] != '\n' && text[i] != '\r' && !(escapes && state != 0) {
				v, bytes = append(v, seen{text[i], i}), append(bytes, text[i])
			}
		}
		add := func(i, n int, name string) {
			if v[i+n-1].at-v[i].at >= maxSpan {
				return
			}
			hits = append(hits, hit{v[i].at, v[i+n-1].at + 1, n, []string{name}})
		}
		// together reports whether no line break stands in the first 8 bytes.
		together := func(i int) bool {
			for k := i; k < len(v)-1 && k < i+7; k++ {
				if strings.ContainsAny(text[v[k].at:v[k+1].at], "\r\n") {
					return false
				}
			}
			return true
		}
		for _, s := range secrets {
			if unfit(s) != "" {
				continue
			}
			for _, form := range variants(s) {
				f := strings.NewReplacer("\r", "", "\n", "").Replace(form.text)
				starts := []int{0}
				for at := 1; form.tail > 0 && at < 8 && at+form.tail <= len(f); at++ {
					if !form.random || at+16 > len(f) || !distinctive(f[at:at+16]) {
						starts = append(starts, at)
					}
				}
				for _, from := range starts {
					early := breakAfter(form.text, from)
					f := f[from:]
					for i := range all(string(bytes), f) {
						n := len(f)
						switch {
						case n >= 8 && (together(i) || early):
							add(i, n, s.Name)
						case n < 8 && v[i+n-1].at == v[i].at+n-1:
							before := i == 0 || v[i-1].at < v[i].at-1 || !isWord(v[i-1].b)
							after := i+n == len(v) || v[i+n].at > v[i+n-1].at+1 || !isWord(v[i+n].b)
							if before && after {
								add(i, n, s.Name)
							}
						}
					}
				}
				if !form.random {
					continue
				}
				for i := 0; i+16 <= len(v); i++ {
					if !together(i) {
						continue
					}
					for at := range all(f, string(bytes[i:i+16])) {
						n := 0
						for at+n < len(f) && i+n < len(v) && v[i+n].b == f[at+n] && v[i+n].at-v[i].at < maxSpan {
							n++
						}
						if n >= 16 && distinctive(f[at:at+16]) {
							add(i, n, s.Name)
						}
					}
				}
			}
		}
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Compare(a.start, b.start) })
	var b strings.Builder
	at := 0
	for i := 0; i < len(hits); {
		h := hits[i]
		for i++; i < len(hits) && hits[i].start < h.end; i++ {
			h.end = max(h.end, hits[i].end)
			switch {
			case hits[i].size > h.size:
				h.size, h.names = hits[i].size, hits[i].names
			case hits[i].size == h.size:
				h.names = append(h.names, hits[i].names...)
			}
		}
		slices.Sort(h.names)
		fmt.Fprintf(&b, "%s[REDACTED:%s]", text[at:h.start], strings.Join(slices.Compact(h.names), ","))
		at = h.end
	}
	return b.String() + text[at:]
}

// all returns where part is in text.
func all(text, part string) iter.Seq[int] {
	return func(yield func(int) bool) {
		for at := 0; ; at++ {
			next := strings.Index(text[at:], part)
			if next < 0 {
				return
			}
			if at += next; !yield(at) {
				return
			}
		}
	}
}

// breakAfter reports whether a form has a line break within the 8 bytes that
// begin at a byte of it, counted without line breaks.
func breakAfter(form string, from int) bool {
	form = strings.Trim(form, "\r\n")
	n := 0
	for i := range len(form) {
		if !strings.ContainsRune("\r\n", rune(form[i])) {
			n++
		} else if n > from && n < from+8 {
			return true
		}
	}
	return false
}

// run writes text in chunks that end at the cuts.
func run(set *Set, text string, cuts ...int) (string, []Finding) {
	var (
		out   bytes.Buffer
		found []Finding
	)
	w := NewWriter(&out, set, Options{OnFinding: func(f Finding) { found = append(found, f) }})
	at := 0
	for _, cut := range append(cuts, len(text)) {
		if _, err := w.Write([]byte(text[at:cut])); err != nil {
			panic(err)
		}
		at = cut
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.String(), found
}

// agree compares with the oracle, whole and in chunks.
func agree(t *testing.T, secrets []Secret, text string, chunkings ...[]int) {
	t.Helper()
	set := NewSet(secrets...)
	want := expect(text, secrets)
	whole, found := run(set, text)
	if whole != want {
		t.Fatalf("%+q in %+q\n gives %+q\n  want %+q", values(secrets), text, whole, want)
	}
	for _, cuts := range chunkings {
		got, parts := run(set, text, cuts...)
		if got != want {
			t.Fatalf("%+q in %+q cut at %d\n gives %+q\n  want %+q", values(secrets), text, cuts, got, want)
		}
		if !slices.Equal(parts, found) {
			t.Fatalf("%+q in %+q cut at %d\n finds %+v\n whole %+v", values(secrets), text, cuts, parts, found)
		}
	}
}

func values(secrets []Secret) (v []string) {
	for _, s := range secrets {
		v = append(v, s.Value)
	}
	return v
}

// TestAll tries every text over two letters with every way to cut it.
func TestAll(t *testing.T) {
	t.Parallel()
	sets := map[string][]string{
		"ab":  {"aaaaaaaa"},
		"ba":  {"abababab", "babababaa"},
		"aB":  {"aaaaaaaa", "aaaaaaaaB", "aaaaBaaa", "BaaaaaaaB"},
		"a-":  {"a", "aa-a", "-a-"},
		"a\n": {"aaaaaaaa", "a\naaaaaaa"},
		"a_":  {"aaaaaaaa", "a_"},
	}
	const size = 10
	for letters, secrets := range sets {
		t.Run(letters, func(t *testing.T) {
			t.Parallel()
			var list []Secret
			for i, v := range secrets {
				list = append(list, Secret{Name: fmt.Sprint("S", i), Value: v, Force: true})
			}
			set := NewSet(list...)
			text := make([]byte, size)
			for n := range 1 << size {
				for i := range text {
					text[i] = letters[n>>i&1]
				}
				want := expect(string(text), list)
				for cuts := range 1 << (size - 1) {
					var at [size]int
					ends := at[:0]
					for i := range size - 1 {
						if cuts>>i&1 == 1 {
							ends = append(ends, i+1)
						}
					}
					if got, _ := run(set, string(text), ends...); got != want {
						t.Fatalf("%q in %q cut at %d\n gives %q\n  want %q", secrets, text, ends, got, want)
					}
				}
			}
		})
	}
}

// TestRandom compares with the oracle on texts made of what is close to a value.
func TestRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			for n := range uint64(100) {
				random := rand.New(rand.NewPCG(seed, n))
				data := make([]byte, 400)
				for i := range data {
					data[i] = byte(random.Uint32())
				}
				fuzz(t, data)
			}
		})
	}
}

func FuzzWriter(f *testing.F) {
	f.Add([]byte("abc"))
	f.Fuzz(func(t *testing.T, data []byte) { fuzz(t, data) })
}

// fuzz makes secrets, a text close to them and chunks out of data.
func fuzz(t *testing.T, data []byte) {
	next := func(below int) int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b) % below
	}
	alphabet := []string{"ab", "aB1cD2", "aB1cD2\n", "[REDACTED:0]", "ab-\x1b[m\r"}[next(5)]
	letters := func(n int) string {
		s := make([]byte, n)
		for i := range s {
			s[i] = alphabet[next(len(alphabet))]
		}
		return string(s)
	}
	var secrets []Secret
	for i := range 1 + next(4) {
		s := Secret{Name: string(rune('A' + i)), Value: letters(1 + next(24)), Force: true}
		if i > 0 && next(3) == 0 {
			s.Value = secrets[i-1].Value[next(len(secrets[i-1].Value)):] + s.Value
		}
		secrets = append(secrets, s)
	}
	var text strings.Builder
	for len(data) > 0 && text.Len() < 300 {
		v := secrets[next(len(secrets))].Value
		switch next(7) {
		case 0:
			text.WriteString(v)
		case 1:
			text.WriteString(v[next(len(v)):])
		case 2:
			text.WriteString(v[:next(len(v))])
		case 3:
			at := next(len(v))
			text.WriteString(v[:at] + []string{"\n", "\r\n", "\x1b[31m", "\x1b]0;t\a", "\x1b", "-"}[next(6)] + v[at:])
		case 4:
			text.WriteString(letters(next(10)))
		case 5:
			text.WriteString([]string{"\n", " ", "\x1b[", "\x1b]", "\r", "--"}[next(6)])
		case 6:
			at := next(len(v))
			text.WriteString(v[:at] + v[:next(at+1)])
		}
	}
	random := rand.New(rand.NewPCG(uint64(text.Len()), 1))
	var chunkings [][]int
	for _, step := range []int{1, 2, 3, 7, 20, 60} {
		var cuts []int
		for at := 0; ; {
			if at += 1 + random.IntN(step); at >= text.Len() {
				break
			}
			cuts = append(cuts, at)
		}
		chunkings = append(chunkings, cuts)
	}
	agree(t, secrets, text.String(), chunkings...)
}
