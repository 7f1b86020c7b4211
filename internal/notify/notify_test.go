package notify

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

func event(name string, fields map[string]any) Notification {
	return Notification{ID: "1", Event: name, Time: time.Date(2030, 1, 31, 12, 0, 0, 5, time.FixedZone("", 3600)), Fields: fields}
}

// stored returns a notification as storage gives it back.
func stored(t *testing.T, n Notification) Notification {
	t.Helper()
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	var again Notification
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	return again
}

var revoked = event("secret.revoked", map[string]any{
	"path": "prod/org/KEY", "reason": "<!channel> & more", "incident_id": "i1", "executions": 1234567, "execution_ids": []string{"e1", "e2"},
})

func TestBody(t *testing.T) {
	t.Parallel()
	const details = `{"event":"secret.revoked","execution_ids":["e1","e2"],"executions":1234567,"id":"1","incident_id":"i1","path":"prod/org/KEY","reason":"<!channel> & more","time":"2030-01-31T11:00:00Z","version":1}`
	for template, want := range map[string]string{
		Plain: details,
		Slack: `{"text":"A secret was revoked: prod/org/KEY: &lt;!channel&gt; &amp; more","blocks":[
			{"type":"section","text":{"type":"mrkdwn","text":"*A secret was revoked*\n` + "`prod/org/KEY`" + `"}},
			{"type":"section","fields":[
				{"type":"mrkdwn","text":"*reason*\n&lt;!channel&gt; &amp; more"},
				{"type":"mrkdwn","text":"*incident_id*\ni1"},
				{"type":"mrkdwn","text":"*executions*\n1234567"}]}]}`,
		PagerDuty: `{"routing_key":"the key","event_action":"trigger","dedup_key":"agentchains/incident/i1","client":"agentchains","payload":{
			"summary":"A secret was revoked: prod/org/KEY: <!channel> & more","source":"agentchains","severity":"critical",
			"timestamp":"2030-01-31T11:00:00Z","component":"prod/org/KEY","class":"secret.revoked","custom_details":` + details + `}}`,
	} {
		for _, n := range []Notification{revoked, stored(t, revoked)} {
			body, err := n.Body(template, sensitive.New("the key"))
			if err != nil {
				t.Fatal(err)
			}
			same(t, string(body), want)
		}
	}
	if _, err := revoked.Body("teams", sensitive.String{}); err == nil {
		t.Error("there is a template teams")
	}
}

// same compares JSON.
func same(t *testing.T, got, want string) {
	t.Helper()
	var x, y any
	if err := json.Unmarshal([]byte(got), &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &y); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(x, y) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What PagerDuty is told of one thing makes one alert, which the next version ends.
func TestAlerts(t *testing.T) {
	t.Parallel()
	fields := map[string]any{"path": "prod/org/KEY", "rotation_id": "r1"}
	const entry = "agentchains/entry/prod/org/KEY"
	for name, want := range map[string]string{
		"secret.expiring": entry, "secret.expired": entry, "rotation.due": entry, "rotation.failed": entry, "rotation.orphaned": entry, "rotation.promoted": entry,
		"rotation.overdue": "agentchains/overdue/r1", "leak.detected": "agentchains/leak/prod/org/KEY", "secret.revoked": "agentchains/incident/1",
	} {
		if got := event(name, fields).alert(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	body, err := event("rotation.promoted", fields).Body(PagerDuty, sensitive.New("k"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, string(body), `{"routing_key":"k","event_action":"resolve","dedup_key":"`+entry+`"}`)
	long := event("secret.expired", map[string]any{"path": strings.Repeat("a", 250)})
	if key := long.alert(); len(key) != 64 {
		t.Errorf("%s is not a hash", key)
	}
}

// Slack refuses a message of which one text is too long.
func TestSlackLimits(t *testing.T) {
	t.Parallel()
	for name, k := range kinds {
		fields := map[string]any{}
		for _, field := range k.fields {
			fields[field] = field + strings.Repeat("&", 5000)
		}
		message := event(name, fields).slack()
		blocks := message["blocks"].([]map[string]any)
		if len(blocks) < 2 && name != Test {
			t.Errorf("%s has no fields", name)
		}
		texts := []map[string]string{blocks[0]["text"].(map[string]string)}
		for _, block := range blocks[1:] {
			part := block["fields"].([]map[string]string)
			if len(part) == 0 || len(part) > 10 {
				t.Errorf("%s: a section of %d fields", name, len(part))
			}
			texts = append(texts, part...)
		}
		for _, text := range texts {
			if len(text["text"]) > 2000 {
				t.Errorf("%s: a text of %d bytes", name, len(text["text"]))
			}
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, n := range []Notification{revoked, event(Test, nil), event("secret.expired", map[string]any{"path": "", "current_version": 1})} {
		if err := n.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []Notification{
		{Event: Test, Time: time.Now()}, {ID: "1", Event: Test}, event("secret.lost", nil),
		event("secret.expired", map[string]any{"value": "x"}),
		event("secret.expired", map[string]any{"path": 1.5}),
		event("secret.revoked", map[string]any{"execution_ids": make([]string, MostIDs+1)}),
	} {
		if n.Check() == nil {
			t.Errorf("%v passes", n)
		}
	}
}

func TestSubscribes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		patterns, template, event string
		want                      bool
	}{
		{"*", Plain, "rotation.staged", true},
		{"rotation.*", Plain, "rotation.staged", true},
		{"secret.*,rotation.staged", Slack, "rotation.staged", true},
		{"rotation.stage", Plain, "rotation.staged", false},
		{"secret.*", Plain, "rotation.staged", false},
		{"", Plain, "rotation.staged", false},
		{"*", PagerDuty, "rotation.staged", false},
		{"*", PagerDuty, "execution.terminated", false},
		{"*", PagerDuty, "rotation.promoted", true},
	} {
		if got := Subscribes(strings.Split(tt.patterns, ","), tt.template, tt.event); got != tt.want {
			t.Errorf("%+v: %t", tt, got)
		}
	}
	for _, pattern := range append(Events(), "*", "secret.*", "rotation.*", "execution.*", "leak.*") {
		if err := CheckPattern(pattern); err != nil {
			t.Errorf("%s %v", pattern, err)
		}
	}
	for _, pattern := range []string{"", "**", "*.failed", "rotation", "rotation.", "rotation.f*", "notifier.*", Test, "Rotation.*"} {
		if CheckPattern(pattern) == nil {
			t.Errorf("%s is accepted", pattern)
		}
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	total := time.Duration(0)
	for failed := 1; failed < MaxAttempts; failed++ {
		least, mean, most := Backoff(failed, 0), Backoff(failed, 0.5), Backoff(failed, 1)
		if least != mean*3/4 || most != mean*5/4 {
			t.Errorf("after %d: %s, %s, %s", failed, least, mean, most)
		}
		total += mean
	}
	if Backoff(1, 0.5) != time.Second || Backoff(3, 0.5) != 16*time.Second || Backoff(1000, 0.5) != time.Hour {
		t.Error(Backoff(1, 0.5), Backoff(3, 0.5), Backoff(1000, 0.5))
	}
	if total < 23*time.Hour || total > 24*time.Hour {
		t.Errorf("all of them take %s", total)
	}
}
