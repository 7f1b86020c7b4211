package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// The templates: how a message looks.
const (
	Plain     = ""          // the notification itself
	Slack     = "slack"     // a message to an incoming webhook
	PagerDuty = "pagerduty" // an event of the Events API v2
)

// Body returns the body of the call that tells somebody. PagerDuty alone needs
// the routing key.
func (n Notification) Body(template string, routingKey sensitive.String) ([]byte, error) {
	switch template {
	case Plain:
		return json.Marshal(n.plain())
	case Slack:
		return json.Marshal(n.slack())
	case PagerDuty:
		return json.Marshal(n.pagerDuty(routingKey))
	}
	return nil, fmt.Errorf("there is no template %q", template)
}

func (n Notification) plain() map[string]any {
	const version = 1 // of this form
	body := map[string]any{"id": n.ID, "event": n.Event, "time": n.Time.UTC().Format(time.RFC3339), "version": version}
	maps.Copy(body, n.Fields)
	return body
}

var slackEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// slackText makes of a text what Slack shows as that text, whatever is in it. It
// is cut well below the least of Slack's limits, which counts the escapes.
func slackText(text string) map[string]string {
	return map[string]string{"type": "mrkdwn", "text": slackEscapes.Replace(cut(text, 300))}
}

// mostSlackFields is how many fields Slack takes in one section.
const mostSlackFields = 10

func (n Notification) slack() map[string]any {
	k := kinds[n.Event]
	head := "*" + k.title + "*"
	if subject := n.Subject(); subject != "" {
		head += "\n`" + subject + "`"
	}
	var fields []map[string]string
	for _, name := range k.fields {
		if text := n.Text(name); text != "" && text != n.Subject() && name != "execution_ids" {
			fields = append(fields, slackText("*"+name+"*\n"+text))
		}
	}
	blocks := []map[string]any{{"type": "section", "text": slackText(head)}}
	for part := range slices.Chunk(fields, mostSlackFields) {
		blocks = append(blocks, map[string]any{"type": "section", "fields": part})
	}
	return map[string]any{"text": slackText(n.summary())["text"], "blocks": blocks}
}

func (n Notification) pagerDuty(routingKey sensitive.String) map[string]any {
	k := kinds[n.Event]
	event := map[string]any{"routing_key": routingKey.Reveal(), "dedup_key": n.alert()}
	if k.severity == resolved {
		event["event_action"] = "resolve"
		return event
	}
	event["event_action"], event["client"] = "trigger", "agentchains"
	event["payload"] = map[string]any{
		"summary": cut(n.summary(), 1024), "source": "agentchains", "severity": k.severity, "timestamp": n.Time.UTC().Format(time.RFC3339),
		"component": n.Subject(), "class": n.Event, "custom_details": n.plain(),
	}
	return event
}

// alert names what the notification is about, so that what is about the same
// makes, or ends, one alert.
func (n Notification) alert() string {
	const most = 255 // that PagerDuty takes
	k := kinds[n.Event]
	what := n.Text(k.by)
	if what == "" {
		what = n.ID
	}
	key := "agentchains/" + k.alert + "/" + what
	if len(key) > most {
		sum := sha256.Sum256([]byte(key))
		return hex.EncodeToString(sum[:])
	}
	return key
}

// cut returns at most so many characters of a text.
func cut(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}
