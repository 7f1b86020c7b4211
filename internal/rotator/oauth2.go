package rotator

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// oauth2Type gives a registered OAuth 2.0 client a new secret by the client
// configuration endpoint of RFC 7592. A client has one secret: with the new one
// the old one ends, whatever becomes of the rotation.
var oauth2Type = &Type{
	Name: "oauth2-client-secret",
	Fields: []Field{
		{Name: "client_configuration_url", Kind: Text, Required: true, Address: true, Description: "The client's registration_client_uri."},
		{Name: "registration_access_token", Kind: Text, Required: true, Sensitive: true, Description: "The client's token for that. When the server gives a new one, it is kept with the value."},
		{Name: "token_endpoint", Kind: Text, Address: true, Description: "Where a new secret is tested, by a request with grant_type=client_credentials."},
		caField,
		templateField,
	},
	FarSide:  true,
	Untested: func(s Settings) bool { return Get[string](s, "token_endpoint") == "" },
	Overlaps: func(Settings) bool { return false },
	New: func(s Settings, h Host) (Rotator, error) {
		configuration, err := endpoint(s, h, "client_configuration_url")
		if err != nil {
			return nil, err
		}
		client, err := httpClient(s, h)
		if err != nil {
			return nil, err
		}
		o := &oauth2{client, configuration, Get[sensitive.String](s, "registration_access_token"), nil, templates(s, "{{client_secret}}")}
		if Get[string](s, "token_endpoint") != "" {
			if o.tokens, err = endpoint(s, h, "token_endpoint"); err != nil {
				return nil, err
			}
		}
		return o, nil
	},
}

type oauth2 struct {
	client        *http.Client
	configuration *url.URL
	token         sensitive.String
	tokens        *url.URL // nil: nothing is tested
	templates     map[string]string
}

// What the memo of a version holds, by the names of RFC 7591, and under
// replacing what the secret was before the server was asked for a new one.
const (
	registrationToken = "registration_access_token"
	clientID          = "client_id"
	clientSecret      = "client_secret"
	authMethod        = "token_endpoint_auth_method"
	replacing         = "replacing"
)

// Create asks for an update of the client that changes nothing, upon which the
// server issues a new secret.
func (o *oauth2) Create(ctx context.Context, job *Job) error {
	if job.New.Values != nil {
		return nil
	}
	// What is wrong with the template has to be known while the old secret lives.
	if _, err := render(job, o.templates, map[string]sensitive.String{clientID: {}, clientSecret: {}}); err != nil {
		return err
	}
	if job.New.Memo == nil {
		job.New.Memo = map[string]sensitive.String{}
	}
	client, err := o.read(ctx, job)
	if err != nil {
		return err
	}
	now, before := client.text(clientSecret), job.New.Memo[replacing]
	if now.Len() == 0 || before.Len() == 0 || now.Equal(before) {
		job.New.Memo[replacing] = now
		if err := job.Save(ctx); err != nil {
			return err
		}
		if client, err = o.update(ctx, job, client); err != nil {
			return err
		}
		if issued := client.text(clientSecret); issued.Len() == 0 || issued.Equal(now) {
			return errors.New("the server updated the client but issued no new client_secret")
		}
	}
	delete(job.New.Memo, replacing)
	for _, name := range []string{clientID, clientSecret, authMethod} {
		job.New.Memo[name] = client.text(name)
	}
	values, err := render(job, o.templates, map[string]sensitive.String{clientID: client.text(clientID), clientSecret: client.text(clientSecret)})
	if err != nil {
		return err
	}
	job.New.Values = values
	return nil
}

func (*oauth2) Set(context.Context, *Job) error { return nil }

func (o *oauth2) Test(ctx context.Context, job *Job) error {
	if o.tokens == nil {
		return nil
	}
	id, secret := job.New.Memo[clientID].Reveal(), job.New.Memo[clientSecret].Reveal()
	form := url.Values{"grant_type": {"client_credentials"}}
	req := http.Request{Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}}
	if job.New.Memo[authMethod].Reveal() == "client_secret_post" {
		form.Set(clientID, id)
		form.Set(clientSecret, secret)
	} else {
		req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	return call(ctx, o.client, http.MethodPost, o.tokens, req.Header, []byte(form.Encode()), nil)
}

// Finish has nothing to remove: the server did when it issued the new secret. The
// token for the next update outlives an aborted rotation.
func (*oauth2) Finish(_ context.Context, job *Job) error {
	if token, known := job.New.Memo[registrationToken]; known && !job.Promoted {
		job.Old.Memo[registrationToken] = token
	}
	return nil
}

// metadata is what the server says of the client.
type metadata map[string]json.RawMessage

func (m metadata) text(name string) sensitive.String {
	var text string
	_ = json.Unmarshal(m[name], &text) // what is absent or no text stays empty
	return sensitive.New(text)
}

// read returns the client as it is now. It tries the tokens that may be the last
// one, the newest first: an older one may be what an operator has since given.
func (o *oauth2) read(ctx context.Context, job *Job) (metadata, error) {
	var client metadata
	var err error
	tokens := []sensitive.String{job.New.Memo[registrationToken], job.Old.Memo[registrationToken], o.token}
	for _, token := range slices.CompactFunc(tokens, sensitive.String.Equal) {
		if token.Len() == 0 {
			continue
		}
		job.New.Memo[registrationToken] = token
		if client, err = o.configure(ctx, job, http.MethodGet, nil); status(err) != http.StatusUnauthorized {
			break
		}
	}
	return client, err
}

// update sends the client back as it is. The server refuses the members that are
// not for the client to set, and issues a secret when there is none.
func (o *oauth2) update(ctx context.Context, job *Job, client metadata) (metadata, error) {
	for _, name := range []string{registrationToken, "registration_client_uri", "client_secret_expires_at", "client_id_issued_at", clientSecret} {
		delete(client, name)
	}
	body, err := json.Marshal(client)
	if err != nil {
		return nil, err
	}
	return o.configure(ctx, job, http.MethodPut, body)
}

// configure calls the client configuration endpoint, and keeps the token for the
// next call: with a new one, the one before has ended.
func (o *oauth2) configure(ctx context.Context, job *Job, method string, body []byte) (metadata, error) {
	header := http.Header{"Accept": {"application/json"}, "Authorization": {"Bearer " + job.New.Memo[registrationToken].Reveal()}}
	if body != nil {
		header.Set("Content-Type", "application/json")
	}
	var client metadata
	if err := call(ctx, o.client, method, o.configuration, header, body, &client); err != nil {
		return nil, err
	}
	token := client.text(registrationToken)
	if token.Len() == 0 || token.Equal(job.New.Memo[registrationToken]) {
		return client, nil
	}
	job.New.Memo[registrationToken] = token
	return client, job.Save(ctx)
}
