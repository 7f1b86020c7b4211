package redact

import (
	"bytes"
	"sort"
)

// view is text without line breaks and, if asked for, without terminal
// sequences, with the way back to where its bytes came from.
type view struct {
	text   []byte
	inWord bool   // what comes before the text ends in a byte of a word
	seams  []seam // ascending, at most one at each place
	raw    int    // length of what it is the view of
	own    []byte // what text is in when something was left out
}

// seam is a place where something was left out of a view.
type seam struct {
	at    int  // before this byte of the view
	raw   int  // which is this byte of the original
	lines bool // a line break was left out
}

// fill makes v the view of raw, whose first byte comes in state p. With escapes,
// terminal sequences are left out too.
func (v *view) fill(raw []byte, p parser, escapes bool) {
	v.text, v.seams, v.raw, v.own = nil, v.seams[:0], len(raw), v.own[:0]
	if !escapes {
		p = text
	}
	next := [...]struct {
		b  byte
		at int
	}{{'\n', -1}, {'\r', -1}, {esc, -1}}
	if !escapes {
		next[2].at = len(raw)
	}
	for from := 0; from < len(raw); {
		if p != text && p != last {
			b := raw[from]
			if p = p.next(b); p == text && !isBreak(b) {
				v.keep(raw, from, from+1)
			} else {
				v.cut(from+1, isBreak(b))
			}
			from++
			continue
		}
		to := len(raw)
		for i := range next {
			if next[i].at < from {
				next[i].at = find(raw, from, next[i].b)
			}
			to = min(to, next[i].at)
		}
		v.keep(raw, from, to)
		if from = to + 1; to < len(raw) {
			if raw[to] == esc {
				p = escape
			}
			v.cut(from, isBreak(raw[to]))
		}
	}
}

// find returns the place of the first b in raw[from:], else the end.
func find(raw []byte, from int, b byte) int {
	if at := bytes.IndexByte(raw[from:], b); at >= 0 {
		return from + at
	}
	return len(raw)
}

// keep adds raw[from:to]. As long as nothing was left out, the view is the
// original itself.
func (v *view) keep(raw []byte, from, to int) {
	switch {
	case from == to:
	case len(v.seams) == 0:
		v.text = raw[:to]
	default:
		if len(v.own) == 0 {
			v.own = append(v.own, v.text...)
		}
		v.own = append(v.own, raw[from:to]...)
		v.text = v.own
	}
}

// cut notes that what comes next is at raw.
func (v *view) cut(raw int, lines bool) {
	at := len(v.text)
	if last := len(v.seams) - 1; last >= 0 && v.seams[last].at == at {
		v.seams[last].raw = raw
		v.seams[last].lines = v.seams[last].lines || lines
		return
	}
	v.seams = append(v.seams, seam{at, raw, lines})
}

// origin returns where byte i of the view is in the original.
func (v *view) origin(i int) int {
	k := v.seamAfter(i) - 1
	if k < 0 {
		return i
	}
	return v.seams[k].raw + i - v.seams[k].at
}

// seamAfter returns the index of the first seam behind byte i of the view.
func (v *view) seamAfter(i int) int {
	return sort.Search(len(v.seams), func(k int) bool { return v.seams[k].at > i })
}

// whole returns how far the text from byte i on is free of seams.
func (v *view) whole(i int) int {
	if k := v.seamAfter(i); k < len(v.seams) {
		return v.seams[k].at
	}
	return len(v.text)
}

// seam reports whether something was left out before byte i.
func (v *view) seam(i int) bool {
	k := v.seamAfter(i) - 1
	return k >= 0 && v.seams[k].at == i
}

// boundary reports whether byte i does not continue a word.
func (v *view) boundary(i int) bool {
	if i == 0 && v.inWord || i > 0 && isWord(v.text[i-1]) {
		return v.seam(i)
	}
	return true
}

// broken reports whether there is a line break behind byte i and before i+gramLen.
func (v *view) broken(i int) bool {
	for k := v.seamAfter(i); k < len(v.seams) && v.seams[k].at < i+gramLen; k++ {
		if v.seams[k].lines {
			return true
		}
	}
	return false
}

// window returns the end of what a match that begins at byte i may cover, and
// whether more of it may come.
func (v *view) window(i int) (end int, more bool) {
	limit := v.origin(i) + maxSpan
	if v.raw < limit {
		return len(v.text), true
	}
	return sort.Search(len(v.text), func(k int) bool { return v.origin(k) >= limit }), false
}

func isBreak(b byte) bool { return b == '\n' || b == '\r' }

// parser follows terminal sequences. Its value is what the last byte belonged to.
type parser uint8

const (
	text      parser = iota
	escape           // ESC
	between          // ESC and intermediate bytes
	control          // ESC [ and parameters
	command          // ESC ], up to BEL or ESC \
	commandIn        // ESC inside of that
	last             // the end of a sequence
)

const esc = 0x1b

func (p parser) next(b byte) parser {
	switch p {
	case escape:
		switch {
		case b == '[':
			return control
		case b == ']':
			return command
		case b >= 0x20 && b <= 0x2f:
			return between
		case b >= 0x30 && b <= 0x7e:
			return last
		}
	case between:
		switch {
		case b >= 0x20 && b <= 0x2f:
			return between
		case b >= 0x30 && b <= 0x7e:
			return last
		}
	case control:
		switch {
		case b >= 0x20 && b <= 0x3f:
			return control
		case b >= 0x40 && b <= 0x7e:
			return last
		}
	case command:
		switch {
		case b == 0x07:
			return last
		case b == esc:
			return commandIn
		case !isBreak(b):
			return command
		}
	case commandIn:
		if b == '\\' {
			return last
		}
	}
	if b == esc {
		return escape
	}
	return text
}

// over returns the state after raw.
func (p parser) over(raw []byte) parser {
	for len(raw) > 0 {
		n := 1
		if p == text || p == last {
			if n += bytes.IndexByte(raw, esc); n == 0 {
				return text
			}
		}
		p, raw = p.next(raw[n-1]), raw[n:]
	}
	return p
}
