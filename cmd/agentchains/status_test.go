package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	var answer struct{ Data status }
	if err := json.Unmarshal([]byte(captured(t, "status.json")), &answer); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := answer.Data.print(&out, answer.Data.StartedAt.Add(90*time.Minute)); err != nil {
		t.Fatal(err)
	}
	same(t, "output", out.String(), `Engine     v0.1.0, started 2026-11-22T01:57:03Z (1h30m0s ago)
Read       env 1, creds 0, reveal 0, refused 0
Cache      232 entries, 152 KiB of 64 MiB, 296 hits, 232 misses
Expired    1
           2026-11-22T01:57:08Z  dev/chain/support-bot/HELPDESK_TOKEN
Expiring   1
           2026-11-24T01:57:06Z  staging/chain/support-bot/HELPDESK_TOKEN
Due        1
           prod/org/SENTRY_DSN  since 2026-11-21T03:00:00Z
Draining   1
           prod/org/OPENAI_API_KEY  2 executions hold the old version
Overdue    1
           prod/org/SENTRY_DSN  1 executions hold version 4, which was destroyed
Failed     1
           prod/org/GITHUB_TOKEN  the orchestrator answered 503
Orphaned   0
Stoppable  13 of 14 executions
Waiting    1
           incident 20261122-015600-1a2b3c4d  1 executions have not acknowledged
Unsent     3 dead letters: ops 2, pager 1
`)
}

func TestStatusJSON(t *testing.T) {
	answer := captured(t, "status.json")
	vaultAnswers(t, http.StatusOK, answer)
	code, stdout, stderr := execute("", "status", "--json")
	if code != 0 || stderr != "" || !strings.Contains(answer, compact(t, stdout)) {
		t.Errorf("exit code %d, error %q, want 0 and the engine's data, got:\n%s", code, stderr, stdout)
	}
}

func TestBytesString(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{
		0: "0 bytes", 10<<10 - 1: "10239 bytes", 10 << 10: "10 KiB", 64 << 20: "64 MiB", 1 << 40: "1024 GiB",
	} {
		same(t, "size", bytesString(n), want)
	}
}
