package agentchains

import (
	"time"

	cron "github.com/hashicorp/vault/sdk/rotation"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotation"
)

// schedule says when an entry is rotated, and how. What it leaves out is as
// config says.
type schedule struct {
	RotationPeriod   time.Duration  `json:"rotation_period,omitempty"`
	RotationSchedule string         `json:"rotation_schedule,omitempty"` // cron, in UTC
	RotationWindow   time.Duration  `json:"rotation_window,omitempty"`   // a slot that is missed for longer is left out
	NotifyBefore     time.Duration  `json:"notify_before,omitempty"`
	AutoRotate       bool           `json:"auto_rotate"`
	Rotator          string         `json:"rotator,omitempty"`
	RotationChain    string         `json:"rotation_chain,omitempty"`
	MinOverlap       *time.Duration `json:"min_overlap,omitempty"`
	MaxOverlap       *time.Duration `json:"max_overlap,omitempty"`
	OnOverdue        string         `json:"on_overdue,omitempty"`
	MaxRetries       int            `json:"max_retries"`
	NextRotationAt   time.Time      `json:"next_rotation_at"` // zero: never
	NotifiedOf       time.Time      `json:"notified_of"`      // the slot that was last told of
}

const (
	defaultMaxRetries = 5
	mostRetries       = 100
	leastPeriod       = time.Minute
)

// next returns the slot after a time; zero: there is none.
func (s *schedule) next(after time.Time) time.Time {
	switch {
	case s.RotationPeriod > 0:
		return after.Add(s.RotationPeriod)
	case s.RotationSchedule != "":
		slots, err := cron.DefaultScheduler.Parse(s.RotationSchedule)
		if err != nil {
			return time.Time{} // validate has parsed it
		}
		return slots.Next(after.UTC())
	}
	return time.Time{}
}

// period returns the time between two slots; 0: there is none.
func (s *schedule) period(now time.Time) time.Duration {
	slot := s.next(now)
	return s.next(slot).Sub(slot)
}

// due reports whether the slot has come, and whether it is not too late for it.
func (s *schedule) due(now time.Time) (due, inside bool) {
	if s.NextRotationAt.IsZero() || now.Before(s.NextRotationAt) {
		return false, false
	}
	return true, s.RotationWindow == 0 || now.Before(s.NextRotationAt.Add(s.RotationWindow))
}

func (s *schedule) validate() error {
	switch {
	case s.RotationPeriod > 0 && s.RotationSchedule != "":
		return badRequest("rotation_period and rotation_schedule exclude each other")
	case s.RotationPeriod > 0 && s.RotationPeriod < leastPeriod:
		return badRequest("rotation_period must be at least %s", leastPeriod)
	case s.RotationWindow > 0 && s.RotationSchedule == "":
		return badRequest("rotation_window needs rotation_schedule")
	case s.AutoRotate && s.Rotator == "":
		return badRequest("auto_rotate needs a rotator, which makes the new value")
	case s.RotationChain != "" && s.Rotator == "":
		return badRequest("rotation_chain needs a rotator of type webhook: name it by rotator, or by rotation_webhook in config")
	case s.MaxRetries < 0 || s.MaxRetries > mostRetries:
		return badRequest("max_retries must be from 0 to %d", mostRetries)
	}
	if s.RotationSchedule != "" {
		slots, err := cron.DefaultScheduler.Parse(s.RotationSchedule)
		if err != nil {
			return badRequest("rotation_schedule must be five fields of cron, such as 0 3 * * 6")
		}
		if slots.Next(time.Unix(0, 0)).IsZero() {
			return badRequest("rotation_schedule must name a time that comes: there is no such day")
		}
	}
	if s.RotationWindow > 0 {
		if err := cron.DefaultScheduler.ValidateRotationWindow(int(s.RotationWindow / time.Second)); err != nil {
			return badRequest("%s", err)
		}
	}
	return nil
}

// notifyAt returns when somebody is to be told of the next slot; zero: nobody is,
// or was already. A rotation that begins by itself is told of beforehand, if asked.
func (s *schedule) notifyAt() time.Time {
	if s.NextRotationAt.IsZero() || s.NotifiedOf.Equal(s.NextRotationAt) || s.AutoRotate && s.NotifyBefore == 0 {
		return time.Time{}
	}
	return s.NextRotationAt.Add(-s.NotifyBefore)
}

// lookAt returns when the schedule wants something: to tell, or to rotate; zero: never.
func (s *schedule) lookAt() time.Time {
	if at := s.notifyAt(); !at.IsZero() || !s.AutoRotate {
		return at
	}
	return s.NextRotationAt
}

// policy returns what a rotation obeys by the schedule, which may be nil, and by
// the settings of the mount.
func (s *schedule) policy(c *config) rotation.Policy {
	p := rotation.Policy{MinOverlap: c.MinOverlap, MaxOverlap: c.MaxOverlap, OnOverdue: c.OnOverdue, MaxRetries: defaultMaxRetries}
	if s == nil {
		return p
	}
	p.MaxRetries = s.MaxRetries
	if s.MinOverlap != nil {
		p.MinOverlap = *s.MinOverlap
	}
	if s.MaxOverlap != nil {
		p.MaxOverlap = *s.MaxOverlap
	}
	if s.OnOverdue != "" {
		p.OnOverdue = s.OnOverdue
	}
	return p
}

func validatePolicy(p rotation.Policy) error {
	switch {
	case p.MaxOverlap < p.MinOverlap:
		return badRequest("max_overlap must be at least min_overlap, which is %s", p.MinOverlap)
	case p.OnOverdue != rotation.Alert && p.OnOverdue != rotation.Kill:
		return badRequest("on_overdue must be alert or kill")
	}
	return nil
}
