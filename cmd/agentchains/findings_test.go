package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/api"
)

// An engine under test takes reports.
type testEngine struct {
	mu    sync.Mutex
	heard []string
	err   error
}

func (e *testEngine) tell(_ context.Context, r report) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, fmt.Sprintf("%s %s %t %d", r.name, r.encoding, r.redacted, r.count))
	return e.err
}

func (e *testEngine) fails(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

// hears waits until the reporter rests, and compares what it has told since.
func (e *testEngine) hears(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	slices.Sort(e.heard)
	if !slices.Equal(e.heard, want) {
		t.Errorf("the engine hears %q, want %q", e.heard, want)
	}
	e.heard = nil
}

func newTestFindings() (f *findings, find func(name, encoding string)) {
	f = newFindings(map[string]variable{"A": {}, "B": {}})
	return f, func(name, encoding string) {
		f.add("", match{name, encoding, true}, 1)
	}
}

// The first finding is told at once, and of what follows the number, in a while.
func TestFindingsAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, find := newTestFindings()
		e := &testEngine{}
		end := f.report(e.tell)
		find("A", "raw")
		e.hears(t, "A raw true 1")
		time.Sleep(tellPause / 2)
		for range 1000 {
			find("A", "raw")
		}
		find("A", "hex")
		find("B", "raw")
		find("aws-access-token", "format")
		e.hears(t, "B raw true 1")
		time.Sleep(tellPause/2 - 1)
		e.hears(t)
		time.Sleep(time.Nanosecond)
		e.hears(t, "A hex true 1", "A raw true 1000")
		time.Sleep(time.Hour)
		e.hears(t)
		find("A", "raw")
		e.hears(t, "A raw true 1")
		e.fails(errors.New("connection refused"))
		find("A", "raw")
		time.Sleep(tellPause)
		e.hears(t, "A raw true 1")
		e.fails(nil)
		if err := end(time.Minute); err != nil {
			t.Error(err)
		}
		e.hears(t, "A raw true 1")
	})
}

// What Vault cannot take is told later; what it refuses is not. Both are known.
func TestFindingsThatAreNotTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, find := newTestFindings()
		e := &testEngine{err: errors.New("connection refused")}
		end := f.report(e.tell)
		find("A", "raw")
		e.hears(t, "A raw true 1")
		find("A", "raw")
		time.Sleep(tellPause)
		e.hears(t, "A raw true 2")
		refusal := &api.ResponseError{StatusCode: 404}
		e.fails(refusal)
		time.Sleep(tellPause)
		e.hears(t, "A raw true 2")
		e.fails(nil)
		time.Sleep(tellPause)
		e.hears(t)
		if err := end(time.Minute); !errors.Is(err, refusal) {
			t.Errorf("error %v", err)
		}
	})
}

// An engine that does not answer holds up neither the agent nor, for long, the end.
func TestFindingsOfASilentEngine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, find := newTestFindings()
		end := f.report(func(ctx context.Context, _ report) error {
			<-ctx.Done()
			return ctx.Err()
		})
		for range 1000 {
			find("A", "raw")
		}
		since := time.Now()
		if err := end(time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(since); took != time.Minute {
			t.Errorf("the end took %s", took)
		}
	})
}

func TestSummary(t *testing.T) {
	t.Parallel()
	f, find := newTestFindings()
	var none bytes.Buffer
	f.print(&none, true)
	same(t, "summary of nothing", none.String(), "")
	find("B", "raw")
	for _, encoding := range []string{"raw", "base64", "raw"} {
		find("A", encoding)
	}
	for i := range 5 {
		f.add(fmt.Sprintf("%d.jsonl", i), match{"B", "json", true}, 1)
	}
	f.add("0.jsonl", match{"generic-api-key", "format", false}, 1)
	lines := []string{
		"agentchains: did not redact generic-api-key once (format) in 0.jsonl",
		"agentchains: redacted A 3 times (base64, raw)",
		"agentchains: redacted B 6 times (json, raw) in its output, 0.jsonl, 1.jsonl and 3 more",
	}
	for all, want := range map[bool][]string{false: lines[1:], true: lines} {
		var out bytes.Buffer
		f.print(&out, all)
		same(t, "summary", out.String(), strings.Join(want, "\n")+"\n")
	}
}
