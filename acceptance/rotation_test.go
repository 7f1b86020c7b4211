package acceptance

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// worker is the argument with which the test binary is an agent.
const worker = "work"

// work is an agent that uses its key at a server again and again, until its
// input ends or the server refuses it.
func work(url string) int {
	const pace = 100 * time.Millisecond
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	tick := time.NewTicker(pace)
	for first := true; ; first = false {
		status, err := ask(url, os.Getenv("API_KEY"))
		if status != http.StatusOK {
			fmt.Fprintln(os.Stderr, "refused:", status, err)
			return 1
		}
		if first {
			fmt.Println("ready")
		}
		select {
		case <-over:
			return 0
		case <-tick.C:
		}
	}
}

// ask sends a request with a key.
func ask(url, key string) (status int, err error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// service is a server that accepts the live versions of a secret and no other
// key, as the services of its users do: it asks the engine which they are at
// each request.
type service struct {
	*engine
	path   string
	server *httptest.Server

	mu      sync.Mutex // guards all below
	values  map[string]string
	served  map[string]int // requests, by version
	refused int
}

func (e *engine) newService(path string) *service {
	s := &service{engine: e, path: path, values: map[string]string{}, served: map[string]int{}}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	e.Cleanup(s.server.Close)
	return s
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	entry, err := s.client.Logical().Read(s.mount + "/secrets/" + s.path)
	if err != nil {
		http.Error(w, "the engine does not answer", http.StatusBadGateway)
		return
	}
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, field := range []string{"current_version", "pending_version"} {
		if n := fmt.Sprint(entry.Data[field]); n != "0" && s.value(n) == key {
			s.served[n]++
			return
		}
	}
	s.refused++
	http.Error(w, "no such key", http.StatusUnauthorized)
}

// value returns the value of a version, which never changes; of one that has
// gone meanwhile it is empty.
func (s *service) value(number string) string {
	if s.values[number] == "" {
		answer, err := s.client.Logical().ReadWithData(s.mount+"/reveal/"+s.path, map[string][]string{"version": {number}})
		if err == nil && answer != nil {
			s.values[number] = answer.Data["value"].(string)
		}
	}
	return s.values[number]
}

// counts returns how many requests came with each version, and were refused.
func (s *service) counts() (served map[string]int, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]int{"1": s.served["1"], "2": s.served["2"]}, s.refused
}

// rotation reads the rotation of an entry.
func (e *engine) rotation(path string) data {
	e.Helper()
	answer := e.read("rotate/" + path)
	e.noteAnswer(answer)
	return answer
}

// state is where the rotation of an entry stands.
func (e *engine) state(path string) string {
	e.Helper()
	return fmt.Sprint(e.rotation(path)["state"])
}

// reaches waits until the rotation of an entry is in a state.
func (e *engine) reaches(path, state string) {
	e.Helper()
	var last data
	err := eventually("the rotation of "+path+" is "+state, func() (bool, error) {
		last = e.rotation(path)
		return last["state"] == state, nil
	})
	if err != nil {
		e.Fatalf("%v: %s", err, censored(e.T, last))
	}
}

// last is the newest line in the history of an entry.
func (e *engine) last(path string) data {
	e.Helper()
	history := e.rotation(path)["history"].([]any)
	if len(history) == 0 {
		e.Fatalf("%s was never rotated", path)
	}
	return history[0].(data)
}

// While executions of long agents hold the old version, new ones get the new one,
// and not one request of either fails. When the last of the old ones has ended,
// the old value is gone at once, and is nowhere in Vault's storage.
func TestRotationDrains(t *testing.T) {
	const agent, path, each, least = "prod/c/Worker", "prod/org/API_KEY", 20, 5
	d := newDurable(t)
	d.chain("c", "", "API_KEY")
	old := d.secret(path, nil)
	s := d.newService(path)
	self, err := os.Executable()
	d.must(err)
	start := func() []*process {
		runs := make([]*process, each)
		for i := range runs {
			runs[i] = d.begin(d.runner(agent, nil, self, worker, s.server.URL))
		}
		for _, run := range runs {
			d.same("what an agent prints", run.line(), "ready")
		}
		return runs
	}
	before := start()
	byAPI := d.engine.start(agent, nil)
	if d.found(old) == 0 {
		t.Error("the search of the storage does not find the old value while it is there")
	}

	renewed := d.value("the second API_KEY")
	begun := d.write("rotate/"+path, data{"value": renewed, "min_overlap": 0})
	d.same("the rotation", []any{begun["state"], begun["current_version"], begun["pending_version"], begun["blocking_count"], begun["proof"]},
		[]any{"serving", 1, 2, each + 1, ""})
	after := start()
	d.refused(409, "hold the version that would go", update, "promote/"+path, data{})
	first, _ := s.counts()
	d.must(eventually("agents have used both versions", func() (bool, error) {
		now, _ := s.counts()
		return now["1"] >= first["1"]+least*each && now["2"] >= first["2"]+least*each, nil
	}))
	for _, run := range before[1:] {
		run.silent(0)
	}
	byAPI.write("execution/"+byAPI.id+"/finish", data{})
	draining := d.rotation(path)
	d.same("what is waited for", []any{draining["state"], draining["blocking_count"], draining["proof"]}, []any{"serving", 1, "used"})

	ended := time.Now()
	before[0].stdin.Close()
	d.reaches(path, "idle")
	// On a machine that does nothing else, well below a second.
	t.Logf("promoted %s after the last execution on the old version was told to end", time.Since(ended).Round(time.Millisecond))
	before[0].silent(0)
	line := d.last(path)
	d.same("history", []any{line["result"], line["trigger"], line["ended_by"], line["from_version"], line["to_version"], line["executions_left"]},
		[]any{"promoted", "request", "agentchains", 1, 2, 0})
	served, refused := s.counts()
	t.Logf("requests with version 1: %d, with version 2: %d, refused: %d", served["1"], served["2"], refused)
	if refused != 0 {
		t.Errorf("%d requests were refused", refused)
	}
	for _, run := range after {
		run.silent(0)
	}
	if status, err := ask(s.server.URL, old); err != nil || status != http.StatusUnauthorized {
		t.Errorf("the old key is answered %d, %v", status, err)
	}
	d.same("entries that hold the old value", d.found(old), 0)
	if d.found(renewed) == 0 {
		t.Error("the search of the storage does not find the new value")
	}
}
