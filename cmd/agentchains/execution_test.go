package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// What Vault answers is an order, or says nothing about the execution.
func TestRefusal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status int
		text   string
		want   string // nothing: try again
		told   bool
	}{
		{400, "failed to renew entry: resp: (*logical.Response)(nil) err: EXECUTION_TERMINATED: the execution was told to stop", "it was told to stop", true},
		{400, "failed to renew entry: err: EXECUTION_ENDED: the execution has ended", "its lease has ended", false},
		{400, "lease not found", "its lease has ended", false},
		{400, "failed to renew entry: err: ENGINE_NOT_READY: the engine cannot say", "", false},
		{400, "failed to renew entry: err: rpc error: code = Unavailable", "", false},
		{403, "permission denied", "its token is no longer good", false},
		{404, "there is no such execution", "Vault does not know the execution any more", false},
		{500, "internal error", "", false},
		{503, "Vault is sealed", "", false},
	} {
		over := refusal(&api.ResponseError{StatusCode: test.status, Errors: []string{test.text}})
		switch {
		case over == nil && test.want != "":
			t.Errorf("%d %s: no order", test.status, test.text)
		case over != nil && (over.reason != test.want || over.told != test.told):
			t.Errorf("%d %s: %+v", test.status, test.text, *over)
		}
	}
	if refusal(errors.New("connection refused")) != nil {
		t.Error("a Vault that is out of reach gives orders")
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for tries := 1; tries < 100; tries++ {
		if pause := backoff(tries); pause < 100*time.Millisecond || pause > 5*time.Second {
			t.Errorf("try %d: %s", tries, pause)
		}
	}
}

// TestUnwrap takes the first line of the input, and leaves the rest to the agent.
func TestUnwrap(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != "wrapping" {
			http.Error(w, `{"errors":["wrapping token is not valid or does not exist"]}`, http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(`{"auth":{"client_token":"inner"}}`))
	}))
	t.Cleanup(server.Close)
	for input, want := range map[string]string{
		"wrapping\nfor the agent": "",
		"wrapping\r\n":            "",
		"other\n":                 "not valid",
		"wrapping":                "standard input",
		"":                        "standard input",
	} {
		client, err := api.NewClient(&api.Config{Address: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		in := bytes.NewBufferString(input)
		err = unwrap(t.Context(), client, in)
		switch {
		case want == "" && (err != nil || client.Token() != "inner"):
			t.Errorf("%q: %v", input, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", input, err, want)
		case want == "" && strings.HasSuffix(input, "agent") && in.String() != "for the agent":
			t.Errorf("%d bytes are left to the agent", in.Len())
		}
	}
}
