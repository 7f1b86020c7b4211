package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

var (
	errReplaced = errors.New("it was replaced or shortened while it was read")
	errTooMuch  = fmt.Errorf("the files of events are larger than %d MiB", maxEventBytes>>20)
)

// An eventFile is one file of the agent, and its copy.
type eventFile struct {
	name  string
	grows bool // it is published while the agent adds to it

	info  fs.FileInfo // of the file, when it was read first
	at    int64       // so much of it was read
	copy  *os.File
	found *found // since it was last counted
	err   error

	text  *redact.Writer // of one that grows, unless it has lines of JSON
	lines *jsonLines
	long  bool // the end of a line is missing that is too long to be taken for JSON
}

func newEventFile(name string) *eventFile {
	f := &eventFile{name: name, found: &found{counts: map[match]int{}}}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".jsonl", ".ndjson", ".log":
		f.grows = true
	}
	return f
}

// read publishes what is new. After an error it does nothing.
func (f *eventFile) read(e *events, last bool) {
	if f.err == nil {
		f.err = f.tryRead(e, last)
	}
}

func (f *eventFile) tryRead(e *events, last bool) error {
	// It may have become a pipe since, which must not block.
	in, err := e.from.OpenFile(f.name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the agent has taken it away
	}
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular(), f.info != nil && !os.SameFile(info, f.info), info.Size() < f.at:
		return errReplaced
	case f.info == nil:
		if f.copy, err = e.to.OpenFile(f.draft(), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600); err != nil {
			return err
		}
		f.info = info
		f.begin(e.redactor)
	}
	size := info.Size() - f.at
	n, err := f.redact(e.redactor, io.NewSectionReader(in, f.at, min(size, e.left)), last)
	f.at += n
	if err == nil && e.left < size {
		err = errTooMuch
	}
	e.left -= n
	return err
}

// draft is the name of the copy until it is whole. What grows has none.
func (f *eventFile) draft() string {
	if f.grows {
		return f.name
	}
	return "." + f.name + ".draft"
}

func (f *eventFile) begin(r *redactor) {
	switch {
	case !f.grows:
	case strings.EqualFold(filepath.Ext(f.name), ".log"):
		f.text = r.writer(f.copy, f.found)
	default:
		f.lines = &jsonLines{r: r, to: f.copy, f: f.found}
	}
}

// redact returns how much it has taken of what is new.
func (f *eventFile) redact(r *redactor, from io.Reader, last bool) (n int64, err error) {
	switch {
	case f.text != nil:
		return io.Copy(f.text, from)
	case f.lines != nil:
		return f.redactLines(bufio.NewReaderSize(from, 64<<10), last)
	}
	f.found, err = r.copy(f.copy, from, f.name)
	return f.found.bytes, err
}

// redactLines leaves a line that has no end yet, unless none will come.
func (f *eventFile) redactLines(from *bufio.Reader, last bool) (n int64, err error) {
	var line []byte
	for err == nil {
		line, err = nextLine(from, line[:0])
		end, part := err == io.EOF, err == bufio.ErrBufferFull
		switch {
		case err != nil && !end && !part:
			return n, err
		case end && !last:
			return n, nil
		case f.long || part:
			err = f.lines.asText(line)
		default:
			err = f.lines.line(line)
		}
		f.long = part
		n += int64(len(line))
		if end {
			return n, err
		}
	}
	return n, err
}

// finish completes the copy, and returns what went wrong with it. Of a copy that is
// not complete, what may be the beginning of a secret is not written.
func (f *eventFile) finish(to *os.Root) error {
	if f.copy == nil {
		return f.err
	}
	switch {
	case f.err != nil:
	case f.text != nil:
		f.err = f.text.Close()
	case f.lines != nil:
		f.err = f.lines.end()
	}
	if f.err == nil {
		f.err = f.copy.Sync()
	}
	f.err = errors.Join(f.err, f.copy.Close())
	if f.grows {
		return f.err
	}
	if f.err == nil {
		// Unlike a rename, this replaces nothing.
		f.err = to.Link(f.draft(), f.name)
	}
	return errors.Join(f.err, to.Remove(f.draft()))
}
