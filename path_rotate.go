package agentchains

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

func (b *backend) pathRotate() *framework.Path {
	return &framework.Path{
		Pattern:      "rotate/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "rotation"),
		Fields: map[string]*framework.FieldSchema{
			"path":            pathField(entryPathHelp),
			"value":           valueField("The new value of a secret. Without it the schedule's rotator makes one."),
			"values":          valuesField("The new values of a group. Without them the schedule's rotator makes them."),
			"valid_from":      {Type: framework.TypeString, Description: "When new readers and executions get the new version. By default as soon as it is there."},
			"min_overlap":     {Type: framework.TypeDurationSecond, Description: "For how long at least the old version stays beside the new one."},
			"max_overlap":     {Type: framework.TypeDurationSecond, Description: "For how long at most the old version stays."},
			"on_overdue":      {Type: framework.TypeString, AllowedValues: []any{rotation.Alert, rotation.Kill}, Description: "What happens at max_overlap to executions that hold the old version: alert or kill."},
			"require_confirm": {Type: framework.TypeBool, Description: "Promote only when somebody has confirmed the new version."},
			"force":           {Type: framework.TypeBool, Description: "Drop the pending version of a rotation that is under way, and tell the executions that hold it to stop."},
			"rotation_id":     {Type: framework.TypeString, Description: "The rotation that waits for this value, or that is to try its step again."},
			"after":           {Type: framework.TypeString, Query: true, Description: "Show only blocking executions with an id after this one."},
			"limit":           {Type: framework.TypeInt, Query: true, Description: "Show at most this many blocking executions: 100 by default."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.rotateUpdate, Summary: "Begin a rotation, or give the one under way its value.", DisplayAttrs: displayAttrs("begin", "rotation"), Responses: okResponse(rotationFields()),
			},
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.rotateRead, Summary: "Read the state of the rotation, who holds the old version, and what happened before.", DisplayAttrs: displayAttrs("read", "rotation"), Responses: okResponse(rotationFields()),
			},
		},
		HelpSynopsis:    "Rotation: the way from one version to the next.",
		HelpDescription: rotateHelp,
	}
}

func (b *backend) pathRotateList() *framework.Path {
	return pathList("rotate/", "rotations", "List what can be rotated, and the segments below a path.", b.bothList)
}

const rotateHelp = `
A rotation stages a new version. From valid_from on, new readers and executions
get it, and executions that started before keep the old one. When none of them is
left, min_overlap has passed, and the new version was tested, confirmed or used,
it is promoted and the old value destroyed; at max_overlap it is promoted anyway.
`

const entryPathHelp = "An environment, a scope and a name, such as prod/chain/deploy-pipeline/DATABASE_URL."

func valueField(description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeString, Description: description, DisplayAttrs: &framework.DisplayAttributes{Name: "Value", Sensitive: true}}
}

func valuesField(description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeMap, Description: description, DisplayAttrs: &framework.DisplayAttributes{Name: "Values", Sensitive: true}}
}

// rotationFields are what rotate/ answers: of an entry that does not rotate, less.
func rotationFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"rotation_id":         {Type: framework.TypeString, Description: "The rotation under way, or else the last one.", Required: true},
		"state":               {Type: framework.TypeString, Description: "idle, creating, setting, testing, staged, serving, finishing, failed or orphaned.", Required: true},
		"step":                {Type: framework.TypeString, Description: "The step that failed."},
		"current_version":     {Type: framework.TypeInt, Description: "The version before the rotation, or 0.", Required: true},
		"pending_version":     {Type: framework.TypeInt, Description: "The new version, or 0.", Required: true},
		"trigger":             {Type: framework.TypeString, Description: "write, request, schedule, revoke or leak."},
		"rotator":             {Type: framework.TypeString, Description: "The rotator that makes the value."},
		"started_at":          {Type: framework.TypeString, Description: "When it began."},
		"started_by":          {Type: framework.TypeString, Description: "Who began it."},
		"valid_from":          {Type: framework.TypeString, Description: "When new readers get the new version."},
		"serving_since":       {Type: framework.TypeString, Description: "Since when they do."},
		"min_overlap":         {Type: framework.TypeInt, Description: "In seconds."},
		"max_overlap":         {Type: framework.TypeInt, Description: "In seconds."},
		"on_overdue":          {Type: framework.TypeString, Description: "alert or kill."},
		"require_confirm":     {Type: framework.TypeBool, Description: "It waits to be confirmed."},
		"proof":               {Type: framework.TypeString, Description: "Why the new version is believed to work: used, tested or confirmed; or an empty string."},
		"attempt":             {Type: framework.TypeInt, Description: "How often the step has failed."},
		"next_attempt":        {Type: framework.TypeString, Description: "When it is tried again."},
		"last_error":          {Type: framework.TypeString, Description: "Why it failed."},
		"next_rotation_at":    {Type: framework.TypeString, Description: "The next slot of the schedule."},
		"blocking_executions": {Type: framework.TypeStringSlice, Description: "Ids of executions that hold the current version while the next one is pending; null while the engine still reads what runs."},
		"blocking_count":      {Type: framework.TypeInt, Description: "How many they are."},
		"broken_executions":   {Type: framework.TypeStringSlice, Description: "Ids of executions that hold a version that was destroyed, the first 100."},
		"unpinned_readers":    {Type: framework.TypeSlice, Description: "Who read the current version in a flat shape: reader, display_name, path, version, last_read.", Required: true},
		"history":             {Type: framework.TypeSlice, Description: "The last 20 rotations, the newest first.", Required: true},
	}
}

func (b *backend) rotateUpdate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	values, err := rotateValues(req, d, a)
	if err != nil {
		return respond(err)
	}
	e, err := b.requireSecret(ctx, req.Storage, a)
	if err != nil {
		return respond(err)
	}
	switch id := d.Get("rotation_id").(string); {
	case id != "" && e.gave(id, values): // sent again
	case id != "" && values != nil:
		err = b.giveValue(ctx, req, a, id, values)
	case id != "":
		_, err = b.rotate(ctx, req.Storage, a, order{event: rotation.Retry, by: actor(req), requestID: req.ID, rotationID: id})
	default:
		err = b.beginRotation(ctx, req, d, a, e, values)
	}
	if err != nil {
		return respond(err)
	}
	return b.rotationResponse(ctx, req, d, a)
}

// rotateValues returns the values that were sent, or nil.
func rotateValues(req *logical.Request, d *framework.FieldData, a scope.Address) (map[string]sensitive.String, error) {
	field, other := "value", "values"
	if a.Kind == scope.Group {
		field, other = other, field
	}
	if _, sent := d.Raw[other]; sent {
		return nil, badRequest("%s is a %s: send %s instead of %s", a.Path(), a.Kind.Noun(), field, other)
	}
	if _, sent := d.Raw[field]; !sent {
		return nil, nil
	}
	if a.Kind == scope.Secret {
		return map[string]sensitive.String{a.Name: sensitive.New(d.Get(field).(string))}, nil
	}
	members, err := stringMap(req, d, field)
	if err != nil {
		return nil, err
	}
	values := map[string]sensitive.String{}
	for name, value := range members {
		values[name] = sensitive.New(*value)
	}
	return values, nil
}

// gave reports whether the values are those that a rotation was given, and has ended
// with if it has ended.
func (e *secretEntry) gave(id string, values map[string]sensitive.String) bool {
	if e.Rotation != nil && e.Rotation.ID == id {
		return e.Pending.equal(values)
	}
	return e.Current.equal(values) && slices.ContainsFunc(e.History, func(past pastRotation) bool { return past.ID == id })
}

// giveValue is how an orchestrator answers the rotator that called it.
func (b *backend) giveValue(ctx context.Context, req *logical.Request, a scope.Address, id string, values map[string]sensitive.String) error {
	_, err := b.rotate(ctx, req.Storage, a, order{
		event: rotation.Done, by: actor(req), requestID: req.ID, rotationID: id,
		before: func(e *secretEntry) error {
			if r := e.Rotation; r.State != rotation.Creating && r.Step != rotation.Creating {
				return conflict("the rotation of %s does not wait for a value", a.Path())
			}
			var memo map[string]sensitive.String
			if e.Making != nil {
				memo = e.Making.Memo
			}
			e.take(values, memo, b.now())
			return nil
		},
	})
	return err
}

// beginRotation begins a rotation as the request asks for it.
func (b *backend) beginRotation(ctx context.Context, req *logical.Request, d *framework.FieldData, a scope.Address, known *secretEntry, values map[string]sensitive.String) error {
	var replaces *secretEntry
	if d.Get("force").(bool) {
		if replaces = known; known.Pending != nil {
			defer b.executions.closePins(pin{a.Path(), known.Pending.Number})()
		}
	}
	ask := func(r *rotation.Rotation) error { return askedFor(d, r, b.now()) }
	if values == nil {
		_, err := b.beginByRotator(ctx, req.Storage, a, beginning{trigger: triggerRequest, by: actor(req), requestID: req.ID, ask: ask, replaces: replaces})
		return err
	}
	c, err := b.getConfig(ctx, req.Storage)
	if err != nil {
		return err
	}
	free := true
	_, err = b.changeSecret(ctx, req.Storage, a, req.ID, nil, func(e *secretEntry) error {
		switch {
		case e.Schedule != nil && e.Schedule.Rotator != "":
			return badRequest("%s has a rotator, which makes its values: send none, or the rotation_id of the rotation that waits for one", a.Path())
		case e.newest().equal(values):
			return errUnchanged
		}
		r := e.newRotation(c, triggerRequest, actor(req))
		err := ask(r)
		if err == nil {
			free, err = b.makeWay(e, a, replaces, actor(req))
		}
		if err != nil || !free || e.newest().equal(values) {
			return err
		}
		e.begin(r, values, b.now())
		return nil
	})
	return finishing(a, free, err)
}

// askedFor changes what a rotation obeys to what the request says.
func askedFor(d *framework.FieldData, r *rotation.Rotation, now time.Time) error {
	for name, to := range map[string]*time.Duration{"min_overlap": &r.MinOverlap, "max_overlap": &r.MaxOverlap} {
		if seconds, sent := d.GetOk(name); sent {
			*to = time.Duration(seconds.(int)) * time.Second
		}
	}
	if _, longer := d.GetOk("max_overlap"); !longer && r.MaxOverlap < r.MinOverlap {
		r.MaxOverlap = r.MinOverlap
	}
	if on := d.Get("on_overdue").(string); on != "" {
		r.OnOverdue = on
	}
	r.RequireConfirm = d.Get("require_confirm").(bool)
	if at := d.Get("valid_from").(string); at != "" {
		from, _ := time.Parse(time.RFC3339, at) // checkTime has parsed it
		if r.NoOverlap && from.After(now) {
			return badRequest("valid_from must be left out: the far side of this rotator takes one value at a time, and is switched at once")
		}
		r.ValidFrom = from.UTC()
	}
	return validatePolicy(r.Policy)
}

func (b *backend) rotateRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	return b.rotationResponse(ctx, req, d, a)
}

// bothList lists secrets and groups.
func (b *backend) bothList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	path := strings.TrimSuffix(d.Get("path").(string), "/")
	if err := scope.CheckPrefix(path); err != nil {
		return respond(badRequest("%s", err))
	}
	secrets, err := listEntries(ctx, req.Storage, scope.Secret, path)
	if err != nil {
		return respond(err)
	}
	groups, err := listEntries(ctx, req.Storage, scope.Group, path)
	if err != nil {
		return respond(err)
	}
	return list(sortedUnion(secrets, groups), d)
}

// anyAddress reads the address of a secret or a group in the path of a request.
func anyAddress(d *framework.FieldData) (scope.Address, error) {
	path := d.Get("path").(string)
	a, err := scope.ParseAddress(scope.KindOf(path), path)
	if err != nil {
		return a, badRequest("%s", err)
	}
	return a, nil
}
