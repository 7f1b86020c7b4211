package agentchains

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

func (b *backend) pathSchedules() *framework.Path {
	fields := scheduleFields()
	fields["path"] = pathField(entryPathHelp)
	return &framework.Path{
		Pattern:        "schedules/" + framework.MatchAllRegex("path"),
		DisplayAttrs:   displayAttrs("", "schedule"),
		Fields:         fields,
		ExistenceCheck: b.scheduleExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: &framework.PathOperation{
				Callback: b.scheduleWrite, Summary: "Say when a secret or a group is rotated, and how.", DisplayAttrs: displayAttrs("create", "schedule"), Responses: okResponse(scheduleFields()),
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.scheduleWrite, Summary: "Change a schedule: only the fields that are sent.", DisplayAttrs: displayAttrs("update", "schedule"), Responses: okResponse(scheduleFields()),
			},
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.scheduleRead, Summary: "Read a schedule.", DisplayAttrs: displayAttrs("read", "schedule"), Responses: okResponse(scheduleFields()),
			},
			logical.DeleteOperation: &framework.PathOperation{
				Callback: b.scheduleDelete, Summary: "Delete a schedule. A rotation that is under way goes on.", DisplayAttrs: displayAttrs("delete", "schedule"), Responses: noContent(),
			},
		},
		HelpSynopsis:    "Schedules: when a secret or a group is rotated.",
		HelpDescription: schedulesHelp,
	}
}

func (b *backend) pathSchedulesList() *framework.Path {
	return pathList("schedules/", "schedules", "List the schedules at a path, and the segments below it.", b.scheduleList)
}

const schedulesHelp = `
A schedule rotates by a period or by cron, in UTC, with a rotator that makes the
new value. With auto_rotate=false it only reminds: status lists what is due. One
with a rotator can be written before its secret has a value: rotate/ makes it.
`

func scheduleFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"rotation_period":    {Type: framework.TypeDurationSecond, Description: "Rotate this long after the last rotation."},
		"rotate_every_days":  {Type: framework.TypeInt, Description: "The same, in days."},
		"rotation_schedule":  {Type: framework.TypeString, Description: "Rotate at these times: five fields of cron, in UTC."},
		"rotation_window":    {Type: framework.TypeDurationSecond, Description: "With rotation_schedule: leave out a slot that was missed for longer than this, at least an hour."},
		"notify_before":      {Type: framework.TypeDurationSecond, Description: "Tell this long before a rotation that it is due."},
		"notify_before_days": {Type: framework.TypeInt, Description: "The same, in days."},
		"auto_rotate":        {Type: framework.TypeBool, Description: "Rotate without being asked: by default when there is a rotator."},
		"rotator":            {Type: framework.TypeString, Description: "The rotator that makes the new value. An empty string: none."},
		"rotation_chain":     {Type: framework.TypeString, Description: "The chain that a rotator of type webhook has the orchestrator run."},
		"min_overlap":        {Type: framework.TypeDurationSecond, Description: "For how long at least the old version stays beside the new one. Without it: as config says."},
		"max_overlap":        {Type: framework.TypeDurationSecond, Description: "For how long at most the old version stays. Without it: as config says."},
		"on_overdue":         {Type: framework.TypeString, Description: "What happens at max_overlap to executions that hold the old version: alert or kill. Without it: as config says."},
		"max_retries":        {Type: framework.TypeInt, Description: "How often a step is tried again before the rotation is orphaned: 5 by default."},
		"next_rotation_at":   {Type: framework.TypeString, Description: "When the next rotation is due. An empty string: by the period or the schedule."},
	}
}

const day = 24 * time.Hour

func (s *schedule) toResponse(c *config) *logical.Response {
	policy := s.policy(c)
	return &logical.Response{Data: map[string]any{
		"rotation_period":    int64(s.RotationPeriod / time.Second),
		"rotate_every_days":  int64(s.RotationPeriod / day),
		"rotation_schedule":  s.RotationSchedule,
		"rotation_window":    int64(s.RotationWindow / time.Second),
		"notify_before":      int64(s.NotifyBefore / time.Second),
		"notify_before_days": int64(s.NotifyBefore / day),
		"auto_rotate":        s.AutoRotate,
		"rotator":            s.Rotator,
		"rotation_chain":     s.RotationChain,
		"min_overlap":        int64(policy.MinOverlap / time.Second),
		"max_overlap":        int64(policy.MaxOverlap / time.Second),
		"on_overdue":         policy.OnOverdue,
		"max_retries":        policy.MaxRetries,
		"next_rotation_at":   timeString(s.NextRotationAt),
	}}
}

func (b *backend) scheduleExists(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
	a, err := anyAddress(d)
	if err != nil {
		return false, nil
	}
	e, err := b.getSecret(ctx, req.Storage, a)
	return e != nil && e.Schedule != nil, err
}

func (b *backend) scheduleWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	c, err := b.getConfig(ctx, req.Storage)
	if err != nil {
		return respond(err)
	}
	if err := b.checkScheduleRotator(ctx, req.Storage, d, c); err != nil {
		return respond(err)
	}
	e, err := b.withSecret(ctx, req, a, func(e *secretEntry) error {
		s := schedule{MaxRetries: defaultMaxRetries}
		if e.Schedule != nil {
			s = *e.Schedule
		}
		if err := s.apply(d, c, b.now()); err != nil {
			return err
		}
		if e.LastVersion == 0 && s.Rotator == "" {
			return notFound("there is no %s: store it first, or name a rotator that makes its value", a.Path())
		}
		e.Schedule = &s
		return nil
	})
	if err != nil {
		return respond(err)
	}
	return e.Schedule.toResponse(c), nil
}

// checkScheduleRotator reports a rotator that does not exist, or that cannot do
// what is asked of it.
func (b *backend) checkScheduleRotator(ctx context.Context, s logical.Storage, d *framework.FieldData, c *config) error {
	name, chain := d.Get("rotator").(string), d.Get("rotation_chain").(string)
	if name == "" && chain != "" {
		name = c.RotationWebhook
	}
	if name == "" {
		return nil
	}
	if err := scope.CheckSegment(name); err != nil {
		return badRequest("rotator %s", err)
	}
	e, err := b.requireRotator(ctx, s, name)
	if err == nil && chain != "" && e.Type != rotator.Webhook {
		return badRequest("rotation_chain needs a rotator of type %s, and %s is of type %s", rotator.Webhook, name, e.Type)
	}
	return err
}

// apply changes the schedule to what the request says.
func (s *schedule) apply(d *framework.FieldData, c *config, now time.Time) error {
	timing := s.timing()
	for _, f := range []struct {
		name, days string
		to         *time.Duration
	}{{"rotation_period", "rotate_every_days", &s.RotationPeriod}, {"notify_before", "notify_before_days", &s.NotifyBefore}} {
		seconds, inSeconds := d.GetOk(f.name)
		days, inDays := d.GetOk(f.days)
		switch {
		case inSeconds && inDays && seconds.(int) != days.(int)*int(day/time.Second):
			return badRequest("%s and %s say different things: send one of them", f.name, f.days)
		case inSeconds:
			*f.to = time.Duration(seconds.(int)) * time.Second
		case inDays && (days.(int) < 0 || days.(int) > maxSeconds/int(day/time.Second)):
			return badRequest("%s must be a number of days, and not negative", f.days)
		case inDays:
			*f.to = time.Duration(days.(int)) * day
		}
	}
	for name, to := range map[string]**time.Duration{"min_overlap": &s.MinOverlap, "max_overlap": &s.MaxOverlap} {
		if seconds, sent := d.GetOk(name); sent {
			overlap := time.Duration(seconds.(int)) * time.Second
			*to = &overlap
		}
	}
	for name, to := range map[string]*string{"rotation_schedule": &s.RotationSchedule, "rotator": &s.Rotator, "rotation_chain": &s.RotationChain, "on_overdue": &s.OnOverdue} {
		if text, sent := d.GetOk(name); sent {
			*to = text.(string)
		}
	}
	if seconds, sent := d.GetOk("rotation_window"); sent {
		s.RotationWindow = time.Duration(seconds.(int)) * time.Second
	}
	if n, sent := d.GetOk("max_retries"); sent {
		s.MaxRetries = n.(int)
	}
	if s.RotationChain != "" && s.Rotator == "" {
		s.Rotator = c.RotationWebhook
	}
	auto, sent := d.GetOk("auto_rotate")
	_, named := d.GetOk("rotator")
	_, chained := d.GetOk("rotation_chain")
	switch {
	case sent:
		s.AutoRotate = auto.(bool)
	case named || chained:
		s.AutoRotate = s.Rotator != ""
	}
	if err := s.applyTiming(d, timing, now); err != nil {
		return err
	}
	if err := s.validate(); err != nil {
		return err
	}
	return validatePolicy(s.policy(c))
}

// timings are what next_rotation_at comes from.
type timings struct {
	period time.Duration
	cron   string
}

func (s *schedule) timing() timings { return timings{s.RotationPeriod, s.RotationSchedule} }

// applyTiming sets the next slot: to the one that was sent, or when the period or
// the cron schedule has changed to the first by the new one. Of those two, the
// one that is sent replaces the other.
func (s *schedule) applyTiming(d *framework.FieldData, before timings, now time.Time) error {
	_, byPeriod := d.GetOk("rotation_period")
	_, byDays := d.GetOk("rotate_every_days")
	_, byCron := d.GetOk("rotation_schedule")
	switch {
	case byCron && s.RotationSchedule != "" && !byPeriod && !byDays:
		s.RotationPeriod = 0
	case (byPeriod || byDays) && s.RotationPeriod > 0 && !byCron:
		s.RotationSchedule, s.RotationWindow = "", 0
	}
	at, sent := d.GetOk("next_rotation_at")
	switch {
	case sent && at.(string) != "":
		next, _ := time.Parse(time.RFC3339, at.(string)) // checkTime has parsed it
		s.NextRotationAt = next.UTC()
	case sent || s.timing() != before:
		if err := s.validate(); err != nil {
			return err
		}
		s.NextRotationAt = s.next(now)
	}
	return nil
}

func (b *backend) scheduleRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	e, err := b.getSecret(ctx, req.Storage, a)
	if err != nil {
		return respond(err)
	}
	if e == nil || e.Schedule == nil {
		return respond(notFound("%s has no schedule", a.Path()))
	}
	c, err := b.getConfig(ctx, req.Storage)
	if err != nil {
		return respond(err)
	}
	return e.Schedule.toResponse(c), nil
}

func (b *backend) scheduleDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	a, err := anyAddress(d)
	if err != nil {
		return respond(err)
	}
	known, err := b.getSecret(ctx, req.Storage, a)
	if err != nil || known == nil || known.Schedule == nil {
		return respond(err)
	}
	e, err := b.changeSecret(ctx, req.Storage, a, req.ID, nil, func(e *secretEntry) error {
		e.Schedule = nil
		return nil
	})
	if err == nil && e.LastVersion == 0 && e.Rotation == nil {
		err = b.deleteSecret(ctx, req.Storage, a) // it was there for its schedule only
	}
	return respond(err)
}

func (b *backend) scheduleList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	path := strings.TrimSuffix(d.Get("path").(string), "/")
	if err := scope.CheckPrefix(path); err != nil {
		return respond(badRequest("%s", err))
	}
	if path != "" {
		path += "/"
	}
	keys, err := listKeys(ctx, req.Storage, schedulePrefix+path)
	if err != nil {
		return respond(err)
	}
	return list(keys, d)
}
