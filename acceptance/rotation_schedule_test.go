package acceptance

import (
	"encoding/json"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
)

// soon is a time that has come when a test waits for it.
func soon() string { return time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339) }

// Schedules rotate by themselves, also when the plugin was killed before the
// time came. A reminder rotates nothing.
func TestScheduledRotation(t *testing.T) {
	const token, session, reminded = "prod/org/TOKEN", "prod/org/session", "prod/org/REMINDED"
	e, plugin := newOwnProcess(t)
	e = e.retrying()
	policy := unique("lower")
	e.root("sys/policies/password/"+policy, data{"policy": `length = 24
		rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz" }`})
	e.write("rotators/key", data{"type": "api-key", "prefix": "ac_live_", "length": 40})
	e.write("rotators/lower", data{"type": "password", "policy": policy, "template": data{"SESSION_KEY": "{{password}}"}})
	e.write("groups/"+session, data{"values": data{"SESSION_KEY": e.value("SESSION_KEY"), "SESSION_NAME": "kept"}})
	first := e.secret(token, nil)
	e.secret(reminded, nil)
	e.writeJSON("schedules/"+reminded, `{"rotate_every_days": 90, "notify_before_days": 7, "auto_rotate": false}`)
	e.write("schedules/"+reminded, data{"next_rotation_at": soon()})

	pid := 0
	values := map[string]bool{first: true}
	for version := 2; version <= 4; version++ {
		for path, rotator := range map[string]string{token: "key", session: "lower"} {
			e.write("schedules/"+path, data{"rotation_period": "30d", "rotator": rotator, "min_overlap": 0, "next_rotation_at": soon()})
		}
		if version > 2 {
			pid = e.process(plugin, pid)
			e.kill(pid)
			e.read("status") // starts the next process
		}
		for _, path := range []string{token, session} {
			e.must(eventually(path+" is rotated", func() (bool, error) {
				r := e.rotation(path)
				return r["state"] == "idle" && r["current_version"] == json.Number(string(rune('0'+version))), nil
			}))
			line := e.last(path)
			e.same("history", []any{line["trigger"], line["started_by"], line["ended_by"], line["result"], line["to_version"]},
				[]any{"schedule", "agentchains", "agentchains", "promoted", version})
			at, err := time.Parse(time.RFC3339, e.read("schedules/" + path)["next_rotation_at"].(string))
			if days := time.Until(at).Hours() / 24; err != nil || days < 29.9 || days > 30 {
				t.Errorf("the next rotation of %s is in %.1f days: %v", path, days, err)
			}
		}
		value := e.read("reveal/" + token)["value"].(string)
		if !regexp.MustCompile(`^ac_live_[A-Za-z0-9]{40}$`).MatchString(value) || values[value] {
			t.Errorf("version %d is not a new key with the prefix", version)
		}
		values[value] = true
		group := e.read("reveal/" + session)["values"].(data)
		if !regexp.MustCompile(`^[a-z]{24}$`).MatchString(group["SESSION_KEY"].(string)) || group["SESSION_NAME"] != "kept" {
			t.Errorf("version %d of the group is not by the password policy", version)
		}
	}
	e.same("due", e.listed("due"), []string{reminded})
	e.same("the reminder's version", e.rotation(reminded)["current_version"], 1)
}

// status and agentchains status list what needs somebody, and why.
func TestStatusOfRotations(t *testing.T) {
	const agent = "prod/c/Worker"
	e := newEngine(t)
	e.chain("c", "", "DRAINING", "OVERDUE", "KILLED")
	for _, name := range []string{"DUE", "DRAINING", "FAILED", "ORPHANED", "OVERDUE", "KILLED"} {
		e.secret("prod/org/"+name, nil)
	}
	x := e.start(agent, nil)

	e.write("schedules/prod/org/DUE", data{"rotate_every_days": 90, "next_rotation_at": "2026-01-02T03:04:05Z"})
	e.write("rotate/prod/org/DRAINING", data{"value": e.value("DRAINING"), "min_overlap": 0})
	e.write("confirm/prod/org/DRAINING", data{})
	nobody, err := cluster.FreeAddress()
	e.must(err)
	host, _, err := net.SplitHostPort(nobody)
	e.must(err)
	e.write("config", data{"allowed_hosts": []string{host}})
	e.write("rotators/nobody", data{"type": "webhook", "url": "http://" + nobody, "hmac_secret": e.value("hmac_secret")})
	for name, retries := range map[string]int{"FAILED": 100, "ORPHANED": 0} {
		e.write("schedules/prod/org/"+name, data{"rotation_period": "90d", "rotator": "nobody", "max_retries": retries})
		e.write("rotate/prod/org/"+name, data{})
		e.reaches("prod/org/"+name, strings.ToLower(name))
	}
	e.write("rotate/prod/org/OVERDUE", data{"value": e.value("OVERDUE"), "min_overlap": 0, "max_overlap": 1})
	e.reaches("prod/org/OVERDUE", "idle")
	line := e.last("prod/org/OVERDUE")
	e.same("history", []any{line["result"], line["reason"], line["executions_left"]}, []any{"promoted", "max_overlap has passed", 1})
	e.same("state of the execution", x.state(), "active")

	for word, name := range map[string]string{"due": "DUE", "draining": "DRAINING", "failed": "FAILED", "orphaned": "ORPHANED", "overdue": "OVERDUE"} {
		e.same(word, e.listed(word), []string{"prod/org/" + name})
	}
	stdout, stderr := e.begin(e.agentchains("status")).ends(0)
	e.same("standard error", stderr, "")
	for _, want := range []string{
		`Due +1\n +prod/org/DUE  since 2026-01-02T03:04:05Z\n`,
		`Draining +1\n +prod/org/DRAINING  1 executions hold the old version\n`,
		`Overdue +1\n +prod/org/OVERDUE  1 executions hold version 1, which was destroyed\n`,
		`Failed +1\n +prod/org/FAILED  call ` + regexp.QuoteMeta(nobody) + `: .*refused\n`,
		`Orphaned +1\n +prod/org/ORPHANED  call ` + regexp.QuoteMeta(nobody) + `: .*refused\n`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("agentchains status prints no %s:\n%s", want, stdout)
		}
	}

	e.write("rotate/prod/org/KILLED", data{"value": e.value("KILLED"), "min_overlap": 0, "max_overlap": 1, "on_overdue": "kill"})
	e.becomes(x, "terminating")
	x.write("execution/"+x.id+"/ack", data{"pid": 1, "signal": "SIGTERM"})
	e.must(eventually("what drained is promoted and nothing is overdue", func() (bool, error) {
		return len(e.listed("draining"))+len(e.listed("overdue")) == 0, nil
	}))
}
