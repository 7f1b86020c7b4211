package redact

import (
	"bytes"
	"cmp"
	"io"
	"slices"
	"strings"
)

// maxWrite is how much of a Write is looked at in one go.
const maxWrite = 32 << 10

// Options change what a Writer does.
type Options struct {
	// Strict makes Flush hold back what a Write holds back.
	Strict bool
	// OnFinding is called for each finding, by Write or Close: for those that are
	// redacted in the order of offsets, for the others once their line is complete.
	OnFinding func(Finding)
}

// Writer redacts what is written to it. It holds back what may be the beginning
// of a form, 16 KiB at most and with All 24 KiB, so it must be closed. It is for
// one goroutine.
type Writer struct {
	to      io.Writer
	set     *Set
	options Options
	err     error

	buf    []byte // from the first byte that is not decided
	offset int64  // of buf in the input
	sent   int    // of buf, released by Flush
	open   span
	before [2]bool // the views of buf begin within a word
	parser parser  // state in which buf begins

	known    int // of buf, was looked at
	scan     scanner
	held     view // for Flush
	out      []byte
	reporter reporter
}

// span is a redacted range that may still grow.
type span struct {
	active bool
	marked bool // its marker is out
	start  int64
	end    int // in buf
	hits   []hit
}

// hit is a secret in a span, with its longest match.
type hit struct {
	secret   *Secret
	encoding encoding
	size     int
}

// NewWriter returns a Writer that redacts the secrets of set and writes to w.
func NewWriter(w io.Writer, set *Set, o Options) *Writer {
	return &Writer{to: w, set: set, options: o}
}

// Write redacts p. An error is that of the writer behind, and stays.
func (w *Writer) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) && w.err == nil {
		n := min(len(p)-written, maxWrite)
		w.buf = append(w.buf, p[written:written+n]...)
		w.advance(false)
		written += n
	}
	return written, w.err
}

// Close writes what was held back, redacted. It does not close the writer behind.
func (w *Writer) Close() error {
	if w.err == nil {
		w.advance(true)
	}
	return w.err
}

// Flush is for when no input has come for a while. It writes the marker of a
// range that may still grow, and what may be the beginning of a form as long as
// that shows no more than 3 bytes of it, in all, and no more than a tenth of any
// value; of what may be the beginning of a key of a known format, no more than 3
// bytes behind its prefix, or 5 digits. The rest of it is still redacted when it
// comes. A strict Writer ignores Flush.
func (w *Writer) Flush() error {
	if w.options.Strict || w.err != nil {
		return w.err
	}
	from := 0
	if w.open.active {
		w.mark()
		w.sent = max(w.sent, w.open.end)
		from = w.open.end
	}
	if w.sent < len(w.buf) && w.harmless(from) {
		w.out = append(w.out, w.buf[w.sent:]...)
		w.sent = len(w.buf)
	}
	w.send(w.out)
	return w.err
}

// harmless reports whether what is undecided from byte i on shows next to nothing
// of what it may be the beginning of, whether it was sent already or not.
func (w *Writer) harmless(i int) bool {
	const most, mostDigits = 3, 5 // a port is no password
	w.held.fill(w.buf[i:], w.parser.over(w.buf[:i]), true)
	held := w.held.text
	if !w.scan.byFormat {
		return len(held) <= min(most, w.set.now.Load().shortest/10)
	}
	key := held[len(held)-min(w.scan.next.shown, len(held)):]
	return len(key) <= most || len(key) <= mostDigits && !bytes.ContainsFunc(key, func(r rune) bool { return r < '0' || r > '9' })
}

// advance decides as much of buf as it can, and writes it.
func (w *Writer) advance(final bool) {
	now := w.set.now.Load()
	if !final && now == w.scan.set && w.goesOn() {
		return
	}
	live := w.look(now, final)
	report := now.what == Precise && w.options.OnFinding != nil
	if report {
		w.reporter.take(w.buf[:live])
		if w.open.active {
			w.reporter.blank(0, w.open.end)
		}
	}
	for _, m := range w.scan.found {
		if m.start >= live {
			continue
		}
		w.cover(m)
		if report {
			w.reporter.blank(m.start, m.end)
		}
	}
	if report {
		w.reporter.tell(final, w.options.OnFinding)
	}
	if w.open.active && w.open.end <= live {
		w.close()
	}
	clear := w.buf[min(w.sent, live):live]
	switch {
	case w.open.active:
		w.send(w.out)
	case len(w.out) == 0:
		w.send(clear)
	default:
		w.out = append(w.out, clear...)
		w.send(w.out)
	}
	w.forget(live)
}

// goesOn reports whether what has come since buf was looked at is what leaves it
// undecided.
func (w *Writer) goesOn() bool {
	if len(w.buf) >= maxSpan {
		return false
	}
	for _, b := range w.buf[w.known:] {
		if !w.scan.next.take(b) {
			return false
		}
	}
	w.known = len(w.buf)
	return true
}

// look finds the matches in buf, in the order of their starts, and returns where
// what is not decided begins.
func (w *Writer) look(now *compiled, final bool) (live int) {
	s := &w.scan
	s.set, s.final, s.found = now, final, s.found[:0]
	s.view.fill(w.buf, text, false)
	s.view.inWord = w.before[0]
	live = s.scan()
	escapes := w.parser != text || find(w.buf, 0, esc) < len(w.buf)
	if escapes {
		// A terminal sequence may be part of a value, or stand in the middle of it.
		s.view.fill(w.buf, w.parser, true)
		s.view.inWord = w.before[1]
		live = min(live, s.scan())
	}
	if now.what == All {
		live = w.rule(live)
	}
	if escapes || now.what == All {
		s.next, s.byFormat = expected{}, false
		slices.SortStableFunc(s.found, func(a, b match) int { return cmp.Compare(a.start, b.start) })
	}
	return live
}

// cover redacts a match. They come in the order of their starts.
func (w *Writer) cover(m match) {
	if w.open.active && m.start >= w.open.end {
		w.close()
	}
	if !w.open.active {
		w.out = append(w.out, w.buf[min(w.sent, m.start):m.start]...)
		w.sent = max(w.sent, m.start)
		w.open = span{active: true, start: w.offset + int64(m.start), hits: w.open.hits[:0]}
	}
	w.open.end = max(w.open.end, m.end)
	for _, o := range m.owners {
		at := slices.IndexFunc(w.open.hits, func(h hit) bool { return h.secret == o.secret })
		switch {
		case at < 0:
			w.open.hits = append(w.open.hits, hit{o.secret, m.encoding, m.size})
		case w.open.hits[at].size < m.size:
			w.open.hits[at].encoding, w.open.hits[at].size = m.encoding, m.size
		}
	}
}

// close ends the open span.
func (w *Writer) close() {
	w.mark()
	w.sent = max(w.sent, w.open.end)
	w.open.active = false
	if w.options.OnFinding == nil {
		return
	}
	length := int(w.offset + int64(w.open.end) - w.open.start)
	for _, h := range w.open.hits {
		w.options.OnFinding(Finding{h.secret.Name, h.secret.Version, h.encoding.String(), w.open.start, length, true})
	}
}

// mark writes the marker of the open span, with the names of its longest match.
func (w *Writer) mark() {
	if w.open.marked {
		return
	}
	w.open.marked = true
	slices.SortFunc(w.open.hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(b.size, a.size), strings.Compare(a.secret.Name, b.secret.Name), cmp.Compare(a.secret.Version, b.secret.Version))
	})
	w.out = append(w.out, "[REDACTED:"...)
	for i, h := range w.open.hits {
		if h.size < w.open.hits[0].size {
			break
		}
		if i > 0 && h.secret.Name == w.open.hits[i-1].secret.Name {
			continue
		}
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.out = append(w.out, h.secret.Name...)
	}
	w.out = append(w.out, ']')
}

// forget drops the first n bytes of buf, which are decided and, outside of the
// open span, sent.
func (w *Writer) forget(n int) {
	w.known = len(w.buf) - n
	if n == 0 {
		return
	}
	first, state := w.buf[:n], w.parser.over(w.buf[:n])
	word := isWord(first[n-1])
	w.before = [2]bool{word, word && state == text}
	w.parser = state
	w.buf = w.buf[:copy(w.buf, w.buf[n:])]
	w.offset += int64(n)
	w.sent = max(0, w.sent-n)
	w.open.end -= n
}

func (w *Writer) send(text []byte) {
	if len(text) > 0 {
		_, w.err = w.to.Write(text)
	}
	w.out = w.out[:0]
}
