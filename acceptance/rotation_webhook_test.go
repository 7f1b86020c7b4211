package acceptance

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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

	"github.com/hashicorp/vault/api"
)

// orchestrator is what a rotator of type webhook calls. It runs the chain that
// makes a key, which here is a random value, and writes it back.
type orchestrator struct {
	*engine
	server *httptest.Server
	secret string      // of the signatures
	chain  *api.Client // with the token of the rotation chain
	runs   sync.WaitGroup

	mu       sync.Mutex    // guards all below
	fail     int           // how many calls to refuse from now on
	hangs    chan struct{} // until when calls are not answered; nil: they are
	calls    []call
	done     map[string]bool     // calls that need not be done again
	made     map[string]string   // keys, by the id of the rotation
	finished map[string]bool     // whether the rotation was promoted, by its id
	live     map[string][]string // the rotations whose keys work, by path
	most     int                 // keys of one path that worked at the same time
	wrote    []error             // what Vault said of the keys
}

// call is one that was signed.
type call struct {
	header http.Header
	text   []byte
	body   struct {
		ID, Event, Time, Path string
		RotationID            string `json:"rotation_id"`
		RotationChain         string `json:"rotation_chain"`
		Promoted              *bool
	}
}

// newOrchestrator starts one and sets it up as the rotator of entries.
func (e *engine) newOrchestrator(policy string, entries ...string) *orchestrator {
	e.Helper()
	o := &orchestrator{
		engine: e, secret: e.value("hmac_secret"), chain: e.retrying().appRole(policy).client,
		done: map[string]bool{}, made: map[string]string{}, finished: map[string]bool{}, live: map[string][]string{},
	}
	o.server = httptest.NewServer(http.HandlerFunc(o.serve))
	e.Cleanup(func() {
		o.release()
		o.server.Close()
		o.runs.Wait()
	})
	body := data{"type": "webhook", "url": o.server.URL + "/rotate", "hmac_secret": o.secret}
	e.refused(400, "allowed_hosts", update, "rotators/orchestrator", body)
	e.write("config", data{"allowed_hosts": []string{strings.TrimPrefix(o.server.URL, "http://")}})
	e.same("the masked hmac_secret", e.write("rotators/orchestrator", body)["hmac_secret"], o.secret[:3]+"...***...")
	for _, entry := range entries {
		o.live[entry] = []string{""} // the key that somebody wrote
		e.write("schedules/"+entry, data{"rotation_period": "90d", "rotator": "orchestrator", "rotation_chain": "rotate-openai", "min_overlap": 0})
	}
	return o
}

func (o *orchestrator) serve(w http.ResponseWriter, r *http.Request) {
	c := call{header: r.Header}
	var err error
	if c.text, err = io.ReadAll(r.Body); err != nil || !o.signed(r.Header.Get("X-Agentchains-Signature"), c.text) || json.Unmarshal(c.text, &c.body) != nil {
		http.Error(w, "not signed", http.StatusUnauthorized)
		return
	}
	var hangs chan struct{}
	o.change(func() { o.calls, hangs = append(o.calls, c), o.hangs })
	if hangs != nil {
		<-hangs
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.fail > 0:
		o.fail--
		http.Error(w, "out of order: "+o.secret, http.StatusInternalServerError)
		return
	case o.done[c.body.ID]:
		return // a call whose answer was lost
	}
	o.done[c.body.ID] = true
	path, id := c.body.Path, c.body.RotationID
	switch {
	case c.body.Event == "rotation.create":
		o.live[path] = append(o.live[path], id)
		o.most = max(o.most, len(o.live[path]))
		o.made[id] = o.value("a key of the orchestrator")
		key := o.made[id]
		o.runs.Go(func() { o.writeBack(path, id, key) })
	case *c.body.Promoted:
		o.finished[id], o.live[path] = true, []string{id}
	default:
		o.finished[id] = false
		o.live[path] = slices.DeleteFunc(o.live[path], func(other string) bool { return other == id })
	}
}

// writeBack sends a key as the chain does at its end: again while Vault is out
// of order.
func (o *orchestrator) writeBack(path, id, key string) {
	var wrote error
	err := eventually("the key is written back", func() (bool, error) {
		var refusal *api.ResponseError
		_, wrote = o.chain.Logical().Write(o.mount+"/rotate/"+path, data{"rotation_id": id, "value": key})
		return !errors.As(wrote, &refusal) || refusal.StatusCode < http.StatusInternalServerError, nil
	})
	o.change(func() { o.wrote = append(o.wrote, errors.Join(err, wrote)) })
}

// release answers the calls that hang, and those that come.
func (o *orchestrator) release() {
	o.change(func() {
		if o.hangs != nil {
			close(o.hangs)
			o.hangs = nil
		}
	})
}

// signed reports whether the signature is good and recent.
func (o *orchestrator) signed(signature string, body []byte) bool {
	const most = 5 * time.Minute
	seconds, sum, _ := strings.Cut(strings.TrimPrefix(signature, "t="), ",v1=")
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > most {
		return false
	}
	got, err := hex.DecodeString(sum)
	return err == nil && hmac.Equal(got, o.sum(at, body))
}

func (o *orchestrator) sum(at int64, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(o.secret))
	fmt.Fprintf(mac, "%d.%s", at, body)
	return mac.Sum(nil)
}

// change does something with the orchestrator's lock held.
func (o *orchestrator) change(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do()
}

// post sends a body that somebody recorded, and returns the status.
func (o *orchestrator) post(signature string, body []byte) int {
	o.Helper()
	req, err := http.NewRequest(http.MethodPost, o.server.URL+"/rotate", bytes.NewReader(body))
	o.must(err)
	req.Header.Set("X-Agentchains-Signature", signature)
	resp, err := http.DefaultClient.Do(req)
	o.must(err)
	o.must(resp.Body.Close())
	return resp.StatusCode
}

// events are the calls so far, without those that were not signed.
func (o *orchestrator) events() (events []string) {
	o.change(func() {
		for _, c := range o.calls {
			events = append(events, c.body.Event)
		}
	})
	return events
}

// listed returns the paths that status lists under a word.
func (e *engine) listed(word string) (paths []string) {
	e.Helper()
	for _, line := range e.read("status")[word].([]any) {
		paths = append(paths, line.(data)["path"].(string))
	}
	return paths
}

// An orchestrator that is out of order at first makes the key of a rotation. Its
// chain can write the value that is waited for, and do nothing else.
func TestRotationChain(t *testing.T) {
	const agent = "prod/c/Worker"
	e := newEngine(t)
	e.chain("c", "", "OPENAI_API_KEY")
	e.secret(openAI, nil)
	o := e.newOrchestrator(e.policy(policies(t, e.mount)["Rotation chain"]), openAI)
	chain := e.as(o.chain.Token())
	old := e.start(agent, nil)
	o.change(func() { o.fail = 1 })

	begun := e.write("rotate/"+openAI, data{})
	id := begun["rotation_id"].(string)
	e.same("the rotation", []any{begun["state"], begun["trigger"], begun["rotator"], begun["pending_version"]}, []any{"creating", "request", "orchestrator", 0})
	e.reaches(openAI, "failed")
	failed := e.rotation(openAI)
	e.same("what failed", []any{failed["step"], failed["attempt"], failed["last_error"]},
		[]any{"creating", 1, strings.TrimPrefix(o.server.URL, "http://") + " answers 500"})
	if at, err := time.Parse(time.RFC3339, failed["next_attempt"].(string)); err != nil || time.Until(at) > 11*time.Second {
		t.Errorf("the next attempt is at %v, %v", failed["next_attempt"], err)
	}
	e.same("failed", e.listed("failed"), []string{openAI})
	e.refused(409, "is under way", update, "rotate/"+openAI, data{})
	e.same("a new reader's value", e.read("reveal/" + openAI)["version"], 1)

	e.reaches(openAI, "serving")
	e.same("failed", e.listed("failed"), nil)
	serving := e.rotation(openAI)
	e.same("the rotation", []any{serving["rotation_id"], serving["pending_version"], serving["blocking_executions"], serving["proof"], serving["attempt"], serving["last_error"]},
		[]any{id, 2, []string{old.id}, "", 0, nil})
	e.same("draining", e.listed("draining"), []string{openAI})
	created := o.calls[0]
	e.same("the call", []any{created.body.ID, created.body.Path, created.body.RotationID, created.body.RotationChain}, []any{id + ".create", openAI, id, "rotate-openai"})

	chain.denied(update, "rotate/"+openAI)
	for what, body := range map[string]data{
		"does not wait for a value": {"rotation_id": id, "value": e.value("a second key")},
		"another rotation_id":       {"rotation_id": "no such rotation", "value": e.value("a key for another")},
	} {
		chain.refused(409, what, update, "rotate/"+openAI, body)
	}
	e.refused(400, "has a rotator", update, "rotate/"+openAI, data{"value": e.value("a key of nobody")})

	signature := created.header.Get("X-Agentchains-Signature")
	earlier := time.Now().Add(-time.Hour).Unix()
	e.same("replays", []int{
		o.post(signature, created.text),
		o.post(signature, bytes.Replace(created.text, []byte(id), []byte(noExecution), 1)),
		o.post(fmt.Sprintf("t=%d,v1=%x", earlier, o.sum(earlier, created.text)), created.text),
	}, []int{http.StatusOK, http.StatusUnauthorized, http.StatusUnauthorized})
	o.change(func() { e.same("keys made", len(o.made), 1) })

	e.refused(409, "nobody has used", update, "promote/"+openAI, data{})
	e.same("proof", e.write("confirm/"+openAI, data{"rotation_id": id})["proof"], "confirmed")
	e.same("what a new execution gets", e.start(agent, nil).env, data{"OPENAI_API_KEY": o.made[id]})
	old.write("execution/"+old.id+"/finish", data{})
	e.reaches(openAI, "idle")
	o.change(func() {
		e.same("finished", o.finished, map[string]bool{id: true})
		e.same("keys that work", o.live, map[string][]string{openAI: {id}})
	})
	e.same("calls", o.events(), []string{"rotation.create", "rotation.create", "rotation.create", "rotation.finish"})
	o.change(func() { e.same("what Vault said of the keys", o.wrote, []any{nil}) })
	line := e.last(openAI)
	e.same("history", []any{line["rotation_id"], line["result"], line["to_version"], line["executions_left"]}, []any{id, "promoted", 2, 0})
	e.same("value", e.read("reveal/"+openAI), data{"value": o.made[id], "version": 2})
}

// An orchestrator that never answers holds up nothing but its own rotation, which
// can be aborted meanwhile, and can be told so later.
func TestRotationChainHangs(t *testing.T) {
	e := newEngine(t)
	value := e.secret(openAI, nil)
	e.secret("prod/org/OTHER", nil)
	o := e.newOrchestrator("default", openAI)
	o.change(func() { o.hangs = make(chan struct{}) })
	id := e.write("rotate/"+openAI, data{})["rotation_id"].(string)
	e.must(eventually("the orchestrator is called", func() (bool, error) { return len(o.events()) == 1, nil }))
	e.write("rotate/prod/org/OTHER", data{"value": e.value("OTHER"), "min_overlap": 0})
	e.write("confirm/prod/org/OTHER", data{})
	e.reaches("prod/org/OTHER", "idle")
	e.same("state", e.state(openAI), "creating")

	e.same("state", e.write("abort/"+openAI, data{"reason": "nobody there"})["state"], "finishing")
	o.release()
	e.same("value", e.read("reveal/"+openAI), data{"value": value, "version": 1})
	e.reaches(openAI, "idle")
	o.change(func() { e.same("finished", o.finished, map[string]bool{id: false}) })
	line := e.last(openAI)
	e.same("history", []any{line["rotation_id"], line["result"], line["reason"], line["to_version"]}, []any{id, "aborted", "nobody there", 0})
}
