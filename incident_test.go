package agentchains

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestIncidentKeepsItsAlerts lists an alert whatever a crash came between.
func TestIncidentKeepsItsAlerts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	head := incidentEntry{ID: "20260504-100000-0123abcd", Kind: string(stopSecret), CreatedAt: e.clock.Now()}
	hit := killed{ID: strings.Repeat("a", executionIDLength), State: acknowledged, Told: eventTerminated}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(e.b.loadIncidents(e.Context(), e.s))
	// Open, but a crash came before it was stored: it is before an alert is sent.
	e.b.incidents.begin(head, nil, false)
	check(e.b.storeFirst(e.Context(), e.s, head, false))
	if stored, err := getIncident(e.Context(), e.s, head.ID); err != nil || stored == nil {
		t.Fatalf("the incident is not stored: %v", err)
	}
	check(e.b.alerted(e.Context(), e.s, head.ID, alert{ID: "x", Event: "secret.revoked", State: alertDelivered}))
	// Closed, but a crash came before the entry said so: it is completed again.
	e.b.incidents.begin(head, []killed{hit}, true)
	check(e.b.storeIncident(e.Context(), e.s, head.ID))
	if e.b.incidents.has(head.ID) {
		t.Fatal("the incident is still open")
	}
	check(e.b.listIncident(e.Context(), e.s, head, nil))
	got, executions, err := e.b.incident(e.Context(), e.s, head.ID)
	check(err)
	if len(got.Alerts) != 1 || len(executions) != 1 || got.Counts[string(acknowledged)] != 1 {
		t.Errorf("%+v with %d executions", got, len(executions))
	}
}

// TestIncidentOfWhatEnds lists who was told to stop by another incident before, and not
// who ended when it was told: both close.
func TestIncidentOfWhatEnds(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		told, ends := e.started(nil), e.started(nil)
		first := e.ok(update, "revoke/execution/"+told.id, data{"reason": "strange"})["incident_id"]
		e.work()
		ends.ok(update, "execution/"+ends.id+"/finish", nil)
		second := e.ok(update, revokeOpen, data{"reason": "leaked", "value": "fresh"})["incident_id"]
		// Its finish was being stored when it was told.
		e.b.incidents.begin(incidentEntry{ID: fmt.Sprint(second)}, []killed{{ID: ends.id, State: unacknowledged}}, false)
		e.work()
		e.is(e.states(second), told.id+"=unacknowledged")
		told.acknowledge()
		e.work()
		for _, id := range []any{first, second} {
			e.is(e.states(id), told.id+"=acknowledged")
			e.is(e.ok(read, fmt.Sprint("incidents/", id), nil)["state"], "closed")
		}
		e.is(len(e.stored(openIncidentPrefix)), 0)
	})
}

// TestAcknowledgedBeforeTheIncident lists who acknowledges after a crash, before the
// worker has come to the incident that was not stored.
func TestAcknowledgedBeforeTheIncident(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		for _, path := range []string{"revoke/agent/" + deployerPath, revokeOpen} {
			quick, slow := e.started(nil), e.started(nil)
			id := fmt.Sprint(e.ok(update, path, data{"reason": "strange"})["incident_id"])
			for _, key := range []string{incidentKey(id), incidentPartKey(id, 0), openIncidentKey(id)} {
				if err := e.s.Delete(e.Context(), key); err != nil {
					e.Fatal(err)
				}
			}
			e.cold = true // what runs is not read yet
			e.start()
			quick.acknowledge()
			e.work()
			e.is(e.states(id), sorted(quick.id+"=acknowledged", slow.id+"=unacknowledged"))
			slow.acknowledge()
		}
	})
}

// TestIncidentClosesWhileItIsListed keeps whom an incident lists when a crash came before
// the entry said that it is listed, and it closes while it is listed again.
func TestIncidentClosesWhileItIsListed(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		r := e.started(nil)
		id := fmt.Sprint(e.ok(update, revokeOpen, data{"reason": "leaked"})["incident_id"])
		e.work()
		e.start()
		e.work()
		head, err := getIncident(e.Context(), e.s, id)
		if err != nil {
			e.Fatal(err)
		}
		var once sync.Once
		e.b.incidents.since = time.Time{} // the records are read again meanwhile
		e.s.onOp = func(op string) {
			if op == "list "+historyPrefix {
				once.Do(func() {
					r.acknowledge()
					e.work()
					e.is(e.b.incidents.has(id), false)
				})
			}
		}
		if err := e.b.listIncident(e.Context(), e.s, *head, nil); err != nil {
			e.Fatal(err)
		}
		e.s.onOp = nil
		e.work()
		e.is(e.states(id), r.id+"=acknowledged")
		e.is(len(e.stored(openIncidentPrefix)), 0)
	})
}

// TestRecordsAreReadOnce looks at all executions once after a start, for whatever number
// of revocations whose incidents a crash has left unwritten.
func TestRecordsAreReadOnce(t *testing.T) {
	both(t, func(e *env) {
		e.deployer()
		incidents := map[string]string{}
		for i := range 5 {
			r := e.started(nil)
			id := fmt.Sprint(e.ok(update, revokeOpen, data{"reason": "leaked", "value": fmt.Sprint("value ", i)})["incident_id"])
			for _, key := range []string{incidentKey(id), incidentPartKey(id, 0), openIncidentKey(id)} {
				if err := e.s.Delete(e.Context(), key); err != nil {
					e.Fatal(err)
				}
			}
			incidents[id] = r.id
			r.acknowledge()
		}
		e.cold = true // what runs is not read yet
		e.start()
		var reads atomic.Int32
		e.s.onOp = func(op string) {
			if op == "list "+historyPrefix {
				reads.Add(1)
			}
		}
		e.work()
		for id, execution := range incidents {
			e.is(e.states(id), execution+"=acknowledged")
		}
		e.is(reads.Load(), 1)
	})
}

// TestIncidentDropsWhoWasNeverTold takes an execution off whose start was refused
// after all, even when the incident was listed before it came to it.
func TestIncidentDropsWhoWasNeverTold(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	head := incidentEntry{ID: "20260504-100000-0123abcd", Kind: string(stopSecret), CreatedAt: e.clock.Now()}
	refused := killed{ID: strings.Repeat("a", executionIDLength), State: unacknowledged}
	if err := e.b.listIncident(e.Context(), e.s, head, []killed{{ID: strings.Repeat("b", executionIDLength), State: acknowledged}}); err != nil {
		t.Fatal(err)
	}
	e.b.incidents.begin(head, []killed{refused}, false)
	e.s.arm(0, false)
	if err := e.b.storeIncident(e.Context(), e.s, head.ID); err == nil {
		t.Fatal("a fault of storage is not told")
	}
	e.s.disarm()
	if err := e.b.storeIncident(e.Context(), e.s, head.ID); err != nil {
		t.Fatal(err)
	}
	if _, hit, err := e.b.incident(e.Context(), e.s, head.ID); err != nil || len(hit) != 1 || hit[0].State != acknowledged {
		t.Errorf("%+v %v", hit, err)
	}
}

// TestIncidentLosesAPart leaves nothing in storage of a part that was emptied.
func TestIncidentLosesAPart(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	head := incidentEntry{ID: "20260504-100000-0123abcd", Kind: string(stopSecret), CreatedAt: e.clock.Now()}
	hit := make([]killed, partSize+1)
	for i := range hit {
		hit[i] = killed{ID: fmt.Sprintf("%0*d", executionIDLength, i), State: acknowledged, Told: eventTerminated}
	}
	hit[7].State = unacknowledged
	e.b.incidents.begin(head, hit, false)
	for _, parts := range []int{2, 1} {
		if err := e.b.storeIncident(e.Context(), e.s, head.ID); err != nil {
			t.Fatal(err)
		}
		_, executions, err := readIncident(e.Context(), e.s, head.ID)
		if keys := e.stored(incidentPartPrefix); err != nil || len(executions) != partSize+parts-1 || len(keys) != parts {
			t.Fatalf("%d executions in %v: %v", len(executions), keys, err)
		}
		e.b.incidents.drop(head.ID, hit[7].ID)
	}
}
