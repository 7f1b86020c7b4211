package acceptance

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const signatureHeader = "X-Agentchains-Signature"

// receiver is a server that is told of incidents. It takes what is signed, and
// that only once.
type receiver struct {
	*engine
	server *httptest.Server
	secret string // of the signatures
	header string // that comes with each message

	mu    sync.Mutex // guards all below
	fail  int        // how many messages to answer with a 500 from now on
	seen  map[string]bool
	taken []message
}

type message struct {
	signature string
	body      []byte
	data
}

// newReceiver starts one, and sets it up as a notifier that is called through a gate.
func (e *engine) newReceiver() (*receiver, *gate) {
	e.Helper()
	r := &receiver{engine: e, secret: e.value("hmac_secret"), header: e.value("header"), seen: map[string]bool{}}
	r.server = httptest.NewServer(http.HandlerFunc(r.serve))
	e.Cleanup(r.server.Close)
	g := e.newGate(r.server.Listener.Addr().String())
	e.write("config", data{"allowed_hosts": []string{g.Addr().String()}})
	e.write("notifiers/ops", data{
		"url": "http://" + g.Addr().String() + "/alerts", "events": "secret.revoked,execution.*", "hmac_secret": r.secret, "headers": data{"X-Token": r.header},
	})
	return r, g
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	m := message{signature: req.Header.Get(signatureHeader)}
	var err error
	m.body, err = io.ReadAll(req.Body)
	r.note(string(m.body))
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil || !r.signed(m.signature, m.body) || req.Header.Get("X-Token") != r.header || json.Unmarshal(m.body, &m.data) != nil:
		http.Error(w, "not signed", http.StatusUnauthorized)
	case r.fail > 0:
		r.fail--
		http.Error(w, "out of order: "+r.secret, http.StatusInternalServerError)
	case r.seen[m.signature]:
		http.Error(w, "a replay", http.StatusConflict)
	default:
		r.seen[m.signature] = true
		r.taken = append(r.taken, m)
	}
}

// signed reports whether the signature is good and recent.
func (r *receiver) signed(signature string, body []byte) bool {
	const most = 5 * time.Minute
	seconds, sum, _ := strings.Cut(strings.TrimPrefix(signature, "t="), ",v1=")
	at, err := strconv.ParseInt(seconds, 10, 64)
	return err == nil && time.Since(time.Unix(at, 0)).Abs() <= most && hmac.Equal([]byte(sum), []byte(r.sum(at, body)))
}

func (r *receiver) sum(at int64, body []byte) string {
	mac := hmac.New(sha256.New, []byte(r.secret))
	fmt.Fprintf(mac, "%d.%s", at, body)
	return hex.EncodeToString(mac.Sum(nil))
}

// about returns the events of an incident that were taken, each once, sorted.
func (r *receiver) about(incident any) (events []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := map[any]bool{}
	for _, m := range r.taken {
		if m.data["incident_id"] == incident && !ids[m.data["id"]] {
			ids[m.data["id"]] = true
			events = append(events, fmt.Sprint(m.data["event"]))
		}
	}
	slices.Sort(events)
	return events
}

// told waits until the receiver has taken these events of an incident, and the
// incident says so.
func (r *receiver) told(incident any, want ...string) {
	r.Helper()
	var events []string
	err := eventually("the receiver has every alert", func() (bool, error) {
		events = r.about(incident)
		return slices.Equal(events, want), nil
	})
	if err != nil {
		r.Fatalf("%v: it has %q, want %q", err, events, want)
	}
	var alerts any
	err = eventually("the incident lists every alert", func() (bool, error) {
		var listed []string
		alerts = r.incident(fmt.Sprint(incident))["alerts"]
		for _, item := range alerts.([]any) {
			if a := item.(data); a["state"] == "delivered" && a["notifier"] == "ops" {
				listed = append(listed, fmt.Sprint(a["event"]))
			}
		}
		slices.Sort(listed)
		return slices.Equal(listed, want), nil
	})
	if err != nil {
		r.Fatalf("%v: incident %v has %s, want %q", err, incident, censored(r.T, alerts), want)
	}
}

// post sends a message that somebody recorded, and returns the status.
func (r *receiver) post(signature string, body []byte) int {
	r.Helper()
	req, err := http.NewRequest(http.MethodPost, r.server.URL, bytes.NewReader(body))
	r.must(err)
	req.Header.Set(signatureHeader, signature)
	req.Header.Set("X-Token", r.header)
	resp, err := http.DefaultClient.Do(req)
	r.must(err)
	r.must(resp.Body.Close())
	return resp.StatusCode
}

// Whoever is to be told of an incident is told of every part of it, although the
// receiver is away when it happens, and out of order when it comes back; of the
// agent that does not end, too.
func TestAlerts(t *testing.T) {
	const path = "all/org/KEY"
	e := newEngine(t)
	e.chain("c", "", "KEY")
	e.secret(path, nil)
	r, gate := e.newReceiver()
	e.same("delivered", e.write("notifiers/ops/test", nil)["delivered"], true)
	all := e.guard([]string{"prod/c/Worker", "prod/c/Worker", "dev/c/Worker", "prod/c/Worker"}, "--ttl", "4s")
	thaw := all[3].freeze()
	gate.set(shut)
	answer := e.write("revoke/secret/"+path, data{"reason": "seen in a log", "value": e.value("new")})
	id := answer["incident_id"]
	for _, g := range all[:3] {
		g.ends(75)
	}
	e.must(eventually("a message was turned away", func() (bool, error) { return gate.turnedAway() > 0, nil }))
	r.mu.Lock()
	r.fail = 2
	r.mu.Unlock()
	gate.set(open)
	r.told(id, "execution.terminated", "execution.terminated", "execution.terminated", "execution.unacknowledged", "secret.revoked")
	e.same("counts", e.closed(id)["counts"], counts(3, 0, 1))
	thaw()
	e.gone(all[3].orphan, all[3].child)

	attempts := 0
	for _, a := range e.incident(fmt.Sprint(id))["alerts"].([]any) {
		n, err := strconv.Atoi(fmt.Sprint(a.(data)["attempts"]))
		e.must(err)
		attempts = max(attempts, n)
	}
	if attempts < 2 {
		t.Errorf("no alert was sent more than once")
	}
	r.mu.Lock()
	revoked := r.taken[slices.IndexFunc(r.taken, func(m message) bool { return m.data["event"] == "secret.revoked" })]
	r.mu.Unlock()
	e.same("what is told", []any{revoked.data["path"], revoked.data["reason"], revoked.data["created_by"], revoked.data["executions"], len(revoked.data["execution_ids"].([]any)), revoked.data["version"]},
		[]any{path, "seen in a log", "token", len(all), len(all), 1})

	now := time.Now()
	signed := func(at time.Time, body []byte) string {
		return fmt.Sprintf("t=%d,v1=%s", at.Unix(), r.sum(at.Unix(), body))
	}
	e.same("status of a replay", r.post(revoked.signature, revoked.body), http.StatusConflict)
	e.same("status of an old message", r.post(signed(now.Add(-6*time.Minute), revoked.body), revoked.body), http.StatusUnauthorized)
	e.same("status of another body", r.post(revoked.signature, append(revoked.body, ' ')), http.StatusUnauthorized)
}
