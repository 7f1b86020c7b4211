package agentchains

import (
	"cmp"
	"context"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathRevokeSecret() *framework.Path {
	fields := revokeRequestFields()
	delete(fields, "hold")
	fields["path"] = pathField(entryPathHelp)
	fields["version"] = &framework.FieldSchema{Type: framework.TypeCommaIntSlice, Description: "The versions to revoke. Without it: every live one."}
	fields["value"] = valueField("The value of a secret that takes its place.")
	fields["values"] = valuesField("The values of a group that take their place.")
	fields["rotate"] = &framework.FieldSchema{Type: framework.TypeBool, Description: "Have the schedule's rotator make a new version at once."}
	answer := revokeFields()
	answer["versions"] = &framework.FieldSchema{Type: framework.TypeSlice, Description: "The versions that are revoked.", Required: true}
	answer["readers"] = &framework.FieldSchema{Type: framework.TypeSlice, Description: "Who read them in a flat shape: reader, display_name, path, version, last_read.", Required: true}
	return &framework.Path{
		Pattern:      "revoke/secret/" + framework.MatchAllRegex("path"),
		DisplayAttrs: displayAttrs("", "secret"),
		Fields:       fields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.revokeSecret, Summary: "Kill a value, and every execution that holds it.", DisplayAttrs: displayAttrs("revoke", "secret"), Responses: okResponse(answer),
			},
		},
		HelpSynopsis:    "Emergency: kill a value and every execution that holds it.",
		HelpDescription: revokeSecretHelp,
	}
}

const revokeSecretHelp = `
Destroys versions of a secret or a group, at once and for good. Executions that
hold them are told to stop. A new value can be sent in the same request, or be
made by the rotator; with neither, reads fail until there is one. The answer names
the incident, which lists what was stopped.
`

func (b *backend) revokeSecret(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := commitContext(ctx)
	defer cancel()
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	v, err := b.wantedRevocation(ctx, req, d, a)
	if err != nil {
		return respond(err)
	}
	asked, dry := v.Versions, d.Get("dry_run").(bool)
	if dry && !b.executions.isReady() {
		return respond(errIndexNotReady())
	}
	if !dry {
		defer b.executions.closePins(pin{Path: a.Path()})()
	}
	// A request that comes again after a crash is known by what it asks for, and not by
	// its id: its answer names the incident of the first.
	var first *emergency
	_, err = b.changeSecret(ctx, req.Storage, a, "", nil, func(e *secretEntry) error {
		if first = e.earlier(v, asked, b.now()); first != nil {
			return errUnchanged
		}
		v.Versions = e.revocable(asked)
		if err := v.check(e, a, asked); err != nil {
			return err
		}
		v.holders = b.holdersOf(a, v.Versions) // nobody pins them any more
		e.revoke(v, b.now())
		if e.UpdatedAt = b.now(); !dry {
			return nil
		}
		return cmp.Or(e.validate(), errUnchanged)
	})
	if err != nil {
		return respond(err)
	}
	if dry {
		if first != nil {
			v.Versions = []int{} // there is nothing left to revoke
		}
		return b.revokedAnswer(ctx, req.Storage, a, v, "", v.holders)
	}
	if first != nil {
		v.emergency = *first
		hit, err := b.firstHit(ctx, req.Storage, first.incident(a))
		if err != nil {
			return respond(err)
		}
		return b.revokedAnswer(ctx, req.Storage, a, v, v.ID, killedIDs(hit))
	}
	b.tellRevoked(ctx, req.Storage, a, v)
	return b.revokedAnswer(ctx, req.Storage, a, v, v.ID, v.holders)
}

// tellRevoked tells who holds what was revoked, as far as they are known, and
// opens the incident. The worker completes both from the entry.
func (b *backend) tellRevoked(ctx context.Context, s logical.Storage, a scope.Address, v *revocation) {
	// Who was started before the engine may have become known while it was stored.
	b.executions.noteOrder()
	v.holders = b.holdersOf(a, v.Versions)
	b.storeSoon(ctx, s, v.incident(a), b.executions.order(v.holders, v.order(a)))
}

// wantedRevocation is what the request asks for.
func (b *backend) wantedRevocation(ctx context.Context, req *logical.Request, d *framework.FieldData, a scope.Address) (*revocation, error) {
	reason, err := revokeReason(d)
	if err != nil {
		return nil, err
	}
	v := &revocation{emergency: emergency{Reason: reason, CreatedAt: b.now(), CreatedBy: actor(req)}, rotate: d.Get("rotate").(bool)}
	v.Versions, _ = d.Get("version").([]int)
	if v.values, err = rotateValues(req, d, a); err != nil {
		return nil, err
	}
	if v.values != nil && v.rotate {
		return nil, badRequest("rotate and a new value exclude each other")
	}
	salt, err := b.getSalt(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	v.ID, v.Repeat = newIncidentID(v.CreatedAt), salt.repeatKey(req)
	return v, nil
}

// revocable returns the live versions among those that were asked for, or all.
func (e *secretEntry) revocable(asked []int) []int {
	numbers := []int{}
	for _, v := range e.live() {
		if len(asked) == 0 || slices.Contains(asked, v.Number) {
			numbers = append(numbers, v.Number)
		}
	}
	return numbers
}

func (v *revocation) check(e *secretEntry, a scope.Address, asked []int) error {
	switch {
	case len(v.Versions) < len(asked):
		return badRequest("version must name live versions of %s: secrets/ and groups/ list them", a.Path())
	case len(v.Versions) == 0 && e.Rotation == nil:
		return badRequest("%s has no version that could be revoked: give it a value by %s/%s", a.Path(), a.Kind, a.Path())
	case v.values != nil && len(v.Versions) < len(e.live()):
		return badRequest("a new value takes the place of all live versions: leave version out")
	case v.values != nil && slices.ContainsFunc(e.live(), func(live *version) bool { return live.equal(v.values) }):
		return badRequest("the new value of %s is the one that is revoked: send another", a.Path())
	case v.rotate && (e.Schedule == nil || e.Schedule.Rotator == ""):
		return badRequest("%s has no rotator that could make a new value: send one, or name a rotator in schedules/%s", a.Path(), a.Path())
	case v.rotate && len(v.Versions) < len(e.live()):
		return badRequest("rotate takes the place of all live versions: leave version out")
	}
	return nil
}

// holdersOf returns the executions that hold versions of an entry, as far as they
// are known.
func (b *backend) holdersOf(a scope.Address, versions []int) []string {
	var ids []string
	for _, number := range versions {
		ids = append(ids, b.executions.heldBy(pin{a.Path(), number})...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// revokedAnswer says what was hit, or without an incident what would be.
func (b *backend) revokedAnswer(ctx context.Context, s logical.Storage, a scope.Address, v *revocation, incident string, ids []string) (*logical.Response, error) {
	resp := b.revokeAnswer(incident, ids)
	known, err := b.readers.of(ctx, s, a)
	if err != nil {
		return respond(err)
	}
	known.Readers = slices.DeleteFunc(known.Readers, func(r reader) bool { return !slices.Contains(v.Versions, r.Version) })
	resp.Data["versions"], resp.Data["readers"] = v.Versions, known.plain()
	return resp, nil
}
