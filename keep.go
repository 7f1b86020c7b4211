package agentchains

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// keepDue returns a version that its rotator has to keep alive now, or nil.
func (e *secretEntry) keepDue(now time.Time) *version {
	for _, v := range e.live() {
		if !v.KeepAt.IsZero() && !now.Before(v.KeepAt) {
			return v
		}
	}
	return nil
}

// keep has the rotator keep a version alive. What cannot be kept ends when its
// far side says so.
func (b *backend) keep(ctx context.Context, s logical.Storage, a scope.Address) error {
	const again = time.Minute
	e, err := b.getSecret(ctx, s, a)
	if err != nil || e == nil {
		return err
	}
	v := e.keepDue(b.now())
	if v == nil {
		return nil
	}
	next, end, failure := b.callKeep(ctx, s, v)
	if failure != nil {
		b.Logger().Warn("a version cannot be kept alive, which is tried again", "path", a.Path(), "error", failure)
		next, end = b.now().Add(again), v.ExpiresAt
	}
	_, err = b.changeSecret(ctx, s, a, "", nil, func(e *secretEntry) error {
		live := e.liveVersion(v.Number)
		if live == nil {
			return errUnchanged
		}
		live.KeepAt, live.ExpiresAt = next.UTC().Truncate(time.Second), end.UTC().Truncate(time.Second)
		return nil
	})
	return err
}

// callKeep calls the far side. Its error can be shown.
func (b *backend) callKeep(ctx context.Context, s logical.Storage, v *version) (next, end time.Time, err error) {
	settings, err := b.getRotator(ctx, s, v.Rotator)
	if err != nil || settings == nil {
		return next, end, errors.New("its rotator cannot be read")
	}
	maker, err := b.build(ctx, s, settings)
	if err != nil {
		return next, end, err
	}
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	known := v.known()
	next, end, err = rotator.Types[settings.Type].Keep(ctx, maker, &known)
	if err != nil {
		err = errors.New(scrub(err.Error(), &rotator.Job{Old: known}, settings.settings()))
	}
	return next, end, err
}
