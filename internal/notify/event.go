// Package notify says which events there are, what is told of each, and how a
// message about it looks to whoever gets it.
package notify

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Notification is something that has happened. It holds paths, names, numbers,
// times and reasons, and never a secret value.
type Notification struct {
	ID     string         `json:"id"` // the same when the same is told again
	Event  string         `json:"event"`
	Time   time.Time      `json:"time"`
	Fields map[string]any `json:"fields,omitempty"` // strings, ints, bools and lists of strings
}

// Test is the event that a test of a notifier sends. Nobody subscribes to it.
const Test = "notifier.test"

// kind is what there is to know of an event. Its fields are some of these; one
// that is not known is left out:
//
//	path              the secret or group, such as prod/org/API_KEY
//	current_version   the number of its current version
//	pending_version   the number of the version that follows
//	expires_at        when the current version expires, or did
//	due_at            when the rotation is due
//	rotation_id       the rotation
//	executions        how many executions it is about
//	execution_ids     their ids, at most MostIDs
//	execution_id      the one execution that it is about, and where that runs:
//	environment, chain, agent, run
//	incident_id       the emergency revocation
//	name              the variable whose value was seen in output, as the agent knows it
//	leaked_version    the version whose value that is
//	encoding          how it was encoded there
//	count             how often it was seen
//	redacted          whether it was redacted
//	on_leak           what the secret or group says that a leak does
//	reason            why, as whoever ordered it or the engine says
//	created_by        who ordered it: an entity, a display name, or agentchains
//	last_error        what went wrong
//	notifier          the notifier that is tested
//
// Times are strings as in RFC 3339.
type kind struct {
	title    string
	severity string // as PagerDuty names it; resolved: it ends an alert; empty: it makes none
	alert    string // what the alert is about: events with the same are about one thing
	by       string // the field that tells one such thing from another
	fields   []string
}

// MostIDs is how many execution_ids a notification has at most.
const MostIDs = 100

const resolved = "resolved"

var kinds = map[string]kind{
	"secret.expiring": {"A version expires soon", "warning", "entry", "path",
		[]string{"path", "current_version", "expires_at"}},
	"secret.expired": {"A version has expired", "error", "entry", "path",
		[]string{"path", "current_version", "expires_at"}},
	"secret.revoked": {"A secret was revoked", "critical", "incident", "incident_id",
		[]string{"path", "current_version", "reason", "created_by", "incident_id", "executions", "execution_ids"}},
	"rotation.due": {"A rotation is due", "warning", "entry", "path",
		[]string{"path", "current_version", "due_at"}},
	"rotation.staged": {"A new version is staged", "", "", "",
		[]string{"path", "current_version", "pending_version", "rotation_id", "created_by"}},
	"rotation.promoted": {"A new version is current", resolved, "entry", "path",
		[]string{"path", "current_version", "rotation_id", "created_by", "reason"}},
	"rotation.failed": {"A rotation has failed and is tried again", "warning", "entry", "path",
		[]string{"path", "current_version", "pending_version", "rotation_id", "last_error"}},
	"rotation.orphaned": {"A rotation needs a person", "error", "entry", "path",
		[]string{"path", "current_version", "pending_version", "rotation_id", "reason", "last_error"}},
	"rotation.overdue": {"Executions hold a version that was destroyed", "error", "overdue", "rotation_id",
		[]string{"path", "current_version", "rotation_id", "executions", "execution_ids"}},
	"execution.terminated": {"An execution was stopped", "", "", "",
		[]string{"execution_id", "environment", "chain", "agent", "reason", "created_by", "incident_id"}},
	"execution.unacknowledged": {"An execution did not acknowledge that it has to stop", "critical", "unacknowledged", "incident_id",
		[]string{"execution_id", "environment", "chain", "agent", "reason", "created_by", "incident_id"}},
	"leak.detected": {"A secret was seen in the output of an agent", "critical", "leak", "path",
		[]string{"path", "current_version", "name", "leaked_version", "on_leak", "redacted", "encoding", "count",
			"execution_id", "environment", "chain", "agent", "run", "reason", "rotation_id", "incident_id"}},
	Test: {"A test of the notifier", "info", "test", "notifier",
		[]string{"notifier"}},
}

// Events returns the events that can be subscribed to, sorted.
func Events() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(kinds)), func(event string) bool { return event == Test })
}

// Check says what is wrong with a notification: an id or event that is missing,
// or a field that the event does not have.
func (n Notification) Check() error {
	k, known := kinds[n.Event]
	switch {
	case !known:
		return fmt.Errorf("there is no event %q", n.Event)
	case n.ID == "" || n.Time.IsZero():
		return errors.New("a notification needs an id and a time")
	}
	for name, value := range n.Fields {
		if !slices.Contains(k.fields, name) {
			return fmt.Errorf("%s has no field %s", n.Event, name)
		}
		switch value := value.(type) {
		case string, int, bool:
		case []string:
			if len(value) > MostIDs {
				return fmt.Errorf("%s has more than %d items", name, MostIDs)
			}
		default:
			return fmt.Errorf("%s must not be of type %T", name, value)
		}
	}
	return nil
}

// CheckPattern says what is wrong with a pattern: an event, all that begin with
// the same word, as in rotation.*, or * for all.
func CheckPattern(pattern string) error {
	if !slices.ContainsFunc(Events(), func(event string) bool { return matches(pattern, event) }) {
		return fmt.Errorf("must be * or one of %s, or with * for what follows the dot", strings.Join(Events(), ", "))
	}
	return nil
}

func matches(pattern, event string) bool {
	word, _, _ := strings.Cut(event, ".")
	return pattern == "*" || pattern == event || pattern == word+".*"
}

// Subscribes reports whether who has these patterns is told of an event in the
// given template: PagerDuty only of what makes or ends an alert.
func Subscribes(patterns []string, template, event string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, event) }) &&
		(template != PagerDuty || kinds[event].severity != "")
}

// Text returns a field as a text, and nothing for one that is not there.
func (n Notification) Text(name string) string {
	switch value := n.Fields[name].(type) {
	case nil:
		return ""
	case string:
		return value
	case []string:
		return strings.Join(value, ", ")
	case []any: // as storage gives it back
		texts := make([]string, len(value))
		for i, item := range value {
			texts[i], _ = item.(string)
		}
		return strings.Join(texts, ", ")
	default:
		text, _ := json.Marshal(value) // a number or a bool, which always encode
		return string(text)
	}
}

// Subject returns what the notification is about: a path, else an agent.
func (n Notification) Subject() string {
	if agent := n.Text("agent"); n.Text("path") == "" && agent != "" {
		return n.Text("environment") + "/" + n.Text("chain") + "/" + agent
	}
	return cmp.Or(n.Text("path"), n.Text("notifier"))
}

// summary says it all in one line.
func (n Notification) summary() string {
	line := kinds[n.Event].title
	for _, part := range []string{n.Subject(), cmp.Or(n.Text("last_error"), n.Text("reason"))} {
		if part != "" {
			line += ": " + part
		}
	}
	return line
}
