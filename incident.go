package agentchains

import (
	"regexp"
	"time"
)

// incidentEntry is the record of one emergency revocation. What became of each
// execution is in parts of its own, so that there may be many of them.
type incidentEntry struct {
	ID        string         `json:"id"`
	Kind      string         `json:"kind"`   // secret, execution, run, agent, chain or all
	Target    string         `json:"target"` // what was revoked, as its path names it
	Reason    string         `json:"reason"`
	CreatedAt time.Time      `json:"created_at"`
	CreatedBy string         `json:"created_by"`
	Versions  []int          `json:"versions,omitempty"` // that were destroyed
	Listed    bool           `json:"listed"`             // every execution that it hits is in a part
	Counts    map[string]int `json:"counts"`             // of executions, by state
	Parts     int            `json:"parts"`
	Alerts    []alert        `json:"alerts,omitempty"`
}

// alert is what became of a notification about an incident.
type alert struct {
	ID       string    `json:"id"`
	Event    string    `json:"event"`
	Notifier string    `json:"notifier"`
	State    string    `json:"state"` // delivered or dead
	Attempts int       `json:"attempts"`
	At       time.Time `json:"at"`
}

const (
	partSize   = 1000 // executions in one entry of storage
	keptAlerts = 1000
)

// incidentPart is a part of the executions of an incident.
type incidentPart struct {
	Executions []killed `json:"executions"`
}

// killed is an execution that an incident has told to stop.
type killed struct {
	ID             string      `json:"execution_id"`
	Environment    string      `json:"environment"`
	Chain          string      `json:"chain"`
	Agent          string      `json:"agent"`
	State          killedState `json:"state"`
	OrderedAt      time.Time   `json:"ordered_at"`
	AcknowledgedAt time.Time   `json:"acknowledged_at"`
	PID            int         `json:"pid"`
	Signal         string      `json:"signal"`
	ExitCode       *int        `json:"exit_code"`
	Told           string      `json:"told,omitempty"` // the last event that the notifiers were told about it
}

// killedState is stored by name.
type killedState string

const (
	unacknowledged killedState = "unacknowledged"
	acknowledged   killedState = "acknowledged"
	lost           killedState = "lost" // there was no sign of life
)

// killedOf says what an execution that was told to stop has come to.
func killedOf(e *executionEntry, at time.Time) killed {
	k := killed{ID: e.ID, Environment: e.Environment, Chain: e.Chain, Agent: e.Agent, State: unacknowledged, OrderedAt: at, ExitCode: e.ExitCode}
	switch {
	case e.Ack != nil:
		code := e.Ack.ExitCode
		k.State, k.AcknowledgedAt, k.PID, k.Signal, k.ExitCode = acknowledged, e.Ack.Time, e.Ack.PID, e.Ack.Signal, &code
	case e.State == executionTerminated:
		k.State, k.AcknowledgedAt = acknowledged, e.EndedAt
	case e.State.ended():
		k.State = lost
	}
	return k
}

func newIncidentID(now time.Time) string {
	return now.UTC().Format("20060102-150405-") + newRotationID()[:8]
}

var incidentIDPattern = regexp.MustCompile(`^[0-9]{8}-[0-9]{6}-[0-9a-f]{8}$`)

func validIncidentID(id string) bool { return incidentIDPattern.MatchString(id) }
