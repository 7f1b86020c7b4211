package acceptance

import (
	"testing"
	"time"
)

// A dynamic engine of Vault becomes a rotator: each version is a credential whose
// lease is renewed while the version is live, also while an execution still holds
// it after the rotation, and that is revoked with the promotion.
func TestRotationOfDynamicCredentials(t *testing.T) {
	const agent, lasts = "prod/c/Worker", 6 * time.Second
	e := newEngine(t)
	// A version ends with its token.
	far := newDynamic(e, data{"token_ttl": lasts.String()})
	s := newSubject(e, far, nil)
	e.chain("c", "", "DSN")
	old := s.revealed()
	x := e.start(agent, nil)
	e.same("what the execution has", far.accepts(x.env["DSN"]) && x.env["DSN"] == old, true)

	begun := e.write("rotate/"+far.entry, data{"min_overlap": 0})
	s.settle("serving")
	renewed := s.revealed()
	kept := time.Now().Add(2 * lasts)
	e.must(eventually("both versions would have ended without their rotator", func() (bool, error) {
		if !far.accepts(old) || !far.accepts(renewed) || far.count() != 2 {
			t.Fatalf("%d leases are live; of the old version: %v, of the new one: %v", far.count(), far.accepts(old), far.accepts(renewed))
		}
		return time.Now().After(kept), nil
	}))
	e.same("the rotation", []any{e.state(far.entry), e.rotation(far.entry)["blocking_executions"]}, []any{"serving", []any{x.id}})

	x.write("execution/"+x.id+"/finish", data{})
	e.reaches(far.entry, "idle")
	e.must(eventually("only the lease of the new version is live", func() (bool, error) {
		return !far.accepts(old) && far.accepts(renewed) && far.count() == 1, nil
	}))
	line := e.last(far.entry)
	e.same("history", []any{line["rotation_id"], line["result"], line["executions_left"]}, []any{begun["rotation_id"], "promoted", 0})
	e.same("the value", s.revealed(), renewed)
	count, err := vault.Client.Logical().ReadWithData("sys/leases/count", map[string][]string{"type": {"irrevocable"}})
	e.must(err)
	e.same("irrevocable leases", count.Data["lease_count"], 0)
}
