package rotator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// webhookType lets an orchestrator make the new values: it is called, runs what
// it has to, and writes them to rotate/ with the id of the rotation.
var webhookType = &Type{
	Name: "webhook",
	Fields: []Field{
		{Name: "url", Kind: Text, Required: true, Address: true, Description: "Where the orchestrator is called."},
		{Name: "hmac_secret", Kind: Text, Required: true, Sensitive: true, Description: "The key of the signature in the header " + outbound.SignatureHeader + "."},
		{Name: "headers", Kind: Map, Sensitive: true, Description: "Headers that are sent beside."},
		caField,
	},
	FarSide:  true,
	Untested: func(Settings) bool { return true },
	New: func(s Settings, h Host) (Rotator, error) {
		u, err := endpoint(s, h, "url")
		if err != nil {
			return nil, err
		}
		client, err := httpClient(s, h)
		if err != nil {
			return nil, err
		}
		headers := Get[map[string]sensitive.String](s, "headers")
		if err := outbound.CheckHeaders(headers); err != nil {
			return nil, fmt.Errorf("headers %w", err)
		}
		return &webhook{client, u, Get[sensitive.String](s, "hmac_secret"), headers}, nil
	},
}

type webhook struct {
	client  *http.Client
	url     *url.URL
	secret  sensitive.String
	headers map[string]sensitive.String
}

// event is the body of a call. Its id is that of the rotation and the step, so a
// call that is repeated has the same.
type event struct {
	ID            string `json:"id"`
	Event         string `json:"event"`
	Time          string `json:"time"`
	Version       int    `json:"version"` // of this form
	RotationID    string `json:"rotation_id"`
	Path          string `json:"path"`
	RotationChain string `json:"rotation_chain"`
	Promoted      *bool  `json:"promoted,omitempty"`
}

func (w *webhook) Create(ctx context.Context, job *Job) error {
	if job.New.Values != nil {
		return nil
	}
	if err := w.post(ctx, job, "create", nil); err != nil {
		return err
	}
	return ErrWaiting
}

func (*webhook) Set(context.Context, *Job) error  { return nil }
func (*webhook) Test(context.Context, *Job) error { return nil }

func (w *webhook) Finish(ctx context.Context, job *Job) error {
	return w.post(ctx, job, "finish", &job.Promoted)
}

func (w *webhook) post(ctx context.Context, job *Job, step string, promoted *bool) error {
	now := time.Now()
	body, err := json.Marshal(event{
		ID: job.ID + "." + step, Event: "rotation." + step, Time: now.UTC().Format(time.RFC3339), Version: 1,
		RotationID: job.ID, Path: job.Path, RotationChain: job.Chain, Promoted: promoted,
	})
	if err != nil {
		return err
	}
	header := http.Header{}
	for name, value := range w.headers {
		header.Set(name, value.Reveal())
	}
	header.Set("Content-Type", "application/json")
	header.Set(outbound.SignatureHeader, outbound.Sign(w.secret, body, now))
	return call(ctx, w.client, http.MethodPost, w.url, header, body, nil)
}
