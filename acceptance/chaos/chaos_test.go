// Package chaos proves what the engine promises while a cluster fails around it:
// clients do random operations through three real Vault nodes, faults happen at random
// times, and the package history judges what was answered.
package chaos

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/history"
)

const (
	plugin  = "agentchains"
	mount   = "agentchains"
	binary  = "../../bin/vault-plugin-secrets-agentchains"
	secrets = 6
	clients = 8
)

var (
	seed  = flag.Uint64("seed", 0, "of the operations and the faults of the first round; 0: any")
	lasts = flag.Duration("lasts", 2*time.Minute, "for how long faults happen, in rounds of two minutes at most")
)

// data is the body of a request.
type data = map[string]any

// run is what all rounds share.
type run struct {
	*testing.T
	*cluster.Cluster
	marker string // that every value begins with
	values atomic.Int64
	tally  tally
}

func TestChaos(t *testing.T) {
	if os.Getenv("VAULT_ACC") != "1" {
		t.Skip("set VAULT_ACC=1: make build && VAULT_ACC=1 go test -v ./acceptance/chaos/")
	}
	vault, err := exec.Command("../../scripts/vault").Output()
	if err != nil {
		t.Fatalf("scripts/vault: %s", err)
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	r := &run{T: t, marker: rand.Text(), tally: tally{counts: map[string]map[string]int{}}}
	r.Cluster = cluster.New(t, 3, strings.TrimSpace(string(vault)), plugin, binary)
	first := r.Nodes[0].Client
	if err := first.Sys().Mount(mount, &api.MountInput{Type: plugin}); err != nil {
		t.Fatal(err)
	}
	// Writes are rotations: they end soon, so that the next write is not refused.
	if _, err := first.Logical().Write(mount+"/config", data{"min_overlap": 0, "max_overlap": "2s", "execution_ttl": "1h"}); err != nil {
		t.Fatal(err)
	}
	for n, until := uint64(0), time.Now().Add(*lasts); time.Now().Before(until) && !t.Failed(); n++ {
		r.round(*seed+n, min(time.Until(until), 2*time.Minute))
	}
	t.Logf("\n%s", r.tally.table())
	r.searchLogs()
}

// round is one history, with secrets of its own.
type round struct {
	*run
	chain   string
	begun   time.Time
	stop    chan struct{}
	mu      sync.Mutex // guards history
	history history.History
}

func (r *run) round(seed uint64, lasts time.Duration) {
	r.Logf("-seed %d -lasts %s", seed, lasts.Round(time.Second))
	w := &round{run: r, chain: fmt.Sprintf("round-%d", seed), begun: time.Now(), stop: make(chan struct{})}
	w.prepare()
	var working sync.WaitGroup
	for n := range clients {
		c := &client{round: w, id: n, rng: mathrand.New(mathrand.NewPCG(seed, uint64(n)))}
		working.Go(c.work)
	}
	err := w.fail(mathrand.New(mathrand.NewPCG(seed, clients)), lasts)
	close(w.stop)
	working.Wait()
	if err == nil {
		err = w.settle()
	}
	if err != nil { // then it is not known what the incidents list
		r.Error(err)
		w.keep()
		return
	}
	verdict := w.history.Judge()
	for _, wrong := range verdict.Wrong {
		r.Error(wrong)
	}
	r.tally.add(string(history.Resolve), "ok, stale: of a leader that was deposed", verdict.Stale)
	if r.Failed() {
		w.keep()
	}
}

// now is the time since the round began.
func (w *round) now() time.Duration { return time.Since(w.begun) }

// keep writes the history to files, to be looked at.
func (w *round) keep() {
	dir, err := os.MkdirTemp("", "history")
	if err != nil {
		w.Error(err)
		return
	}
	text, err := json.MarshalIndent(w.history, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "history.json"), text, 0o600)
	}
	if err != nil {
		w.Error(err)
	}
	for n := range secrets {
		var page bytes.Buffer
		err := w.history.Draw(key(n), &page)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, key(n)+".html"), page.Bytes(), 0o600)
		}
		if err != nil {
			w.Error(err)
		}
	}
	w.Logf("the history is kept in %s", dir)
}

// searchLogs ends the cluster, and looks in all that it wrote for values and for what
// the engine should never write.
func (r *run) searchLogs() {
	logs, err := r.Logs()
	if err != nil {
		r.Fatal(err)
	}
	for name, text := range logs {
		for _, word := range []string{r.marker, "panic:", "goroutine "} {
			if bytes.Contains(text, []byte(word)) {
				r.Errorf("%s holds %s", name, map[bool]string{true: "a value", false: word}[word == r.marker])
			}
		}
	}
}

// tally counts what was done, by what came of it.
type tally struct {
	mu     sync.Mutex // guards counts
	counts map[string]map[string]int
}

func (t *tally) add(what, outcome string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts[what] == nil {
		t.counts[what] = map[string]int{}
	}
	t.counts[what][outcome] += n
}

func (t *tally) table() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for what, outcomes := range t.counts {
		for outcome, n := range outcomes {
			lines = append(lines, fmt.Sprintf("%-10s %-50s %6d", what, outcome, n))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
