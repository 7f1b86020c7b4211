package agentchains

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// leak is a report that the value of a variable was seen in output.
type leak struct {
	name, encoding string
	count          int
	redacted       bool

	execution *executionEntry // that reports it
	address   scope.Address   // of what gives the variable
	version   int
}

// id is that of what is told of the leak: the same when it is reported again.
func (l *leak) id() string {
	id := fmt.Sprintf("%s.%s.%d", l.execution.ID, l.name, l.version)
	if !l.redacted {
		id += ".unredacted"
	}
	return id + "." + eventLeak
}

// news reports whether the leak is to be told: as the first of the variable, or
// as the first that was not redacted.
func (l *leak) news(seen *sighting) bool {
	return seen == nil || !l.redacted && !seen.Unredacted
}

// leakMark is what an entry keeps of the leaks that it was rotated or revoked for.
type leakMark struct {
	Notice  string    `json:"notice"`            // of the last one: a request that is repeated does not tell it again
	Rotated int       `json:"rotated,omitempty"` // the last version that a rotation was begun for
	Revoked time.Time `json:"revoked,omitzero"`  // when a version was revoked for one
}

// sharedRevokeInterval is between two revocations for leaks of what chains share.
// An agent that starts again and says each time that the key got out ends others
// no more often.
const sharedRevokeInterval = time.Hour

const eventLeak = "leak.detected"

// The answers of an entry to a leak.
const (
	onLeakAlert  = "alert"
	onLeakRotate = "rotate"
	onLeakRevoke = "revoke"
)

// notice is what is told of the leak, and of what follows. Of an entry that was
// deleted, e is nil.
func (l *leak) notice(e *secretEntry, at time.Time, follows map[string]string) notice {
	x := l.execution
	n := notice{
		ID: l.id(), Event: eventLeak, Time: at,
		Texts: map[string]string{
			"path": l.address.Path(), "name": l.name, "encoding": l.encoding, "execution_id": x.ID,
			"environment": x.Environment, "chain": x.Chain, "agent": x.Agent, "run": x.Run,
		},
		Numbers: map[string]int{"leaked_version": l.version, "count": l.count},
		Flags:   map[string]bool{"redacted": l.redacted},
	}
	maps.Copy(n.Texts, follows)
	if e != nil {
		n.Texts["on_leak"] = e.OnLeak
	}
	if e != nil && e.Current != nil {
		n.Numbers["current_version"] = e.Current.Number
	}
	return n
}

// leakAction returns what follows a leak of the entry, and why that is less than
// on_leak says.
//
// An agent that was talked into printing a key that others hold too must not end
// them with it, so what is shared is revoked only when it got out: when it was
// not redacted. The agent's own word is all there is to tell that by.
func (e *secretEntry) leakAction(l *leak, now time.Time) (action, less string) {
	shared := l.address.Scope.Chain == ""
	switch {
	case e.OnLeak == onLeakAlert:
	case e.liveVersion(l.version) == nil:
		less = "the version is not live any more"
	case e.OnLeak == onLeakRevoke && shared && l.redacted:
		less = "it is not revoked: it is shared by chains, and was redacted"
	case e.OnLeak == onLeakRevoke && shared && now.Before(e.Leak.Revoked.Add(sharedRevokeInterval)):
		less = "it is not revoked: it is shared by chains, and was revoked for a leak less than an hour ago"
	case e.OnLeak == onLeakRevoke:
		return onLeakRevoke, ""
	case e.rotator() == "":
		less = "it is not rotated: it has no rotator"
	case e.Rotation != nil || e.RotateNow:
		less = "it is not rotated: a rotation is under way"
	case e.Leak.Rotated >= l.version:
		less = "it is not rotated: a rotation was begun for this version before"
	default:
		return onLeakRotate, ""
	}
	return onLeakAlert, less
}

// rotator returns the name of what makes the entry's values, or nothing.
func (e *secretEntry) rotator() string {
	if e.Schedule == nil {
		return ""
	}
	return e.Schedule.Rotator
}

// tellLeak tells of a leak, once, and does what the entry says about it. What is
// done is stored in the same Put as the notice. Where nothing is, the notice goes
// to the outbox at once: it is no reason to write the entry, which many executions
// may share. The record of the execution is written after both: a crash between
// leaves a leak that is told and done, and a report that comes again finds that.
func (b *backend) tellLeak(ctx context.Context, s logical.Storage, l *leak) error {
	e, err := b.getSecret(ctx, s, l.address)
	if err != nil {
		return err
	}
	action, less := onLeakAlert, "it was deleted"
	if e != nil {
		action, less = e.leakAction(l, b.now())
	}
	if action != onLeakAlert {
		do := map[string]func(context.Context, logical.Storage, *leak) error{onLeakRotate: b.rotateLeaked, onLeakRevoke: b.revokeLeaked}[action]
		err := do(ctx, s, l)
		var api *apiError
		if !errors.As(err, &api) {
			return err
		}
		less = api.text // the entry has changed meanwhile, or its rotator refuses
		if e, err = b.getSecret(ctx, s, l.address); err != nil {
			return err
		}
	}
	if e != nil && e.Leak.Notice == l.id() {
		return nil
	}
	n := l.notice(e, b.now(), map[string]string{"reason": less})
	return b.notify(ctx, s, n.notification())
}

// mark has the leak told, with what is done about it, in the entry's next Put.
func (e *secretEntry) mark(l *leak, at time.Time, done map[string]string) {
	n := l.notice(e, at, done)
	e.Notices, e.Leak.Notice = append(e.Notices, n), n.ID
}

func (b *backend) rotateLeaked(ctx context.Context, s logical.Storage, l *leak) error {
	_, err := b.beginByRotator(ctx, s, l.address, beginning{trigger: triggerLeak, by: engineItself, with: func(e *secretEntry, r *rotation.Rotation) error {
		if action, less := e.leakAction(l, b.now()); action != onLeakRotate {
			return conflict("%s", less)
		}
		e.mark(l, b.now(), map[string]string{"rotation_id": r.ID})
		e.Leak.Rotated = l.version
		return nil
	}})
	return err
}

// revokeLeaked revokes the version. If no other is left, the rotator makes a new one.
func (b *backend) revokeLeaked(ctx context.Context, s logical.Storage, l *leak) error {
	now := b.now()
	v := &revocation{emergency: emergency{
		ID: newIncidentID(now), Reason: "seen in the output of execution " + l.execution.ID, CreatedAt: now, CreatedBy: engineItself, Versions: []int{l.version},
		Repeat: "leak of version " + strconv.Itoa(l.version),
	}}
	defer b.executions.closePins(pin{Path: l.address.Path()})()
	_, err := b.changeSecret(ctx, s, l.address, "", nil, func(e *secretEntry) error {
		if action, less := e.leakAction(l, b.now()); action != onLeakRevoke {
			return conflict("%s", less)
		}
		v.rotate = len(e.live()) == 1 && e.rotator() != ""
		v.holders = b.holdersOf(l.address, v.Versions) // nobody pins them any more
		e.mark(l, now, map[string]string{"incident_id": v.ID, "reason": v.Reason})
		e.revoke(v, now)
		e.Leak.Revoked = now
		return nil
	})
	if err != nil {
		return err
	}
	b.tellRevoked(ctx, s, l.address, v)
	return nil
}
