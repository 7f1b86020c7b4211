package agentchains

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// The events about an execution that an incident has told to stop.
const (
	eventTerminated     = "execution.terminated"
	eventUnacknowledged = "execution.unacknowledged"
)

// acknowledgeWithin is how long an execution may take before somebody is told.
const acknowledgeWithin = 30 * time.Second

// event is what there is to tell about the execution by now.
func (k *killed) event() string {
	if k.State == acknowledged {
		return eventTerminated
	}
	return eventUnacknowledged
}

// tellIncidents tells what became of the executions of open incidents.
func (b *backend) tellIncidents(ctx context.Context, s logical.Storage) error {
	wanted, err := b.notifying(ctx, s)
	if err != nil {
		return err
	}
	for {
		n, k, later := b.incidents.untold(b.now())
		if k == nil {
			if later {
				b.kickLater(acknowledgeWithin)
			}
			return nil
		}
		if wanted {
			if err := b.notify(ctx, s, *n); err != nil {
				return err
			}
		}
		b.incidents.told(n.Fields["incident_id"].(string), k.ID, n.Event)
	}
}

// untold returns an execution that there is something to tell about, and says
// otherwise whether there will be later.
func (x *incidents) untold(now time.Time) (n *notification, k *killed, later bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, o := range x.open {
		for i := range o.executions {
			k := o.executions[i]
			switch {
			case k.Told == k.event():
			case k.State == unacknowledged && now.Before(k.OrderedAt.Add(acknowledgeWithin)):
				later = true
			default:
				return &notification{ID: id + "." + k.ID + "." + k.event(), Event: k.event(), Time: now, Fields: map[string]any{
					"execution_id": k.ID, "environment": k.Environment, "chain": k.Chain, "agent": k.Agent,
					"reason": o.Reason, "created_by": o.CreatedBy, "incident_id": id,
				}}, &k, false
			}
		}
	}
	return nil, nil, later
}

func (x *incidents) told(incident, execution, event string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.open[incident]
	if o == nil {
		return
	}
	if i, listed := o.index[execution]; listed {
		o.executions[i].Told = event
		o.dirty[i/partSize], o.stale = true, true
	}
}

// alerted notes what became of a notification about an incident. It fails until
// it is known which incidents are open, and then is to be called again.
func (b *backend) alerted(ctx context.Context, s logical.Storage, id string, a alert) error {
	b.incidents.mu.Lock()
	if !b.incidents.loaded {
		b.incidents.mu.Unlock()
		return notReady("the engine is still reading its incidents")
	}
	if o := b.incidents.open[id]; o != nil {
		o.Alerts = withAlert(o.Alerts, a)
		o.stale = true
		b.incidents.mu.Unlock()
		return b.storeIncident(ctx, s, id)
	}
	b.incidents.mu.Unlock()
	lock := b.lockEntry(incidentKey(id))
	lock.Lock()
	defer lock.Unlock()
	head, err := getIncident(ctx, s, id)
	if head == nil || err != nil {
		return err
	}
	head.Alerts = withAlert(head.Alerts, a)
	_, err = putJSON(ctx, s, incidentKey(id), head)
	return err
}

// withAlert adds an alert, or says what has become of it since.
func withAlert(alerts []alert, a alert) []alert {
	alerts = slices.DeleteFunc(slices.Clone(alerts), func(known alert) bool { return known.ID == a.ID && known.Notifier == a.Notifier })
	alerts = append(alerts, a)
	return alerts[max(0, len(alerts)-keptAlerts):]
}
