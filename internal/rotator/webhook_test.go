package rotator_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// orchestrator takes the calls of a webhook, and keeps those that are signed.
type orchestrator struct {
	*farSide
	mu     sync.Mutex // guards all below
	status int
	events []map[string]any
	wrong  []string
}

const hookSecret = "the key of the signature"

func newOrchestrator(t *testing.T) *orchestrator {
	t.Helper()
	o := &orchestrator{status: http.StatusAccepted}
	o.farSide = newFarSide(t, o.take)
	return o
}

func (o *orchestrator) take(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		o.wrong = append(o.wrong, err.Error())
	}
	// Its own reading of what the documentation says of the signature.
	stamp, signature, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("X-Agentchains-Signature"), "t="), ",v1=")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write([]byte(stamp + "." + string(body)))
	if age := time.Since(time.Unix(seconds, 0)); err != nil || signature != hex.EncodeToString(mac.Sum(nil)) || age < 0 || age > time.Minute {
		o.wrong = append(o.wrong, "the signature")
	}
	if r.Method != http.MethodPost || r.URL.RequestURI() != "/hook?tenant=1" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Api-Key") != "the key" {
		o.wrong = append(o.wrong, "the request line or a header")
	}
	var event map[string]any
	if err := json.Unmarshal(body, &event); err != nil {
		o.wrong = append(o.wrong, err.Error())
	}
	text, _ := event["time"].(string)
	if at, err := time.Parse(time.RFC3339, text); err != nil || at.Unix() != seconds {
		o.wrong = append(o.wrong, "the time")
	}
	delete(event, "time")
	o.events = append(o.events, event)
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(o.status)
	_, _ = io.WriteString(w, `{"error":"`+hookSecret+`"}`)
}

func (o *orchestrator) rotation(t *testing.T) *rotation {
	t.Helper()
	return newRotation(t, "webhook", rotator.Settings{
		"url": o.URL + "/hook?tenant=1", "hmac_secret": sensitive.New(hookSecret), "ca_pem": o.ca(),
		"headers": map[string]sensitive.String{"x-api-key": sensitive.New("the key"), "content-type": sensitive.New("text/plain")},
	}, rotator.Version{})
}

func (o *orchestrator) check(t *testing.T, want ...map[string]any) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.wrong) > 0 || !reflect.DeepEqual(o.events, want) {
		t.Errorf("wrong: %s, events: %v", o.wrong, o.events)
	}
}

func hookEvent(step string, more ...any) map[string]any {
	event := map[string]any{
		"id": "rotation-1." + step, "event": "rotation." + step, "version": 1.0,
		"rotation_id": "rotation-1", "path": "prod/org/API_KEY", "rotation_chain": "new-key",
	}
	if len(more) > 0 {
		event["promoted"] = more[0]
	}
	return event
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	for _, promoted := range []bool{true, false} {
		o := newOrchestrator(t)
		r := o.rotation(t)
		for range 2 {
			if err := r.do(rotator.Rotator.Create); !errors.Is(err, rotator.ErrWaiting) {
				t.Fatal(err)
			}
		}
		// The orchestrator wrote the value: nobody has to be asked again.
		r.job.New.Values = map[string]sensitive.String{"API_KEY": sensitive.New("new")}
		r.twice(rotator.Rotator.Create, rotator.Rotator.Set, rotator.Rotator.Test)
		r.job.Promoted = promoted
		r.job.New.Values = nil
		r.twice(rotator.Rotator.Finish)
		o.check(t, hookEvent("create"), hookEvent("create"), hookEvent("finish", promoted), hookEvent("finish", promoted))
	}
}

// A call whose answer is lost is made again, with the same id.
func TestWebhookLostAnswers(t *testing.T) {
	t.Parallel()
	o := newOrchestrator(t)
	r := o.rotation(t)
	for _, step := range []step{rotator.Rotator.Create, rotator.Rotator.Finish} {
		o.lose.Store(1)
		if err := r.do(step); err == nil || errors.Is(err, rotator.ErrWaiting) {
			t.Fatalf("without an answer: %v", err)
		}
		if err := r.do(step); err != nil && !errors.Is(err, rotator.ErrWaiting) {
			t.Fatal(err)
		}
	}
	o.check(t, hookEvent("create"), hookEvent("create"), hookEvent("finish", false), hookEvent("finish", false))
}

func TestWebhookRefused(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusUnauthorized, http.StatusServiceUnavailable} {
		o := newOrchestrator(t)
		o.status = status
		r := o.rotation(t)
		for _, step := range []step{rotator.Rotator.Create, rotator.Rotator.Finish} {
			if err := r.do(step); err == nil || !strings.HasSuffix(err.Error(), "answers "+strconv.Itoa(status)) {
				t.Errorf("%d: the error does not end with it", status)
			}
		}
		o.check(t, hookEvent("create"), hookEvent("finish", false)) // and no redirect was followed
	}
}

func TestWebhookSettings(t *testing.T) {
	t.Parallel()
	for field, value := range map[string]any{
		"url":     "https://192.0.2.1/hook",
		"ca_pem":  "no certificate",
		"headers": map[string]sensitive.String{"X-Key": sensitive.New("a\nb")},
	} {
		given := rotator.Settings{"url": "https://127.0.0.1/hook", "hmac_secret": sensitive.New(hookSecret), field: value}
		if _, err := rotator.Types["webhook"].New(given, rotator.Host{Hosts: []string{"127.0.0.1"}}); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s %v: %v", field, value, err)
		}
	}
}
