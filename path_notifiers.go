package agentchains

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/notify"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

func (b *backend) pathNotifiers() *framework.Path {
	fields := notifierFields()
	fields["name"] = pathField(notifierNameHelp)
	return &framework.Path{
		Pattern:        "notifiers/" + framework.MatchAllRegex("name"),
		DisplayAttrs:   displayAttrs("", "notifier"),
		Fields:         fields,
		ExistenceCheck: b.notifierExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: &framework.PathOperation{
				Callback: b.notifierWrite, Summary: "Set up a notifier.", DisplayAttrs: displayAttrs("create", "notifier"), Responses: okResponse(notifierFields()),
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.notifierWrite, Summary: "Change a notifier: only the fields that are sent.", DisplayAttrs: displayAttrs("update", "notifier"), Responses: okResponse(notifierFields()),
				Description: "When url or ca_pem changes, sensitive fields that are not sent with it are dropped.",
			},
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.notifierRead, Summary: "Read a notifier. Sensitive fields are masked, and of url what follows the host.", DisplayAttrs: displayAttrs("read", "notifier"), Responses: okResponse(notifierFields()),
			},
			logical.DeleteOperation: &framework.PathOperation{
				Callback: b.notifierDelete, Summary: "Delete a notifier, and what waits for it.", DisplayAttrs: displayAttrs("delete", "notifier"), Responses: noContent(),
			},
		},
		HelpSynopsis:    "Notifiers: who is told when something happens.",
		HelpDescription: notifiersHelp,
	}
}

func (b *backend) pathNotifiersList() *framework.Path {
	return pathList("notifiers/", "notifiers", "List notifiers.", b.notifierList)
}

const notifierNameHelp = "The name of the notifier."

const notifiersHelp = `
A notification is stored before the request that caused it ends, and delivered
at least once: a call that fails is made again for about a day, later each time.
Then it is a dead letter, which status lists and retry has delivered again.
`

func notifierFields() map[string]*framework.FieldSchema {
	secret := func(t framework.FieldType, name, description string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: t, Description: description, DisplayAttrs: &framework.DisplayAttributes{Name: name, Sensitive: true}}
	}
	return map[string]*framework.FieldSchema{
		"url":         {Type: framework.TypeString, Description: "Where notifications are sent. Its host must be in allowed_hosts of config."},
		"events":      {Type: framework.TypeCommaStringSlice, Description: "What is told: events, such as rotation.failed, patterns, such as rotation.*, or *, which is the default."},
		"hmac_secret": secret(framework.TypeString, "hmac_secret", "The key of the signature in the header "+outbound.SignatureHeader+". Needed without a template."),
		"headers":     secret(framework.TypeMap, "headers", "Headers that are sent beside."),
		"template":    {Type: framework.TypeString, AllowedValues: []any{notify.Plain, notify.Slack, notify.PagerDuty}, Description: "Send what Slack's incoming webhooks or PagerDuty's Events API v2 take: slack or pagerduty."},
		"routing_key": secret(framework.TypeString, "routing_key", "The integration key of PagerDuty. Needed with template pagerduty."),
		"ca_pem":      {Type: framework.TypeString, Description: "Certificates in PEM that the receiver's is checked against, instead of the system's."},
	}
}

func (b *backend) pathNotifiersTest() *framework.Path {
	return &framework.Path{
		Pattern:      "notifiers/(?P<name>.+)/test",
		DisplayAttrs: displayAttrs("test", "notifier"),
		Fields:       map[string]*framework.FieldSchema{"name": pathField(notifierNameHelp)},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.notifierTest, Summary: "Send " + notify.Test + " now, once, whatever the events.", DisplayAttrs: displayAttrs("test", "notifier"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"delivered":  {Type: framework.TypeBool, Description: "Whether the answer is a success.", Required: true},
					"status":     {Type: framework.TypeInt, Description: "The status of the answer, or 0 without one.", Required: true},
					"latency_ms": {Type: framework.TypeInt, Description: "How long the call took, in milliseconds.", Required: true},
					"error":      {Type: framework.TypeString, Description: "What went wrong, in a sentence, or an empty string.", Required: true},
				}),
			},
		},
		HelpSynopsis:    "Test a notifier.",
		HelpDescription: "Waits at most 10 seconds. A receiver that refuses, or does not answer, is an answer too, and no error.",
	}
}

func (b *backend) pathNotifiersRetry() *framework.Path {
	return &framework.Path{
		Pattern:      "notifiers/(?P<name>.+)/retry",
		DisplayAttrs: displayAttrs("retry", "notifier"),
		Fields:       map[string]*framework.FieldSchema{"name": pathField(notifierNameHelp)},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.notifierRetry, Summary: "Deliver the dead letters of a notifier again.", DisplayAttrs: displayAttrs("retry", "notifier"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"retried": {Type: framework.TypeInt, Description: "How many there were.", Required: true},
				}),
			},
		},
		HelpSynopsis:    "Retry what a notifier did not take.",
		HelpDescription: "Dead letters are notifications again, with all their attempts before them.",
	}
}

// notifierName reads the name in the path of a request.
func notifierName(d *framework.FieldData) (string, error) {
	name := d.Get("name").(string)
	if err := scope.CheckSegment(name); err != nil {
		return "", badRequest("the notifier in the path %s", err)
	}
	return name, nil
}

func (b *backend) notifierExists(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
	name, err := notifierName(d)
	if err != nil {
		return false, nil
	}
	e, err := b.getNotifier(ctx, req.Storage, name)
	return e != nil, err
}

func (b *backend) notifierWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := notifierName(d)
	if err != nil {
		return respond(err)
	}
	lock := b.lockEntry(notifierKey(name))
	lock.Lock()
	defer lock.Unlock()
	known, err := b.getNotifier(ctx, req.Storage, name)
	if err != nil {
		return respond(err)
	}
	e := &notifierEntry{Events: []string{"*"}}
	if known != nil {
		*e = *known
	} else if err := checkRoom(ctx, req.Storage); err != nil {
		return respond(err)
	}
	if err := e.apply(req, d); err != nil {
		return respond(err)
	}
	if err := b.putNotifier(ctx, req.Storage, name, e); err != nil {
		return respond(err)
	}
	return e.toResponse(), nil
}

// checkRoom refuses a notifier too many.
func checkRoom(ctx context.Context, s logical.Storage) error {
	names, err := listKeys(ctx, s, notifierPrefix)
	if err == nil && len(names) >= mostNotifiers {
		return badRequest("there are %d notifiers, and no more are possible", len(names))
	}
	return err
}

// apply changes the fields that were sent.
func (e *notifierEntry) apply(req *logical.Request, d *framework.FieldData) error {
	text := func(name string, to *string) {
		if sent, ok := d.GetOk(name); ok {
			*to = sent.(string)
		}
	}
	url, ca := e.URL.Reveal(), e.CAPEM
	text("url", &url)
	text("ca_pem", &ca)
	text("template", &e.Template)
	if !sensitive.New(url).Equal(e.URL) || ca != e.CAPEM {
		// Whoever may write here, and does not know them, could have them sent anywhere.
		e.HMACSecret, e.RoutingKey, e.Headers = sensitive.String{}, sensitive.String{}, nil
	}
	e.URL, e.CAPEM = sensitive.New(url), ca
	for name, to := range map[string]*sensitive.String{"hmac_secret": &e.HMACSecret, "routing_key": &e.RoutingKey} {
		if sent, ok := d.GetOk(name); ok {
			*to = sensitive.New(sent.(string))
		}
	}
	if events, ok := d.GetOk("events"); ok {
		e.Events = events.([]string)
	}
	if _, ok := d.Raw["headers"]; !ok {
		return nil
	}
	headers, err := stringMap(req, d, "headers")
	if err != nil {
		return err
	}
	e.Headers = map[string]sensitive.String{}
	for name, value := range headers {
		e.Headers[name] = sensitive.New(*value)
	}
	return nil
}

func (b *backend) notifierRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := notifierName(d)
	if err != nil {
		return respond(err)
	}
	e, err := b.requireNotifier(ctx, req.Storage, name)
	if err != nil {
		return respond(err)
	}
	return e.toResponse(), nil
}

// notifierDelete deletes what waits before the notifier: a crash between leaves
// one without anything, never something that the next of its name would get.
func (b *backend) notifierDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := notifierName(d)
	if err != nil {
		return respond(err)
	}
	ctx, cancel := commitContext(ctx)
	defer cancel()
	lock := b.lockEntry(notifierKey(name))
	lock.Lock()
	defer lock.Unlock()
	return respond(b.withQueue(ctx, req.Storage, name, func(q *queue) error {
		if err := b.deleteOutbox(ctx, req.Storage, q); err != nil {
			return err
		}
		b.notifierLock.Lock()
		defer b.notifierLock.Unlock()
		defer b.anyNotifier.Store(nil)
		return cachedDelete(ctx, b.cache, req.Storage, notifierKey(name))
	}))
}

func (b *backend) notifierTest(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := notifierName(d)
	if err != nil {
		return respond(err)
	}
	e, err := b.requireNotifier(ctx, req.Storage, name)
	if err != nil {
		return respond(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if w := b.worker.Load(); w != nil {
		// Vault waits for the request when it takes the engine down.
		defer context.AfterFunc(w.ctx, cancel)()
	}
	begun := time.Now()
	status, err := b.send(ctx, req.Storage, e, notification{ID: notify.Test + "." + req.ID, Event: notify.Test, Time: b.now(), Fields: map[string]any{"notifier": name}})
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	return &logical.Response{Data: map[string]any{
		"delivered": err == nil, "status": status, "latency_ms": time.Since(begun).Milliseconds(), "error": failure,
	}}, nil
}

func (b *backend) notifierRetry(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := notifierName(d)
	if err != nil {
		return respond(err)
	}
	if _, err := b.requireNotifier(ctx, req.Storage, name); err != nil {
		return respond(err)
	}
	retried, err := b.retryDeadLetters(ctx, req.Storage, name)
	if err != nil {
		return respond(err)
	}
	return &logical.Response{Data: map[string]any{"retried": retried}}, nil
}

func (b *backend) notifierList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return listScopes(ctx, req.Storage, notifierPrefix, d)
}
