package agentchains

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator/iamtest"
)

const awsGroup = "prod/org/aws-deploy"

// awsRotation is a group whose keys are at an IAM server.
type awsRotation struct {
	*env
	far *iamtest.Server
}

func newAWSRotation(e *env) *awsRotation {
	e.Helper()
	x := &awsRotation{e, iamtest.New()}
	e.Cleanup(x.far.Close)
	key := x.far.AddKey("ci", false)
	e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
	e.ok(update, "groups/"+awsGroup, data{"values": data{"AWS_ACCESS_KEY_ID": key.ID, "AWS_SECRET_ACCESS_KEY": key.Secret, "AWS_REGION": "eu-north-1"}})
	e.ok(update, "rotators/aws", data{"type": "aws-iam", "username": "ci", "iam_endpoint": x.far.URL, "sts_endpoint": x.far.URL, "propagation": 5})
	e.ok(update, "schedules/"+awsGroup, data{"rotator": "aws", "rotate_every_days": 30, "max_retries": 100})
	return x
}

// check checks that the far side has no key too many, and the engine's current key.
func (x *awsRotation) check(when string) {
	x.Helper()
	keys := x.far.Keys("ci")
	known := fmt.Sprint(x.ok(read, "reveal/"+awsGroup, nil)["values"])
	for _, key := range keys {
		if strings.HasPrefix(known, "map[AWS_ACCESS_KEY_ID:"+key.ID+" ") && strings.HasSuffix(known, ":"+key.Secret+"]") && key.Active && len(keys) <= 2 {
			return
		}
	}
	x.Errorf("%s: the far side has %d keys, and perhaps not the one that is given out", when, len(keys))
}

// finish lets the engine go on, after whatever has happened, until the rotation
// is over, and checks what is left.
func (x *awsRotation) finish(when string) {
	x.Helper()
	for range 200 {
		x.turn()
		x.check(when)
		if got := x.rotation(awsGroup); got["state"] == "idle" && len(got["history"].([]any)) > 0 {
			if keys := x.far.Keys("ci"); len(keys) != 1 {
				x.Errorf("%s: %d keys are left at the far side", when, len(keys))
			}
			x.is(strings.Contains(fmt.Sprint(x.ok(read, "reveal/"+awsGroup, nil)["values"]), "AWS_REGION:eu-north-1"), true)
			return
		}
		x.clock.advance(time.Minute)
	}
	x.Errorf("%s: the rotation does not end: %v", when, x.rotation(awsGroup))
}

// TestStepsCrash ends the engine at every point of every call to the far side,
// before and after its effect, and at every storage operation.
func TestStepsCrash(t *testing.T) {
	t.Parallel()
	t.Run("far side", func(t *testing.T) {
		t.Parallel()
		for n := 0; ; n++ {
			x := newAWSRotation(newEnv(t))
			reached, last := 0, iamtest.Point{}
			x.far.Hook(func(p iamtest.Point) bool {
				reached++
				if reached != n+1 {
					return true
				}
				last = p
				x.s.arm(0, true) // from here on the engine stores nothing: it is dead
				return false
			})
			x.tries(update, "rotate/"+awsGroup, nil)
			x.goOn()
			x.far.Hook(nil)
			x.s.disarm()
			if reached <= n {
				if n < 10 {
					t.Errorf("only %d points", n)
				}
				break
			}
			x.start()
			x.check(fmt.Sprint(last))
			x.finish(fmt.Sprint(last))
		}
	})
	t.Run("storage", func(t *testing.T) {
		t.Parallel()
		for _, crash := range []bool{false, true} {
			for n := 0; ; n++ {
				x := newAWSRotation(newEnv(t))
				x.s.arm(n, crash)
				begun := x.tries(update, "rotate/"+awsGroup, nil)
				x.goOn()
				ops := x.s.disarm()
				if len(ops) <= n {
					break
				}
				x.start()
				if !begun {
					x.tries(update, "rotate/"+awsGroup, nil)
				}
				x.finish(ops[n] + " fails")
			}
		}
	})
}

// goOn does what the worker does for twenty minutes. It may fail.
func (e *env) goOn() {
	for range 20 {
		_, _ = e.b.advanceRotations(e.Context(), e.s)
		e.b.worker.Load().group.Wait()
		e.clock.advance(time.Minute)
	}
}

// orchestrator is the far side of a webhook.
type orchestrator struct {
	*httptest.Server
	mu     sync.Mutex // guards the rest
	calls  []data
	status int
}

func newOrchestrator(e *env) *orchestrator {
	o := &orchestrator{status: http.StatusAccepted}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var call data
		_ = json.Unmarshal(body, &call)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.calls = append(o.calls, call)
		w.WriteHeader(o.status)
		_, _ = w.Write([]byte("the key hmac-key-of-the-webhook is wrong"))
	}))
	e.Cleanup(o.Close)
	return o
}

func (o *orchestrator) answer(status int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status = status
}

func (o *orchestrator) events() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var events []string
	for _, call := range o.calls {
		events = append(events, fmt.Sprint(call["event"]))
	}
	return strings.Join(events, " ")
}

// TestWebhookRotation is a rotation chain: somebody else makes the value, and
// writes it back.
func TestWebhookRotation(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		o := newOrchestrator(e)
		e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
		e.ok(update, "rotators/hook", data{"type": "webhook", "url": o.URL, "hmac_secret": "hmac-key-of-the-webhook"})
		e.is(e.ok(read, "rotators/hook", nil)["hmac_secret"], "hma...***...")
		e.ok(update, "config", data{"rotation_webhook": "hook"})
		e.ok(update, "schedules/"+openAI, data{"rotation_chain": "rotate-openai", "rotate_every_days": 30, "max_retries": 1})
		e.is(e.ok(read, "schedules/"+openAI, nil)["rotator"], "hook")

		o.answer(500)
		got := e.ok(update, rotateOpen, data{"min_overlap": 0})
		e.is(got["state"], "creating")
		id := fmt.Sprint(got["rotation_id"])
		e.turn()
		got = e.rotation(openAI)
		e.is(got["state"], "failed")
		e.is(got["attempt"], 1)
		if text := fmt.Sprint(got["last_error"]); !strings.Contains(text, "500") || strings.Contains(text, "hmac-key") {
			e.Errorf("the error is %q", text)
		}
		e.is(len(e.ok(read, "status", nil)["failed"].([]any)), 1)
		e.clock.advance(10 * time.Second)
		e.turn()
		e.is(e.rotation(openAI)["state"], "orphaned")
		e.is(len(e.ok(read, "status", nil)["orphaned"].([]any)), 1)

		o.answer(202)
		e.ok(update, rotateOpen, data{"rotation_id": id})
		e.turn()
		e.is(e.rotation(openAI)["state"], "creating")
		e.turn() // it waits, and calls nobody again
		e.is(o.events(), "rotation.create rotation.create rotation.create")
		e.fails(400, update, rotateOpen, data{"value": "second"}, "has a rotator")
		e.fails(409, update, rotateOpen, data{"value": "second", "rotation_id": "0123"}, "another rotation_id")
		e.ok(update, rotateOpen, data{"value": "second", "rotation_id": id})
		e.turn()
		got = e.rotation(openAI)
		e.is(got["state"], "serving")
		e.is(got["proof"], "")
		e.fails(409, update, rotateOpen, data{"value": "third", "rotation_id": id}, "does not wait for a value")
		e.is(e.ok(update, rotateOpen, data{"value": "second", "rotation_id": id})["state"], "serving") // its answer was lost
		e.ok(update, "confirm/"+openAI, data{"rotation_id": id})
		e.turn()
		got = e.rotation(openAI)
		e.is(got["state"], "idle")
		e.is(got["current_version"], 2)
		e.ok(update, rotateOpen, data{"value": "second", "rotation_id": id})
		e.is(o.events(), "rotation.create rotation.create rotation.create rotation.finish")
		for _, call := range o.calls {
			e.is(call["rotation_id"], id)
			e.is(call["rotation_chain"], "rotate-openai")
			e.is(call["path"], openAI)
		}
	})
}

// TestWebhookNeverAnswers calls again when no value came back.
func TestWebhookNeverAnswers(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		o := newOrchestrator(e)
		e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
		e.ok(update, "rotators/hook", data{"type": "webhook", "url": o.URL, "hmac_secret": "hmac-key-of-the-webhook"})
		e.ok(update, "schedules/"+openAI, data{"rotator": "hook", "rotate_every_days": 30})
		e.ok(update, rotateOpen, nil)
		e.turn()
		e.clock.advance(15 * time.Minute)
		e.start()
		e.turn()
		e.is(e.rotation(openAI)["last_error"], "no value came back in time")
		e.clock.advance(10 * time.Second)
		e.turn()
		e.is(o.events(), "rotation.create rotation.create")
		e.ok(update, "abort/"+openAI, nil)
		e.turn()
		e.is(e.rotation(openAI)["state"], "idle")
		e.is(o.events(), "rotation.create rotation.create rotation.finish")

		// Nobody is there to be told that it is dropped.
		e.ok(update, rotateOpen, nil)
		e.turn()
		o.answer(500)
		e.ok(update, "abort/"+openAI, nil)
		e.turn()
		e.is(e.rotation(openAI)["state"], "failed")
		e.fails(409, update, rotateOpen, nil, "its far side is still to be told")
		e.fails(409, update, "abort/"+openAI, nil, "give it up with force=true")
		e.is(e.ok(update, "abort/"+openAI, data{"force": true})["state"], "idle")
	})
}

// TestAllowedHosts is asked at each call, not only when a rotator is set up.
func TestAllowedHosts(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		o := newOrchestrator(e)
		hook := data{"type": "webhook", "url": o.URL, "hmac_secret": "hmac-key-of-the-webhook"}
		e.fails(400, update, "rotators/hook", hook, "allowed_hosts")
		e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
		e.ok(update, "rotators/hook", hook)
		e.ok(update, "schedules/"+openAI, data{"rotator": "hook", "rotate_every_days": 30})
		e.ok(update, "config", data{"allowed_hosts": ""})
		e.fails(400, update, rotateOpen, nil, "allowed_hosts")
		e.is(o.events(), "")
		// Who changes the address does not get what was meant for another.
		e.ok(update, "config", data{"allowed_hosts": "127.0.0.1,hooks.example.com"})
		e.fails(400, update, "rotators/hook", data{"url": "https://hooks.example.com/x"}, "hmac_secret is needed")
		e.is(e.ok(read, "rotators/hook", nil)["url"], o.URL)
	})
}
