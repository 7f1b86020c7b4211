package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
)

var (
	hostileRequests = flag.Int("requests", 5_000, "how many random requests TestHostileInput sends")
	hostileSeed     = flag.Uint64("seed", 0, "what they are made of; 0: something else each time")
)

// attackers send requests at the same time.
const attackers = 8

// mostResident is what the plugin's process may take. Without any request it is
// about 50 MiB; up to 64 MiB of entries are kept in memory besides.
const mostResident = 256 << 20

// Whatever is sent, by whomever: Vault answers, with no 5xx; the engine does not
// panic; no value is where it should not be; and memory does not grow.
func TestHostileInput(t *testing.T) {
	e, plugin := newOwnProcess(t)
	seed := *hostileSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d requests, seed %d: to send them again, -requests %d -seed %d", *hostileRequests, seed, *hostileRequests, seed)
	a := e.newAttack(e.process(plugin, 0))
	began := time.Now()
	var all sync.WaitGroup
	for i := range attackers {
		all.Go(func() {
			c := a.newAttacker(seed, uint64(i))
			for range *hostileRequests / attackers {
				if c.send(c.next()); t.Failed() {
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	t.Logf("%.0f requests a second\n%s", float64(*hostileRequests)/took.Seconds(), a.table())
	t.Logf("503: %v", a.notReady)
	t.Logf("resident MiB: %s", a.memory())
	t.Logf("incidents that wait for executions: %d", len(a.read("status")["unacknowledged"].([]any)))
	if e.process(plugin, 0) != a.pid {
		t.Error("the plugin's process is another one by now")
	}
	a.calm()
}

// calm checks that the engine did not panic, which it survives and logs.
func (a *attack) calm() {
	a.Helper()
	log, err := os.Open(vault.Path(cluster.LogFile))
	a.must(err)
	defer log.Close()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "panic") {
			a.Errorf("the log says: %s", secrets.censor(lines.Text()))
		}
	}
	a.must(lines.Err())
}

// attack is what the attackers share.
type attack struct {
	*engine
	doors  []door
	known  []request // what makes the doors answer something
	tokens []string
	values []string
	pid    int

	mu       sync.Mutex // guards all below
	statuses map[string]map[int]int
	notReady map[string]int // what a 503 said
	resident []int          // in bytes, as time went by
}

func (e *engine) newAttack(pid int) *attack {
	e.Helper()
	all := e.policy(`path "` + e.mount + `/*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }`)
	some := e.policy(`path "` + e.mount + `/*" { capabilities = ["read", "list"] }`)
	a := &attack{engine: e, doors: e.doors(), pid: pid, statuses: map[string]map[int]int{}, notReady: map[string]int{}}
	for _, policy := range []string{all, all, all, some} {
		// Vault parses the default policy anew for each request.
		secret, err := e.client.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{policy}, NoDefaultPolicy: true})
		e.must(err)
		a.tokens = append(a.tokens, secret.Auth.ClientToken)
	}
	a.tokens = append(a.tokens, "", "hvs.nobody")
	for i := range 64 {
		a.values = append(a.values, e.value(fmt.Sprint(i)))
	}
	a.known = a.base()
	for _, r := range a.known {
		a.ok(r.o, r.path, r.body)
	}
	a.sample()
	return a
}

// attacker is a client of its own. What it sends depends on the seed alone, but
// for the ids that it was told.
type attacker struct {
	*attack
	random *rand.Rand
	http   *http.Client
	ids    []string // of executions and incidents
	sent   int
}

func (a *attack) newAttacker(seed, number uint64) *attacker {
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c := &attacker{attack: a, random: rand.New(rand.NewPCG(seed, number)), http: &http.Client{Transport: &http.Transport{}, CheckRedirect: refuse}}
	a.Cleanup(c.http.CloseIdleConnections)
	return c
}

// shot is a request as it goes over the wire.
type shot struct {
	method, path, query, contentType, token string
	body                                    []byte
}

// giving are the doors of which an answer has values, and that of redact the
// text that was sent.
var giving = []string{"env", "creds", "reveal", "executions", "redact"}

var toldID = regexp.MustCompile(`"(?:execution|incident)_id":"([0-9a-f-]+)"`)

// ofEngine is how Vault wraps the 500 of an engine. Its own, as to JSON that it cannot
// parse, and which no engine sees, are bare.
var ofEngine = regexp.MustCompile(`^\{"errors":\["1 error occurred:`)

// send sends a shot and looks at the answer.
func (c *attacker) send(s shot) {
	if c.sent++; c.sent%200 == 0 {
		c.sample()
	}
	ctx, cancel := context.WithTimeout(c.Context(), 3*patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, s.method, vault.Address, bytes.NewReader(s.body))
	if err != nil {
		c.Error(err)
		return
	}
	req.URL.Path = "/v1/" + c.mount + "/" + s.path
	if decoded, err := url.PathUnescape(req.URL.Path); err == nil {
		req.URL.Path, req.URL.RawPath = decoded, req.URL.Path
	}
	req.URL.RawQuery = s.query
	req.Header.Set("Content-Type", s.contentType)
	req.Header.Set("X-Vault-Token", s.token)
	resp, err := c.http.Do(req)
	if err != nil {
		c.failed(s, err.Error())
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		c.failed(s, err.Error())
		return
	}
	word, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v1/"+c.mount+"/"), "/")
	if !slices.ContainsFunc(c.doors, func(d door) bool { return d.word == word }) {
		word = "no door"
	}
	if resp.StatusCode == http.StatusInternalServerError && (!ofEngine.Match(answer) || !utf8.ValidString(req.URL.Path)) {
		word = "Vault itself" // which cannot pass on to a plugin either what is no UTF-8
	}
	c.count(word, resp.StatusCode)
	if resp.StatusCode != http.StatusOK || !slices.Contains(giving, word) {
		c.note(string(answer))
	}
	switch {
	case word == "Vault itself":
	case resp.StatusCode == http.StatusServiceUnavailable:
		c.wait(string(answer))
	case resp.StatusCode >= 500:
		c.failed(s, fmt.Sprint(resp.StatusCode, " ", string(answer)))
	}
	for _, id := range toldID.FindAllSubmatch(answer, 3) {
		c.ids = append(c.ids, string(id[1]))
		c.ids = c.ids[max(0, len(c.ids)-8):]
	}
}

func (c *attacker) failed(s shot, why string) {
	const shown = 500
	c.Errorf("%s %q?%s %s %s: %s", s.method, s.path, s.query, s.contentType, secrets.censor(string(s.body[:min(shown, len(s.body))])), secrets.censor(why))
}

func (a *attack) count(door string, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.statuses[door] == nil {
		a.statuses[door] = map[int]int{}
	}
	a.statuses[door][status]++
}

// wait notes why the engine asks to try again.
func (a *attack) wait(answer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notReady[answer]++
}

// sample looks how much memory the plugin has.
func (a *attack) sample() {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", a.pid))
	fields := strings.Fields(string(statm))
	if err != nil || len(fields) < 2 {
		a.Errorf("the plugin's process cannot be seen: %v", err)
		return
	}
	pages, _ := strconv.Atoi(fields[1])
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resident = append(a.resident, pages*os.Getpagesize())
}

// memory tells how much it was, at the start, after each tenth, and at most.
func (a *attack) memory() string {
	var line strings.Builder
	for i := range 11 {
		fmt.Fprintf(&line, "%d ", a.resident[i*(len(a.resident)-1)/10]>>20)
	}
	peak := slices.Max(a.resident)
	if peak > mostResident {
		a.Errorf("the plugin took %d MiB, more than %d", peak>>20, mostResident>>20)
	}
	return fmt.Sprintf("%s, peak %d", line.String(), peak>>20)
}

// table is how often each kind of path was answered with each status.
func (a *attack) table() string {
	columns := map[int]bool{}
	for _, counts := range a.statuses {
		for status := range counts {
			columns[status] = true
		}
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "door\t")
	for _, status := range slices.Sorted(maps.Keys(columns)) {
		fmt.Fprintf(w, "%d\t", status)
	}
	for _, door := range slices.Sorted(maps.Keys(a.statuses)) {
		fmt.Fprintf(w, "\n%s\t", door)
		for _, status := range slices.Sorted(maps.Keys(columns)) {
			fmt.Fprintf(w, "%d\t", a.statuses[door][status])
		}
	}
	fmt.Fprintln(w)
	_ = w.Flush() // into memory
	return text.String()
}
