package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/cmd/agentchains/supervise"
	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// How the engine says that a variable is to be redacted.
const (
	redactAlways       = "always"
	redactNever        = "never"
	redactUnlessCommon = "unless_common"
)

// maxForms is how many bytes of values are looked for in all forms, the smallest
// values first. A byte takes about 50 microseconds and 1.3 KiB.
const maxForms = 64 << 10

// newSet returns the set of what must not be in the output of an agent, and a
// sentence for each variable that may be there all the same: of those that are
// always to be redacted, or of all.
func newSet(env map[string]variable, all bool) (set *redact.Set, gaps []string) {
	names := slices.SortedFunc(maps.Keys(env), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(env[a].value), len(env[b].value)), strings.Compare(a, b))
	})
	var list []redact.Secret
	left := maxForms
	for _, name := range names {
		v := env[name]
		if v.redact == redactNever {
			if all {
				gaps = append(gaps, name+" is not redacted: it is not meant to be")
			}
			continue
		}
		left -= len(v.value)
		if left < 0 {
			gaps = append(gaps, name+" is redacted only as it is, and not in other encodings or in pieces: the values are large")
		}
		list = append(list, redact.Secret{Name: name, Version: v.version, Value: v.value, Force: v.redact == redactAlways, Plain: left < 0})
	}
	set = redact.NewSet(list...)
	set.FindFormats(redact.Precise)
	for _, gap := range set.Report() {
		if all || env[gap.Name].redact == redactAlways {
			gaps = append(gaps, fmt.Sprintf("%s is not redacted: %s", gap.Name, gap.Reason))
		}
	}
	slices.Sort(gaps)
	return set, gaps
}

// output is what the agent writes, and what was found in it.
type output struct {
	set      *redact.Set // nil: it is not redacted
	streams  []*stream
	events   *events // nil without a directory for them
	findings *findings
}

// take puts itself between a command and its standard output and error.
func (o *output) take(c *supervise.Command) {
	through := func(to *os.File) *stream {
		s := newStream(to, o.set, func(f redact.Finding) { o.findings.add("", match{f.Name, f.Encoding, f.Redacted}, 1) })
		o.streams = append(o.streams, s)
		return s
	}
	stdout := through(os.Stdout)
	c.Stdout = stdout
	switch {
	case c.Terminal != nil && supervise.IsTerminal(os.Stderr):
		// It is the PTY.
	case sameFile(os.Stdout, os.Stderr):
		// One stream keeps the order of what is written to both.
		c.Stderr = stdout
	default:
		c.Stderr = through(os.Stderr)
	}
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}

// close writes what is held back, when the agent writes no more, and returns what
// could not be written. That a reader has gone is nothing to tell: the agent has
// met it too.
func (o *output) close() (errs []error) {
	for _, s := range o.streams {
		if err := s.close(); err != nil && !errors.Is(err, syscall.EPIPE) {
			errs = append(errs, err)
		}
	}
	if o.events != nil {
		errs = append(errs, o.events.finish()...)
	}
	return errs
}

// idle is how long the agent may write nothing before what is held back of its
// output is let go as far as is safe: a prompt has no line end.
const idle = 50 * time.Millisecond

// A stream is one that the agent writes to, on its way out.
type stream struct {
	mu    sync.Mutex // guards w, which the timer flushes
	w     *redact.Writer
	timer *time.Timer
}

func newStream(to io.Writer, set *redact.Set, found func(redact.Finding)) *stream {
	s := &stream{w: redact.NewWriter(to, set, redact.Options{OnFinding: found})}
	s.timer = time.AfterFunc(idle, s.flush)
	return s
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Reset(idle)
	return s.w.Write(p)
}

func (s *stream) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// An error stays, and comes again with the next Write.
	_ = s.w.Flush()
}

func (s *stream) close() error {
	s.timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Close()
}
