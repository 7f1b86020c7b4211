package agentchains

import (
	"context"
	"encoding/json"
	"net/url"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/notify"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// notifierEntry says who is told of what, and how. What is sensitive is not part
// of its JSON form; see storedNotifier.
type notifierEntry struct {
	Events   []string `json:"events"` // patterns; see notify.CheckPattern
	Template string   `json:"template,omitempty"`
	CAPEM    string   `json:"ca_pem,omitempty"`
	// URL is sensitive because what follows its host is the credential of some
	// services.
	URL        sensitive.String            `json:"-"`
	HMACSecret sensitive.String            `json:"-"`
	RoutingKey sensitive.String            `json:"-"`
	Headers    map[string]sensitive.String `json:"-"`
}

// plainNotifier has the fields of a notifierEntry and none of its methods.
type plainNotifier notifierEntry

// storedNotifier is the form of a notifierEntry in storage.
type storedNotifier struct {
	*plainNotifier
	URL        string            `json:"url"`
	HMACSecret string            `json:"hmac_secret,omitempty"`
	RoutingKey string            `json:"routing_key,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
}

func (e *notifierEntry) stored() storedNotifier {
	return storedNotifier{(*plainNotifier)(e), e.URL.Reveal(), e.HMACSecret.Reveal(), e.RoutingKey.Reveal(), revealed(e.Headers)}
}

// UnmarshalJSON reads the stored form.
func (e *notifierEntry) UnmarshalJSON(data []byte) error {
	s := storedNotifier{plainNotifier: (*plainNotifier)(e)}
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	e.URL, e.HMACSecret, e.RoutingKey = sensitive.New(s.URL), sensitive.New(s.HMACSecret), sensitive.New(s.RoutingKey)
	e.Headers = concealed(s.Headers)
	return nil
}

const (
	mostNotifiers = 64 // each may have a call under way
	mostHeaders   = 32
)

func (e *notifierEntry) validate(hosts outbound.Hosts) error {
	if e.URL.Len() == 0 {
		return badRequest("url must say where notifications are sent")
	}
	if _, err := hosts.CheckURL(e.URL.Reveal()); err != nil {
		return badRequest("url: %s", err)
	}
	if len(e.Events) == 0 {
		return badRequest("events must name at least one event, or *")
	}
	for i, pattern := range e.Events {
		if err := notify.CheckPattern(pattern); err != nil {
			return badRequest("events[%d] %s", i, err)
		}
	}
	switch e.Template {
	case notify.Plain, notify.Slack, notify.PagerDuty:
	default:
		return badRequest("template must be %s or %s, or empty for the plain notification", notify.Slack, notify.PagerDuty)
	}
	if e.Template == notify.Plain && e.HMACSecret.Len() == 0 {
		return badRequest("hmac_secret is needed: whoever gets a notification checks its signature")
	}
	if needed := e.Template == notify.PagerDuty; needed != (e.RoutingKey.Len() > 0) {
		return badRequest("routing_key is needed with template %s, and only there", notify.PagerDuty)
	}
	if len(e.Headers) > mostHeaders {
		return badRequest("headers must be at most %d", mostHeaders)
	}
	if err := outbound.CheckHeaders(e.Headers); err != nil {
		return badRequest("headers %s", err)
	}
	if _, err := outbound.Roots(e.CAPEM); err != nil {
		return badRequest("ca_pem %s", err)
	}
	return nil
}

// toResponse masks of the url what follows its host.
func (e *notifierEntry) toResponse() *logical.Response {
	shown := ""
	if u, err := url.Parse(e.URL.Reveal()); err == nil {
		shown = u.Scheme + "://" + u.Host
		if u.RequestURI() != "/" {
			shown += "/***...***"
		}
	}
	headers := map[string]string{}
	for name, value := range e.Headers {
		headers[name] = value.Mask()
	}
	data := map[string]any{"url": shown, "events": e.Events, "template": e.Template, "headers": headers}
	addPresent(data, map[string]string{"ca_pem": e.CAPEM})
	for name, text := range map[string]sensitive.String{"hmac_secret": e.HMACSecret, "routing_key": e.RoutingKey} {
		if text.Len() > 0 {
			data[name] = text.Mask()
		}
	}
	return &logical.Response{Data: data}
}

// getNotifier returns a notifier, or nil. It is shared: read, never changed.
func (b *backend) getNotifier(ctx context.Context, s logical.Storage, name string) (*notifierEntry, error) {
	return cachedGet[notifierEntry](ctx, b.cache, s, notifierKey(name))
}

// requireNotifier is getNotifier, with an error when there is none.
func (b *backend) requireNotifier(ctx context.Context, s logical.Storage, name string) (*notifierEntry, error) {
	e, err := b.getNotifier(ctx, s, name)
	if err == nil && e == nil {
		return nil, notFound("there is no notifier %s", name)
	}
	return e, err
}

func (b *backend) putNotifier(ctx context.Context, s logical.Storage, name string, e *notifierEntry) error {
	c, err := b.getConfig(ctx, s)
	if err != nil {
		return err
	}
	if err := e.validate(outbound.Hosts(c.AllowedHosts)); err != nil {
		return err
	}
	b.notifierLock.Lock()
	defer b.notifierLock.Unlock()
	defer b.anyNotifier.Store(nil)
	return cachedPut(ctx, b.cache, s, notifierKey(name), e, e.stored())
}
