package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

// findings counts what is found in what the agent writes, and tells the engine.
// The agent never waits for that: while Vault is slow, it is only counted.
type findings struct {
	env map[string]variable // the engine is told of these, and of no known format

	mu      sync.Mutex // guards all below
	tallies map[finding]*tally
	news    chan struct{} // something may have to be told at once
	refusal error         // of the last that Vault did not want to be told
	failure error         // of the last that it could not be told
}

// A finding is a secret or a known format, redacted or not.
type finding struct {
	name     string
	redacted bool
}

// A tally counts one finding.
type tally struct {
	count     int
	encodings map[string]bool
	files     map[string]bool // of events; "" is the output
	untold    map[string]int  // count by encoding
	told      time.Time       // the last time
}

func newFindings(env map[string]variable) *findings {
	return &findings{env: env, tallies: map[finding]*tally{}, news: make(chan struct{}, 1)}
}

// add counts what was found so many times in a file of events, or in the output.
func (f *findings) add(file string, m match, count int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := finding{m.name, m.redacted}
	t := f.tallies[key]
	if t == nil {
		t = &tally{encodings: map[string]bool{}, files: map[string]bool{}, untold: map[string]int{}}
		f.tallies[key] = t
	}
	t.count += count
	t.encodings[m.encoding] = true
	t.files[file] = true
	if _, held := f.env[m.name]; !held {
		return
	}
	if len(t.untold) == 0 {
		select {
		case f.news <- struct{}{}:
		default:
		}
	}
	t.untold[m.encoding] += count
}

// tellPause is how long the engine is not told again of the same finding.
const tellPause = 10 * time.Second

// A report is what the engine is told at once of a finding.
type report struct {
	match
	count int
}

func (r *report) fields() map[string]any {
	return map[string]any{"name": r.name, "count": r.count, "encoding": r.encoding, "redacted": r.redacted}
}

// report tells the engine in the background. What it returns ends that when all is
// told, or the time is over, and says why something was not told.
func (f *findings) report(tell func(context.Context, report) error) (end func(time.Duration) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ending, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		f.reportUntil(ctx, ending, tell)
	}()
	return func(patience time.Duration) error {
		defer cancel()
		close(ending)
		select {
		case <-done:
		case <-time.After(patience):
			cancel()
			<-done
		}
		return f.untold()
	}
}

// reportUntil returns when ending is closed, and all that is left was told then.
func (f *findings) reportUntil(ctx context.Context, ending <-chan struct{}, tell func(context.Context, report) error) {
	timer := time.NewTimer(tellPause)
	defer timer.Stop()
	for last := false; !last; {
		select {
		case <-f.news:
		case <-timer.C:
		case <-ending:
			last = true
		}
		reports, pause := f.due(last)
		for _, r := range reports {
			if err := tell(ctx, r); err != nil {
				f.failed(r, err)
			}
		}
		timer.Reset(pause)
	}
}

// due takes what is to be told now, and returns how long nothing else is.
func (f *findings) due(all bool) (reports []report, pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	pause = tellPause
	for key, t := range f.tallies {
		wait := tellPause - now.Sub(t.told)
		switch {
		case len(t.untold) == 0:
		case wait > 0 && !all:
			pause = min(pause, wait)
		default:
			for encoding, count := range t.untold {
				reports = append(reports, report{match{key.name, encoding, key.redacted}, count})
			}
			clear(t.untold)
			t.told = now
		}
	}
	return reports, pause
}

// failed counts again what Vault could not take. What it refused it would refuse
// again.
func (f *findings) failed(r report, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var answer *api.ResponseError
	if errors.As(err, &answer) && answer.StatusCode < http.StatusInternalServerError {
		f.refusal = err
		return
	}
	f.failure = err
	f.tallies[finding{r.name, r.redacted}].untold[r.encoding] += r.count
}

func (f *findings) untold() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tallies {
		if len(t.untold) > 0 {
			return f.failure
		}
	}
	return f.refusal
}

// print says what was found: a line for each name, and nothing for nothing. What
// may be a key and was not redacted is there on request only.
func (f *findings) print(w io.Writer, all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for key, t := range f.tallies {
		done := "redacted"
		if !key.redacted {
			done = "did not redact"
			if !all {
				continue
			}
		}
		times := "once"
		if t.count > 1 {
			times = fmt.Sprintf("%d times", t.count)
		}
		encodings := strings.Join(slices.Sorted(maps.Keys(t.encodings)), ", ")
		lines = append(lines, fmt.Sprintf("agentchains: %s %s %s (%s)%s\n", done, key.name, times, encodings, t.places()))
	}
	slices.Sort(lines)
	_, _ = io.WriteString(w, strings.Join(lines, ""))
}

// places says where a finding was, unless that was in the output alone.
func (t *tally) places() string {
	files := slices.Sorted(maps.Keys(t.files))
	if files[0] == "" {
		files[0] = "its output"
		if len(files) == 1 {
			return ""
		}
	}
	return " in " + listed(files)
}

// listed names a few, and counts the rest.
func listed(names []string) string {
	const most = 3
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}
