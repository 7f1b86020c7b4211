package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// The lists end somewhere, and the counts do not.
func TestSummaryIsBounded(t *testing.T) {
	t.Parallel()
	s := newSummary(redact.NewSet(), false)
	for i := range 1500 {
		f := &found{counts: map[match]int{{"TOKEN", "raw", true}: 2}, bytes: 1000, notes: []string{"is odd"}}
		s.add(fmt.Sprint(i), f)
		s.fail(fmt.Sprint(i), errChanges)
	}
	var out strings.Builder
	if err := s.print(&out, false, false); err != nil {
		t.Fatal(err)
	}
	const first, last = "agentchains: redacted 3000 in 1500 of 1500 files (1.5 MB)\n", "\nagentchains: not listed: 1500 more\n"
	if text := out.String(); !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) || strings.Count(text, "\n") != 3005 {
		t.Errorf("%d lines, from %.80q to %q", strings.Count(text, "\n"), text, text[len(text)-80:])
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1000: "1 kB", 1234: "1.2 kB", 5_000_000: "5 MB", 7_210_000_000: "7.2 GB", 1 << 50: "1125899.9 GB"} {
		same(t, fmt.Sprint(bytes), size(bytes), want)
	}
}

// The progress is shown five times a second, and is gone in the end.
func TestProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := newProgress(&out)
		for done := range 3 {
			time.Sleep(100 * time.Millisecond)
			p.read(30_000, done)
		}
		p.erase()
		same(t, "progress", out.String(), "\r\x1b[K1 files, 60 kB, 300 kB/s\r\x1b[K")
	})
}
