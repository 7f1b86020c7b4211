package agentchains

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/notify"
)

func TestNotifiers(t *testing.T) {
	both(t, func(e *env) {
		e.fails(400, update, "notifiers/ops", data{"url": "https://example.com/x?token=SECRET", "hmac_secret": "k"}, "allowed_hosts does not allow example.com:443")
		e.ok(update, "config", data{"allowed_hosts": "example.com,*.example.org"})
		e.fails(404, read, "notifiers/ops", nil, "there is no notifier ops")
		e.ok(update, "notifiers/ops", data{"url": "https://example.com/x?token=SECRET", "hmac_secret": "the key of the signature", "headers": data{"X-Key": "short"}})
		got := e.ok(read, "notifiers/ops", nil)
		e.is(got["url"], "https://example.com/***...***")
		e.is(got["events"], "[*]")
		e.is(got["hmac_secret"], "the...***...")
		e.is(got["headers"], "map[X-Key:***...***]")
		e.is(got["routing_key"], nil)
		e.is(e.keys("notifiers/", nil), "ops")

		e.ok(update, "notifiers/ops", data{"events": "rotation.*,secret.revoked"})
		e.is(e.ok(read, "notifiers/ops", nil)["events"], "[rotation.* secret.revoked]")
		e.is(e.ok(update, "notifiers/ops", data{"url": "https://example.com/x?token=SECRET"})["headers"], "map[X-Key:***...***]")

		// Another address gets nothing that it was not given.
		e.fails(400, update, "notifiers/ops", data{"url": "https://a.example.org/x"}, "hmac_secret is needed")
		e.fails(400, update, "notifiers/ops", data{"ca_pem": certificate(t)}, "hmac_secret is needed")
		e.is(e.ok(update, "notifiers/ops", data{"url": "https://a.example.org", "hmac_secret": "k"})["headers"], "map[]")
		e.is(e.ok(read, "notifiers/ops", nil)["url"], "https://a.example.org")

		e.ok(update, "notifiers/pager", data{"url": "https://example.com", "template": "pagerduty", "routing_key": "the key of the service"})
		e.is(e.ok(read, "notifiers/pager", nil)["routing_key"], "the...***...")
		e.ok(update, "notifiers/slack", data{"url": "https://example.com", "template": "slack"})
		e.is(e.keys("notifiers/", nil), "ops pager slack")
		e.ok(remove, "notifiers/ops", nil)
		e.ok(remove, "notifiers/ops", nil)
		e.is(e.keys("notifiers/", nil), "pager slack")
	})
}

// certificate returns one that is good for nothing.
func certificate(t *testing.T) string {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func TestNotifierInput(t *testing.T) {
	both(t, func(e *env) {
		e.ok(update, "config", data{"allowed_hosts": "example.com"})
		for _, tt := range []struct {
			change data
			text   string
		}{
			{data{"url": ""}, "url must say"},
			{data{"url": "http://example.com"}, "url: a URL must begin with https://"},
			{data{"url": "https://user:" + marker + "@example.com"}, "url: "},
			{data{"url": "https://169.254.169.254/" + marker}, "url: 169.254.169.254 is an address that is never called"},
			{data{"events": ""}, "events must name"},
			{data{"events": "rotation.failed,rotation.lost"}, "events[1] must be * or one of execution.terminated, "},
			{data{"events": "*.failed"}, "events[0] must be"},
			{data{"events": "notifier.test"}, "events[0] must be"},
			{data{"hmac_secret": ""}, "hmac_secret is needed"},
			{data{"template": "teams"}, "template must be slack or pagerduty"},
			{data{"template": "pagerduty"}, "routing_key is needed"},
			{data{"routing_key": marker}, "routing_key is needed"},
			{data{"headers": data{"X": "a\n" + marker}}, "headers must have"},
			{data{"headers": data{"X Y": marker}}, "headers must have"},
			{data{"headers": data{"X": nil}}, "headers holds null"},
			{data{"ca_pem": marker, "hmac_secret": "k"}, "ca_pem must hold"},
		} {
			body := data{"url": "https://example.com", "hmac_secret": "k"}
			for field, value := range tt.change {
				body[field] = value
			}
			status, text, _ := e.send(e.request(update, "notifiers/n", body))
			if status != 400 || !strings.Contains(text, tt.text) || strings.Contains(text, marker) {
				e.Errorf("%v: %d %q", tt.change, status, text)
			}
		}
		e.fails(400, update, "notifiers/a.b", data{}, "the notifier in the path")
		e.fails(404, update, "notifiers/n/test", nil, "there is no notifier n")
		e.fails(404, update, "notifiers/n/retry", nil, "there is no notifier n")
		for i := range mostNotifiers {
			e.ok(update, fmt.Sprintf("notifiers/n%d", i), data{"url": "https://example.com", "hmac_secret": "k"})
		}
		e.fails(400, update, "notifiers/n", data{"url": "https://example.com", "hmac_secret": "k"}, "no more are possible")
		e.ok(update, "notifiers/n0", data{"events": "*"})
	})
}

func TestNotifierTest(t *testing.T) {
	both(t, func(e *env) {
		r := newReceiver(e)
		r.notifier(e, "ops", data{"events": "secret.revoked"})
		got := e.ok(update, "notifiers/ops/test", nil)
		e.is(got["delivered"], true)
		e.is(got["status"], 200)
		e.is(got["error"], "")
		e.is(r.taken[0]["event"], notify.Test)
		e.is(r.taken[0]["notifier"], "ops")
		for status, text := range map[int]string{307: "answers 307", 503: "answers 503", 0: "cut off"} {
			r.set(status, false)
			got := e.ok(update, "notifiers/ops/test", nil)
			e.is(got["delivered"], false)
			e.is(got["status"], status)
			e.is(strings.HasSuffix(got["error"].(string), text) || status == 0 && strings.Contains(got["error"].(string), text), true)
		}
		// The list of hosts counts at each call.
		e.ok(update, "config", data{"allowed_hosts": ""})
		e.is(e.ok(update, "notifiers/ops/test", nil)["error"], fmt.Sprintf("url: allowed_hosts does not allow 127.0.0.1 at %s", strings.TrimPrefix(r.URL, "http://")))
		e.is(len(e.stored(outboxPrefix)), 0)
	})
}

// TestNotifierErrors says why nobody answered, and nothing of what was sent.
func TestNotifierErrors(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer hanging.Close()
	strange, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer strange.Close()
	go func() {
		for {
			c, err := strange.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1<<10))
			_, _ = io.WriteString(c, marker+"\r\n")
			_ = c.Close()
		}
	}()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, tt := range []struct {
		url, text string
		patience  time.Duration
	}{
		{hanging.URL, "there is no answer within 10s", time.Second},
		{"http://" + strange.Addr().String(), "the call was cut off, or its answer is not HTTP", time.Minute},
		{secure.URL, "certificate", time.Minute},
		{closed.URL, "connection refused", time.Minute},
	} {
		e.ok(update, "notifiers/n", data{"url": tt.url + "/" + marker, "hmac_secret": hmacSecret})
		ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
		n, err := e.b.requireNotifier(ctx, e.s, "n")
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.b.send(ctx, e.s, n, e.happened("one"))
		cancel()
		if err == nil || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), marker) {
			t.Errorf("%q, want %q", err, tt.text)
		}
	}
}

// TestNotifierCertificate trusts the certificates that it is given.
func TestNotifierCertificate(t *testing.T) {
	both(t, func(e *env) {
		e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
		bodies := make(chan []byte, 2)
		s := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			bodies <- body
		}))
		defer s.Close()
		e.ok(update, "notifiers/pager", data{
			"url": s.URL, "template": "pagerduty", "routing_key": "the routing key", "events": "rotation.*",
			"ca_pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})),
		})
		staged := e.happened("staged")
		staged.Event, staged.Fields = "rotation.staged", nil
		if err := e.b.notify(t.Context(), e.s, staged); err != nil {
			t.Fatal(err)
		}
		e.notifies("one")
		if strings.Contains(e.dump(), `"staged"`) {
			t.Error("what makes no alert waits for PagerDuty")
		}
		e.deliver()
		var got data
		if err := json.Unmarshal(<-bodies, &got); err != nil {
			t.Fatal(err)
		}
		e.is(got["routing_key"], "the routing key")
		e.is(got["payload"].(data)["custom_details"].(data)["pending_version"], 1234567)
		e.is(len(e.stored(outboxPrefix)), 0)
	})
}

// TestNotifierDelete takes with the notifier what waits for it, and what is being
// delivered does not come back.
func TestNotifierDelete(t *testing.T) {
	both(t, func(e *env) {
		r := newReceiver(e)
		r.notifier(e, "ops", nil)
		r.set(http.StatusServiceUnavailable, false)
		e.notifies("one")
		e.deliverFor(40 * time.Hour)
		e.notifies("two")
		e.is(len(e.stored(deadLetterPrefix)), 1)
		r.set(http.StatusServiceUnavailable, true)
		calls := r.called()
		e.b.workOnOutbox(t.Context(), e.s)
		r.await(calls + 1)
		e.ok(remove, "notifiers/ops", nil)
		r.CloseClientConnections()
		e.b.worker.Load().group.Wait()
		e.is(len(e.stored(outboxPrefix))+len(e.stored(deadLetterPrefix))+len(e.stored(notifierPrefix)), 0)

		r.set(http.StatusOK, false)
		r.notifier(e, "ops", nil)
		e.deliver()
		e.is(r.ids(), "")
		e.notifies("three")
		e.deliver()
		e.is(r.ids(), "three")
	})
}

// TestNotifierFaults fails every storage operation of the requests that write,
// alone and, as a crash would, with all that follow. The same again succeeds.
func TestNotifierFaults(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]struct {
		op   logical.Operation
		path string
		body data
		want string
	}{
		"create": {update, "notifiers/new", data{"url": "https://example.com", "hmac_secret": "k"}, "new ops"},
		"update": {update, "notifiers/ops", data{"events": "secret.*"}, "ops"},
		"delete": {remove, "notifiers/ops", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, crash := range []bool{false, true} {
				for n := 0; ; n++ {
					e := newEnv(t)
					e.ok(update, "config", data{"allowed_hosts": "example.com"})
					e.ok(update, "notifiers/ops", data{"url": "https://example.com", "hmac_secret": "k"})
					e.notifies("one")
					e.s.arm(n, crash)
					e.tries(m.op, m.path, m.body)
					ops := e.s.disarm()
					if len(ops) <= n {
						break
					}
					view := func() string {
						status, _, resp := e.send(e.request(read, m.path, nil))
						return fmt.Sprint(e.keys("notifiers/", nil), status, resp)
					}
					served := view()
					e.start()
					e.is(view(), served)
					e.ok(m.op, m.path, m.body)
					e.is(e.keys("notifiers/", nil), m.want)
					if m.op == remove {
						e.is(len(e.stored(outboxPrefix)), 0)
					}
				}
			}
		})
	}
}
