package redact

import "bytes"

// reporter tells of the keys that rules find in what is not redacted.
type reporter struct {
	ruler  ruler
	line   []byte // that is not told of, zero where it is redacted
	base   int    // of what was taken last, in line
	offset int64  // of line in the input
}

func (r *reporter) take(text []byte) {
	r.base = len(r.line)
	r.line = append(r.line, text...)
}

// blank leaves out a range of what was taken last, which may end behind it.
func (r *reporter) blank(start, end int) {
	clear(r.line[r.base+start : min(r.base+end, len(r.line))])
}

// tell tells of the lines that are complete.
func (r *reporter) tell(final bool, onFinding func(Finding)) {
	done := 0
	for {
		end := lineEnd(r.line, done, r.base, final)
		if end == done {
			break
		}
		for _, h := range r.ruler.find(r.line[done:end]) {
			onFinding(Finding{Name: h.by.name, Encoding: byFormat.String(), Offset: r.offset + int64(done+h.start), Length: h.end - h.start})
		}
		done = end
	}
	r.offset += int64(done)
	r.line = r.line[:copy(r.line, r.line[done:])]
}

// lineEnd returns the end of the line of text that begins at byte i, or i if it
// is not complete. There is no end before byte known.
func lineEnd(text []byte, i, known int, final bool) int {
	limit := min(i+maxLine, len(text))
	known = min(max(i, known), limit)
	switch n := bytes.IndexByte(text[known:limit], '\n'); {
	case n >= 0:
		return known + n + 1
	case final || limit == i+maxLine:
		return limit
	}
	return i
}

// rule finds the keys in the lines that are complete and decided, and returns
// where the others begin.
func (w *Writer) rule(live int) int {
	done := 0
	for {
		end := lineEnd(w.buf, done, 0, w.scan.final)
		if end == done || end > live {
			return done
		}
		for _, h := range w.reporter.ruler.find(w.buf[done:end]) {
			if h.by.owners != nil {
				w.scan.found = append(w.scan.found, match{done + h.start, done + h.end, h.end - h.start, byFormat, h.by.owners})
			} else if w.options.OnFinding != nil {
				w.options.OnFinding(Finding{Name: h.by.name, Encoding: byFormat.String(), Offset: w.offset + int64(done+h.start), Length: h.end - h.start})
			}
		}
		done = end
	}
}
