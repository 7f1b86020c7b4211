package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// How a text is redacted.
const (
	auto        = "auto" // by the end of the file's name
	asText      = "text"
	asDocuments = "json"
	asLines     = "jsonl"
)

// mostJSON is how long a JSON document, or a line of JSON Lines, may be: it is
// held as a whole.
const mostJSON = 16 << 20

// A redactor redacts texts, and files that hold them.
type redactor struct {
	set      *redact.Set
	format   string
	live     bool // the reader waits for each byte
	check    bool // files stay as they are
	signals  chan os.Signal
	summary  *summary
	progress progress
}

// A match is something that was found in a text.
type match struct {
	name, encoding string
	redacted       bool
}

// What was found in a text, and what is to be said of the text.
type found struct {
	counts map[match]int
	bytes  int64 // of the text
	notes  []string
}

func (f *found) add(matches ...redact.Finding) {
	for _, m := range matches {
		f.counts[match{m.Name, m.Encoding, m.Redacted}]++
	}
}

// redacted reports whether the text comes out changed.
func (f *found) redacted() bool {
	for m := range f.counts {
		if m.redacted {
			return true
		}
	}
	return false
}

// copy redacts one text, in the format that its name or the user tells.
func (r *redactor) copy(to io.Writer, from io.Reader, name string) (*found, error) {
	f := &found{counts: map[match]int{}}
	from = &source{from, r, f}
	format := r.format
	if format == auto {
		switch strings.ToLower(filepath.Ext(name)) {
		case ".json":
			format = asDocuments
		case ".jsonl", ".ndjson":
			format = asLines
		}
	}
	switch format {
	case asDocuments:
		return f, r.documents(to, from, f)
	case asLines:
		return f, r.lines(to, from, f)
	}
	return f, r.text(to, from, f)
}

// source is a text that is being read: it counts, and ends with a signal.
type source struct {
	io.Reader
	r *redactor
	f *found
}

func (s *source) Read(p []byte) (int, error) {
	select {
	case sig := <-s.r.signals:
		return 0, interrupted{sig}
	default:
	}
	n, err := s.Reader.Read(p)
	s.f.bytes += int64(n)
	s.r.progress.read(n, s.r.summary.Files)
	return n, err
}

// interrupted is the error after a signal.
type interrupted struct{ os.Signal }

func (i interrupted) Error() string { return "stopped by signal: " + i.String() }

func (r *redactor) text(to io.Writer, from io.Reader, f *found) error {
	if r.live {
		s := newStream(to, r.set, func(m redact.Finding) { f.add(m) })
		_, err := io.Copy(s, from)
		return cmp.Or(err, s.close())
	}
	w := r.writer(to, f)
	_, err := io.Copy(w, from)
	return cmp.Or(err, w.Close())
}

func (r *redactor) writer(to io.Writer, f *found) *redact.Writer {
	return redact.NewWriter(to, r.set, redact.Options{OnFinding: func(m redact.Finding) { f.add(m) }})
}

// documents redacts JSON documents, one after the other.
func (r *redactor) documents(to io.Writer, from io.Reader, f *found) error {
	doc, err := io.ReadAll(io.LimitReader(from, mostJSON+1))
	if err != nil {
		return err
	}
	if len(doc) > mostJSON {
		f.notes = append(f.notes, "is longer than 16 MiB: redacted as text")
		return r.text(to, io.MultiReader(bytes.NewReader(doc), from), f)
	}
	out, matches, err := r.set.JSON(doc)
	if err != nil {
		f.notes = append(f.notes, "is not JSON: redacted as text")
		return r.text(to, bytes.NewReader(doc), f)
	}
	f.add(matches...)
	_, err = to.Write(out)
	return err
}

// lines redacts JSON Lines.
func (r *redactor) lines(to io.Writer, from io.Reader, f *found) error {
	l := jsonLines{r: r, to: to, f: f}
	in := bufio.NewReaderSize(from, 64<<10)
	var line []byte
	for whole := true; ; {
		var err error
		line, err = nextLine(in, line[:0])
		part, last := errors.Is(err, bufio.ErrBufferFull), errors.Is(err, io.EOF)
		switch {
		case err != nil && !part && !last:
			return cmp.Or(err, l.end())
		case whole && !part:
			err = l.line(line)
		default:
			if whole {
				l.others++
			}
			err = l.asText(line)
		}
		if err != nil {
			return err
		}
		if whole = !part; last {
			break
		}
	}
	if l.others > 0 {
		f.notes = append(f.notes, fmt.Sprintf("lines redacted as text, since they are not JSON or too long: %d", l.others))
	}
	return l.end()
}

// nextLine reads a line, or the first part of a longer one: bufio.ErrBufferFull.
func nextLine(in *bufio.Reader, line []byte) ([]byte, error) {
	for {
		piece, err := in.ReadSlice('\n')
		line = append(line, piece...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > mostJSON-in.Size() {
			return line, err
		}
	}
}

// jsonLines are being redacted, one after the other.
type jsonLines struct {
	r      *redactor
	to     io.Writer
	f      *found
	others int // that are not JSON

	// text takes the lines that are not JSON, until one is: a secret may be spread
	// over several.
	text *redact.Writer
}

func (l *jsonLines) line(line []byte) error {
	if len(bytes.TrimSpace(line)) == 0 {
		return l.asText(line)
	}
	out, matches, err := l.r.set.JSON(line)
	if err != nil {
		l.others++
		return l.asText(line)
	}
	if err := l.end(); err != nil {
		return err
	}
	l.f.add(matches...)
	_, err = l.to.Write(out)
	return err
}

func (l *jsonLines) asText(line []byte) error {
	if l.text == nil {
		l.text = l.r.writer(l.to, l.f)
	}
	_, err := l.text.Write(line)
	return err
}

func (l *jsonLines) end() error {
	if l.text == nil {
		return nil
	}
	err := l.text.Close()
	l.text = nil
	return err
}
