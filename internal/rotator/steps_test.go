package rotator_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// farSide is a TLS server that can take a request and lose its answer.
type farSide struct {
	*httptest.Server
	lose atomic.Int64 // how many requests from now; 0: none
}

func newFarSide(t *testing.T, h http.HandlerFunc) *farSide {
	t.Helper()
	f := &farSide{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.lose.Add(-1) == 0 {
			h(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		h(w, r)
	}))
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are to fail
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

func (f *farSide) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}))
}

// rotation is a job as the engine stores it, between the steps.
type rotation struct {
	*testing.T
	rotator rotator.Rotator
	job     rotator.Job
	saves   int // how many Saves may succeed; below 0: all
}

func newRotation(t *testing.T, typeName string, s rotator.Settings, old rotator.Version) *rotation {
	t.Helper()
	r, err := rotator.Types[typeName].New(s, rotator.Host{Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	return &rotation{t, r, rotator.Job{
		ID: "rotation-1", Path: "prod/org/API_KEY", Variable: "API_KEY", Chain: "new-key", Old: old,
	}, -1}
}

type step func(rotator.Rotator, context.Context, *rotator.Job) error

var errSave = errors.New("the store is full")

// do calls a step with a copy of the job, of which only what is saved stays,
// and what a step that succeeds leaves.
func (r *rotation) do(step step) error {
	r.Helper()
	job := r.job
	job.New = copyOf(job.New)
	job.Save = func(context.Context) error {
		if r.saves == 0 {
			return errSave
		}
		r.saves--
		r.job.New = copyOf(job.New)
		return nil
	}
	err := step(r.rotator, r.Context(), &job)
	if err == nil {
		r.job.New = job.New
	}
	return err
}

func copyOf(v rotator.Version) rotator.Version {
	return rotator.Version{Values: maps.Clone(v.Values), Memo: maps.Clone(v.Memo)}
}

// twice calls a step, and calls it again as after a crash of the engine.
func (r *rotation) twice(steps ...step) {
	r.Helper()
	for _, step := range steps {
		before := copyOf(r.job.New)
		for range 2 {
			if err := r.do(step); err != nil {
				r.Fatal(err)
			}
		}
		if before.Values != nil && !maps.EqualFunc(before.Values, r.job.New.Values, sensitive.String.Equal) {
			r.Fatal("a step after Create changed the values")
		}
	}
}

func (r *rotation) value() string { return r.job.New.Values[r.job.Variable].Reveal() }
