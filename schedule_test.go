package agentchains

import (
	"strings"
	"testing"
	"time"
)

// keys sets up a rotator that makes keys, and a schedule that uses it.
func (e *env) keysEvery(period string) {
	e.Helper()
	e.ok(update, "rotators/keys", data{"type": "api-key", "prefix": "sk-", "length": 40})
	e.ok(update, "schedules/"+openAI, data{"rotator": "keys", "rotation_period": period})
}

func TestScheduleForms(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		// As people write it today.
		got := e.ok(update, "schedules/"+openAI, data{"rotate_every_days": 90, "notify_before_days": 7, "auto_rotate": false})
		e.is(got["rotation_period"], 90*86400)
		e.is(got["rotate_every_days"], 90)
		e.is(got["notify_before_days"], 7)
		e.is(got["auto_rotate"], false)
		e.is(got["next_rotation_at"], "2030-04-01T00:00:00Z")
		e.is(got["min_overlap"], 600)
		e.is(e.keys("schedules/all/org/", nil), "OPENAI_API_KEY")
		e.is(e.keys("schedules/", nil), "all/")

		got = e.ok(update, "schedules/"+openAI, data{"rotation_schedule": "0 3 * * 6", "rotation_window": "2h"})
		e.is(got["rotation_period"], 0)
		e.is(got["next_rotation_at"], "2030-01-05T03:00:00Z")
		got = e.ok(update, "schedules/"+openAI, data{"max_retries": 1})
		e.is(got["next_rotation_at"], "2030-01-05T03:00:00Z")
		e.is(e.ok(update, "schedules/"+openAI, data{"next_rotation_at": "2030-01-02T00:00:00+01:00"})["next_rotation_at"], "2030-01-01T23:00:00Z")
		e.is(e.ok(update, "schedules/"+openAI, data{"next_rotation_at": ""})["next_rotation_at"], "2030-01-05T03:00:00Z")
		e.is(e.ok(read, "schedules/"+openAI, nil), e.ok(update, "schedules/"+openAI, data{}))
		for body, text := range map[*data]string{
			{"rotation_period": "1h", "rotation_schedule": "0 3 * * 6"}: "exclude each other",
			{"rotation_schedule": "0 3 31 2 *"}:                         "no such day",
			{"rotation_period": "1h", "rotate_every_days": 1}:           "different things",
			{"rotation_schedule": "every day"}:                          "five fields",
			{"rotation_window": "10m"}:                                  "3600 seconds",
			{"auto_rotate": true}:                                       "needs a rotator",
			{"rotator": "nobody"}:                                       "there is no rotator nobody",
			{"rotation_chain": "rotate-openai"}:                         "rotator of type webhook",
			{"min_overlap": "2d", "max_overlap": "1d"}:                  "at least min_overlap",
			{"on_overdue": "panic"}:                                     "alert or kill",
		} {
			e.fails(400, update, "schedules/"+openAI, *body, text)
		}
		e.is(e.ok(read, "schedules/"+openAI, nil)["next_rotation_at"], "2030-01-05T03:00:00Z")
		e.fails(404, update, "schedules/prod/org/NOTHING", data{"rotate_every_days": 1}, "")
		e.ok(remove, "schedules/"+openAI, nil)
		e.fails(404, read, "schedules/"+openAI, nil, "")
		e.is(len(e.stored(schedulePrefix))+len(e.stored(wakePrefix)), 0)
	})
}

// TestScheduleRotates rotates by itself, once for however many slots were missed.
func TestScheduleRotates(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.keysEvery("1d")
		e.turn()
		e.is(e.rotation(openAI)["state"], "idle")
		e.is(e.ok(read, "creds/"+deployerPath, nil)["rotation_period"], 86400)
		e.clock.advance(36 * time.Hour)
		e.turn()
		got := e.rotation(openAI)
		e.is(got["state"], "serving")
		e.is(got["trigger"], "schedule")
		e.is(got["proof"], "tested")
		e.is(got["next_rotation_at"], "2030-01-03T12:00:00Z")
		e.is(strings.Contains(e.environment(deployerPath), "OPENAI_API_KEY:sk-"), true)
		e.clock.advance(10 * time.Minute)
		e.turn()
		e.is(e.rotation(openAI)["current_version"], 2)

		e.clock.advance(100 * 24 * time.Hour)
		e.start()
		e.turn()
		e.clock.advance(time.Second) // what is late is spread
		e.turn()
		e.is(e.rotation(openAI)["pending_version"], 3)

		// A rotation by hand moves the next one by a full period.
		e.promote(openAI)
		e.clock.advance(time.Hour)
		e.ok(update, rotateOpen, nil)
		e.is(e.rotation(openAI)["next_rotation_at"], e.clock.Now().Add(24*time.Hour).Format(time.RFC3339))
		e.fails(400, update, rotateOpen, data{"value": "by hand"}, "has a rotator")
	})
}

// TestReminder only says that something is due.
func TestReminder(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, "schedules/"+openAI, data{"rotate_every_days": 1})
		e.is(e.ok(read, "status", nil)["due"], "[]")
		e.clock.advance(24 * time.Hour)
		for range 2 {
			e.turn()
			e.is(e.ok(read, "status", nil)["due"], "[map[due_at:2030-01-02T00:00:00Z path:"+openAI+"]]")
			e.is(e.rotation(openAI)["state"], "idle")
			e.start()
		}
		e.write(openAI, "second")
		e.is(e.ok(read, "status", nil)["due"], "[]")
		e.promote(openAI)
		e.is(e.rotation(openAI)["next_rotation_at"], "2030-01-03T00:00:00Z")
	})
}

// TestWindow leaves out a slot that was missed for too long.
func TestWindow(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, "rotators/keys", data{"type": "api-key"})
		e.ok(update, "schedules/"+openAI, data{"rotator": "keys", "rotation_schedule": "0 3 * * *", "rotation_window": "1h"})
		e.clock.advance(5 * time.Hour)
		e.turn()
		e.is(e.rotation(openAI)["state"], "idle")
		e.is(e.rotation(openAI)["next_rotation_at"], "2030-01-02T03:00:00Z")
		e.clock.advance(22*time.Hour + 30*time.Minute)
		e.turn()
		e.is(e.rotation(openAI)["state"], "serving")
	})
}

// TestFirstVersion is made by a rotator for a secret that was never stored.
func TestFirstVersion(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, "rotators/keys", data{"type": "api-key"})
		e.ok(update, "schedules/prod/org/SIGNING_KEY", data{"rotator": "keys", "rotate_every_days": 30})
		e.is(e.ok(read, "secrets/prod/org/SIGNING_KEY", nil)["current_version"], 0)
		e.ok(update, "scopes/chain/signer", data{"agents": []any{data{"name": "A", "secrets": []any{"SIGNING_KEY"}}}})
		e.fails(400, read, "env/prod/signer/A", nil, "has no version yet")
		e.is(e.ok(update, "rotate/prod/org/SIGNING_KEY", nil)["current_version"], 1)
		e.environment("prod/signer/A")

		e.ok(update, "schedules/prod/org/NEVER", data{"rotator": "keys", "rotate_every_days": 30})
		e.ok(remove, "schedules/prod/org/NEVER", nil)
		e.fails(404, read, "secrets/prod/org/NEVER", nil, "")
	})
}

func TestRotatorInUse(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.fails(400, update, "rotators/keys", data{"length": 40}, "type must be one of")
		e.fails(400, update, "rotators/keys", data{"type": "api-key", "url": "https://x"}, "url is not a field of rotators of type api-key")
		e.fails(400, update, "rotators/keys", data{"type": "api-key", "length": 4}, "length must be")
		e.keysEvery("1d")
		e.fails(400, update, "rotators/keys", data{"type": "password"}, "does not change")
		e.fails(409, remove, "rotators/keys", nil, "is used by "+openAI)
		e.is(e.keys("rotators/", nil), "keys")
		e.ok(update, rotateOpen, nil)
		e.ok(remove, "schedules/"+openAI, nil)
		e.fails(409, remove, "rotators/keys", nil, "is used by "+openAI)
		e.promote(openAI)
		e.ok(remove, "rotators/keys", nil)
		e.fails(404, read, "rotators/keys", nil, "")
	})
}

// TestDueAndRefused stays due while the rotator cannot be used.
func TestDueAndRefused(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		e.ok(update, "config", data{"allowed_hosts": "127.0.0.1"})
		e.ok(update, "rotators/hook", data{"type": "webhook", "url": "http://127.0.0.1:1", "hmac_secret": "hmac-key-of-the-webhook"})
		e.ok(update, "schedules/"+openAI, data{"rotator": "hook", "rotation_period": "1d"})
		e.ok(update, "config", data{"allowed_hosts": ""})
		e.clock.advance(24 * time.Hour)
		for range 2 {
			e.turn()
			e.is(e.ok(read, "status", nil)["due"], "[map[due_at:2030-01-02T00:00:00Z path:"+openAI+"]]")
			e.clock.advance(time.Second)
		}
	})
}
