package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// eventsVariable names the directory where the agent leaves its files of events.
const eventsVariable = "AGENTCHAINS_EVENTS_DIR"

const (
	maxEventFiles = 1000
	maxEventBytes = 1 << 30 // of all files
	eventsPause   = time.Second
)

// events are the files that an agent leaves in a private directory, and their
// redacted copies in another one, for others to read.
type events struct {
	private *privateDir
	from    *os.Root // the same
	to      *os.Root

	redactor *redactor
	findings *findings

	files   map[string]*eventFile
	left    int64          // bytes that may still be read
	refused map[string]int // what is in the private directory and not a file of events, by why

	stop    chan struct{}
	follows sync.WaitGroup
}

// newEvents takes a directory for the copies, which must be empty, or not there.
func newEvents(dir string) (_ *events, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("%s is not empty, and no file is ever replaced", dir)
	}
	e := &events{files: map[string]*eventFile{}, left: maxEventBytes, refused: map[string]int{}, stop: make(chan struct{})}
	if e.to, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	if e.private, err = newPrivateDir(); err != nil {
		return nil, err
	}
	if e.from, err = os.OpenRoot(e.private.path()); err != nil {
		return nil, errors.Join(err, e.private.remove())
	}
	return e, nil
}

// follow publishes files of lines while the agent writes them, and all files when
// it has ended.
func (e *events) follow(set *redact.Set, findings *findings) {
	e.redactor = &redactor{set: set, format: auto, summary: newSummary(set, false)}
	e.findings = findings
	e.follows.Go(func() {
		ticker := time.NewTicker(eventsPause)
		defer ticker.Stop()
		for last := false; !last; {
			select {
			case <-ticker.C:
			case <-e.stop:
				last = true
			}
			e.publish(last)
		}
	})
}

// finish is for when the agent has ended. It publishes the rest, removes the
// private directory, and returns what could not be done.
func (e *events) finish() (errs []error) {
	close(e.stop)
	e.follows.Wait()
	failed := map[string][]string{} // names by why
	for _, name := range slices.Sorted(maps.Keys(e.files)) {
		f := e.files[name]
		if err := f.finish(e.to); err != nil {
			failed[err.Error()] = append(failed[err.Error()], name)
		}
		e.count(f)
	}
	for _, why := range slices.Sorted(maps.Keys(failed)) {
		errs = append(errs, fmt.Errorf("%s: %s", listed(failed[why]), why))
	}
	for _, why := range slices.Sorted(maps.Keys(e.refused)) {
		errs = append(errs, fmt.Errorf("%d of the files of events: %s", e.refused[why], why))
	}
	if err := e.remove(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// remove removes the private directory, with all that is in it.
func (e *events) remove() error {
	e.from.Close()
	e.to.Close()
	return e.private.remove()
}

// eventName is what a name must be. Nothing is published under another one, since
// the name goes to standard error too.
var eventName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// publish reads what is new in files of lines, and in the end all files.
func (e *events) publish(last bool) {
	clear(e.refused)
	entries, err := e.entries()
	if err != nil {
		e.refused[err.Error()]++
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") {
			continue // the agent's own, such as a lock or a draft
		}
		if _, secrets := e.redactor.set.String(name); len(secrets) > 0 || !eventName.MatchString(name) {
			e.refused["a name may have 128 letters, digits, ., _ and -, and nothing secret"]++
			continue
		}
		f := e.files[name]
		switch {
		case !entry.Type().IsRegular():
			e.refused["no regular file"]++
			continue
		case f == nil && len(e.files) == maxEventFiles:
			e.refused[fmt.Sprintf("more than %d", maxEventFiles)]++
			continue
		case f == nil:
			f = newEventFile(name)
			e.files[name] = f
		}
		if f.grows || last {
			f.read(e, last)
			e.count(f)
		}
	}
}

func (e *events) count(f *eventFile) {
	for m, n := range f.found.counts {
		e.findings.add(f.name, m, n)
	}
	clear(f.found.counts)
}

// entries returns what is in the private directory, and not much more of it than
// may be published.
func (e *events) entries() ([]fs.DirEntry, error) {
	dir, err := e.from.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(2 * maxEventFiles)
	if err == io.EOF {
		err = nil
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}
