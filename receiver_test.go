package agentchains

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

const hmacSecret = "the key of the notifiers' signatures"

// receiver takes notifications as docs/notifications.md says: it refuses what is
// not signed or too old, and takes each id once.
type receiver struct {
	*httptest.Server
	t     *testing.T
	clock *clock

	mu      sync.Mutex // guards all below
	status  int        // of the answer; 0: the connection is cut after the call was taken
	hangs   bool       // there is no answer
	calls   int
	taken   []data // by their ids, the first of each
	changed chan struct{}
}

func newReceiver(e *env) *receiver {
	e.Helper()
	r := &receiver{t: e.T, clock: e.clock, status: http.StatusOK, changed: make(chan struct{})}
	r.Server = httptest.NewServer(r)
	e.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
	return r
}

// notifier sets up a notifier that calls the receiver.
func (r *receiver) notifier(e *env, name string, more data) {
	e.Helper()
	body := data{"url": r.URL + "/hook?tenant=1", "hmac_secret": hmacSecret, "headers": data{"X-Api-Key": "the key of the receiver"}}
	for field, value := range more {
		body[field] = value
	}
	e.ok(update, "notifiers/"+name, body)
}

// set changes how the receiver answers.
func (r *receiver) set(status int, hangs bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.hangs = status, hangs
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	stamp, signature, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("X-Agentchains-Signature"), "t="), ",v1=")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	mac := hmac.New(sha256.New, []byte(hmacSecret))
	mac.Write([]byte(stamp + "." + string(body)))
	age := r.clock.Now().Sub(time.Unix(seconds, 0))
	if err != nil || !hmac.Equal([]byte(signature), []byte(hex.EncodeToString(mac.Sum(nil)))) || age.Abs() > 5*time.Minute {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var n data
	if err := json.Unmarshal(body, &n); err != nil {
		r.t.Error(err)
	}
	h := req.Header
	if req.RequestURI != "/hook?tenant=1" || h.Get("Content-Type") != "application/json" || h.Get("User-Agent") != "agentchains/"+Version || h.Get("X-Api-Key") != "the key of the receiver" {
		r.t.Errorf("a wrong call: %s %v", req.RequestURI, h)
	}
	r.mu.Lock()
	status, hangs := r.status, r.hangs
	r.calls++
	if status < 300 && !slices.ContainsFunc(r.taken, func(taken data) bool { return taken["id"] == n["id"] }) {
		r.taken = append(r.taken, n)
	}
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	switch {
	case hangs:
		<-req.Context().Done()
	case status == 0:
		panic(http.ErrAbortHandler)
	default:
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, hmacSecret)
	}
}

// ids returns what was taken.
func (r *receiver) ids() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for _, n := range r.taken {
		ids = append(ids, n["id"].(string))
	}
	return strings.Join(ids, " ")
}

func (r *receiver) called() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// await waits until the receiver was called so many times.
func (r *receiver) await(calls int) {
	r.t.Helper()
	limit, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	for {
		r.mu.Lock()
		got, changed := r.calls, r.changed
		r.mu.Unlock()
		if got >= calls {
			return
		}
		select {
		case <-changed:
		case <-limit.Done():
			r.t.Fatalf("%d calls, want %d", got, calls)
		}
	}
}
