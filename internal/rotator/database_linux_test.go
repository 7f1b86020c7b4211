package rotator_test

import (
	"context"
	"maps"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	s := startPostgreSQL(t)
	t.Run("group", func(t *testing.T) {
		testDatabase(t, s)
		t.Run("without the right to see verifiers", func(t *testing.T) {
			t.Parallel()
			s.execute(t, "CREATE ROLE deputy LOGIN CREATEROLE PASSWORD '"+adminPassword+"'", "SET ROLE deputy; CREATE ROLE odd LOGIN; RESET ROLE")
			settings := s.settings(t)
			settings["usernames"], settings["admin_username"] = []string{"odd"}, "deputy"
			testNoWayBack(t, s, settings)
		})
	})
	noneLogged(t, s)
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	s := startMariaDB(t)
	t.Run("group", func(t *testing.T) {
		testDatabase(t, s)
		t.Run("without the right to see verifiers", func(t *testing.T) {
			t.Parallel()
			s.execute(t, "CREATE USER deputy IDENTIFIED BY '"+adminPassword+"'", "GRANT CREATE USER ON *.* TO deputy")
			settings := s.settings(t, "odd")
			settings["admin_username"] = "deputy"
			testNoWayBack(t, s, settings)
		})
	})
	noneLogged(t, s)
}

// noneLogged fails when a password that a rotation made is in the server's log.
func noneLogged(t *testing.T, s *databaseServer) {
	log := s.statements(t)
	if !strings.Contains(log, "ALTER ") {
		t.Error("the server does not log statements")
	}
	made, found := 0, 0
	s.made.Range(func(password, _ any) bool {
		made++
		if strings.Contains(log, password.(string)) {
			found++
		}
		return true
	})
	t.Logf("%d of %d passwords are in the server's log", found, made)
	if made == 0 || found > 0 {
		t.Error("a password is in the log, or none was made")
	}
}

func testDatabase(t *testing.T, s *databaseServer) {
	for name, usernames := range map[string][]string{"one user": {"solo"}, `odd "name`: {`o"d'd\ n@me`}, "two users": {"left", "right"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRotations(t, s, s.settings(t, usernames...))
		})
	}
	t.Run("cut", func(t *testing.T) {
		t.Parallel()
		testCuts(t, s)
	})
	t.Run("a value of another form", func(t *testing.T) {
		t.Parallel()
		testOtherForm(t, s)
	})
	t.Run("the first version", func(t *testing.T) {
		t.Parallel()
		testFirst(t, s)
	})
	t.Run("a revoked version", func(t *testing.T) {
		t.Parallel()
		testRevoked(t, s)
	})
	t.Run("refusals", func(t *testing.T) {
		t.Parallel()
		testRefusals(t, s)
	})
	for name, usernames := range map[string][]string{"logins with one user": {"one"}, "logins with two users": {"odd1", "even2"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testLogins(t, s, s.settings(t, usernames...))
		})
	}
}

// keeper does what the engine does with the versions of a secret.
type keeper struct {
	server  *databaseServer
	rotator rotator.Rotator
	current rotator.Version
	saved   rotator.Version // of the rotation under way
}

func newKeeper(t *testing.T, s *databaseServer, settings rotator.Settings, value string) *keeper {
	t.Helper()
	k := &keeper{server: s, rotator: s.rotator(t, settings)}
	if value != "" {
		k.current.Values = map[string]sensitive.String{"URL": sensitive.New(value)}
	}
	return k
}

func (k *keeper) job() *rotator.Job {
	job := &rotator.Job{ID: "r1", Path: "prod/org/URL", Variable: "URL", Old: clone(k.current)}
	k.saved = rotator.Version{}
	job.Save = func(context.Context) error {
		k.saved = clone(job.New)
		return nil
	}
	return job
}

// resume is the job as a new process finds it.
func (k *keeper) resume(job *rotator.Job) { job.New = clone(k.saved) }

func clone(v rotator.Version) rotator.Version {
	return rotator.Version{Values: maps.Clone(v.Values), Memo: maps.Clone(v.Memo)}
}

// begin takes a new rotation to where the new value is in use, each step twice.
func (k *keeper) begin(t *testing.T) *rotator.Job {
	t.Helper()
	job := k.job()
	k.create(t, job)
	k.step(t, job, k.rotator.Set, k.rotator.Set, k.rotator.Test, k.rotator.Test)
	return job
}

func (k *keeper) step(t *testing.T, job *rotator.Job, steps ...func(context.Context, *rotator.Job) error) {
	t.Helper()
	for _, step := range steps {
		if err := step(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
}

func (k *keeper) create(t *testing.T, job *rotator.Job) {
	t.Helper()
	if err := k.rotator.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	value := job.New.Values["URL"]
	if err := k.rotator.Create(t.Context(), job); err != nil || !value.Equal(job.New.Values["URL"]) {
		t.Fatalf("the second time another value is made: %v", err)
	}
	_ = job.Save(t.Context())
	u, err := url.Parse(value.Reveal())
	if err != nil {
		t.Fatal("the value is no URL")
	}
	password, _ := u.User.Password()
	k.server.made.Store(password, true)
}

// end ends a rotation: what is dropped is no longer there when Finish is called.
func (k *keeper) end(job *rotator.Job, promoted bool) {
	if job.Promoted = promoted; promoted {
		job.Old.Values = nil
		k.current = clone(job.New)
	} else {
		job.New.Values = nil
	}
}

func (k *keeper) finish(t *testing.T, job *rotator.Job, promoted bool) {
	t.Helper()
	k.end(job, promoted)
	k.step(t, job, k.rotator.Finish, k.rotator.Finish)
}

// live fails unless the server accepts a value, or does not.
func (k *keeper) live(t *testing.T, what string, value sensitive.String, want bool) {
	t.Helper()
	if k.server.accepts(t, value.Reveal()) != want {
		t.Errorf("%s: accepted %v, want %v", what, !want, want)
	}
}

func testRotations(t *testing.T, s *databaseServer, settings rotator.Settings) {
	overlaps := rotator.Types[s.kind].Overlaps(settings)
	k := newKeeper(t, s, settings, s.value(settings["usernames"].([]string)[0], byHand))
	k.live(t, "the first value", k.current.Values["URL"], true)
	for _, promoted := range []bool{true, false, false, true, true, false} {
		job := k.begin(t)
		oldValue, newValue := job.Old.Values["URL"], job.New.Values["URL"]
		k.live(t, "the new value in use", newValue, true)
		k.live(t, "the old value beside it", oldValue, overlaps)
		k.finish(t, job, promoted)
		k.live(t, "the new value at the end", newValue, promoted)
		k.live(t, "the old value at the end", oldValue, !promoted)
	}
	// Given up before anything was done outside, a rotation changes nothing.
	job := k.job()
	k.create(t, job)
	k.finish(t, job, false)
	k.live(t, "the current value", k.current.Values["URL"], true)
}

func testCuts(t *testing.T, s *databaseServer) {
	for name, usernames := range map[string][]string{"one user": {"cut"}, "two users": {"cut1", "cut2"}} {
		settings := s.settings(t, usernames...)
		c := newCutter(t, s.port)
		settings["tls"], settings["port"] = "disable", c.port
		settings["template"] = map[string]string{"value": s.template("{{username}}", "{{password}}", s.port)}
		overlaps := rotator.Types[s.kind].Overlaps(settings)
		k := newKeeper(t, s, settings, s.value(usernames[0], byHand))
		for _, cut := range []cutting{beforeEffect, afterEffect} {
			for _, promoted := range []bool{false, true} {
				job := k.job()
				k.create(t, job)
				k.resume(job)
				oldValue, newValue := job.Old.Values["URL"], job.New.Values["URL"]
				c.next.Store(int32(cut))
				if err := k.rotator.Set(t.Context(), job); err == nil {
					t.Fatalf("%s: Set %v succeeds", name, cut)
				}
				k.live(t, "the new value after a cut", newValue, cut == afterEffect)
				k.live(t, "the old value after a cut", oldValue, overlaps || cut == beforeEffect)
				k.resume(job)
				if err := k.rotator.Set(t.Context(), job); err != nil {
					t.Fatalf("%s: Set again: %v", name, err)
				}
				k.live(t, "the new value after another try", newValue, true)
				k.live(t, "the old value after another try", oldValue, overlaps)
				k.end(job, promoted)
				if changes := overlaps || !promoted; changes {
					c.next.Store(int32(cut))
					if err := k.rotator.Finish(t.Context(), job); err == nil {
						t.Fatalf("%s: Finish %v succeeds", name, cut)
					}
				}
				k.finish(t, job, promoted)
				k.live(t, "the new value at the end", newValue, promoted)
				k.live(t, "the old value at the end", oldValue, !promoted)
			}
		}
	}
}

// testOtherForm looks at a value whose password only the server knows how to check.
// What it has must be saved before it is replaced: later it has the new one.
func testOtherForm(t *testing.T, s *databaseServer) {
	settings := s.settings(t, "form")
	c := newCutter(t, s.port)
	settings["tls"], settings["port"] = "disable", c.port
	k := newKeeper(t, s, settings, "host=127.0.0.1 user=form password="+byHand)
	job := k.job()
	k.create(t, job)
	c.next.Store(int32(afterEffect))
	if err := k.rotator.Set(t.Context(), job); err == nil {
		t.Fatal("Set succeeds")
	}
	k.resume(job)
	k.step(t, job, k.rotator.Set, k.rotator.Test)
	value := job.New.Values["URL"]
	k.live(t, "the new value in use", value, true)
	k.finish(t, job, false)
	k.live(t, "the old password that the server had", sensitive.New(s.value("form", byHand)), true)
	k.live(t, "the new value", value, false)
}

// testNoWayBack wants an error where the old password is known to nobody.
func testNoWayBack(t *testing.T, s *databaseServer, settings rotator.Settings) {
	k := newKeeper(t, s, settings, "of a form that is not known")
	job := k.begin(t)
	k.end(job, false)
	if err := k.rotator.Finish(t.Context(), job); err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("the error is %v", err)
	}
}

func testFirst(t *testing.T, s *databaseServer) {
	k := newKeeper(t, s, s.settings(t, "first", "second"), "")
	job := k.begin(t)
	value := job.New.Values["URL"]
	k.finish(t, job, false)
	k.live(t, "the new value", value, false)
	k.live(t, "the other user's password", sensitive.New(s.value("second", byHand)), true)
	job = k.begin(t)
	k.finish(t, job, true)
	k.live(t, "the new value", k.current.Values["URL"], true)

	// A user that is gone has no password that could be removed.
	job = k.begin(t)
	s.execute(t, map[string]string{"postgresql": "DROP ROLE first", "mysql": "DROP USER first"}[s.kind])
	k.finish(t, job, true)
	k.live(t, "the new value", k.current.Values["URL"], true)
}

// testRevoked revokes the old version while the new one is in use, and then the
// new one: what was revoked is not put back.
func testRevoked(t *testing.T, s *databaseServer) {
	k := newKeeper(t, s, s.settings(t, "revoked"), s.value("revoked", byHand))
	job := k.begin(t)
	value := job.New.Values["URL"]
	job.Old.Values = nil
	k.finish(t, job, false)
	k.live(t, "the new value", value, false)
	k.live(t, "the old value", k.current.Values["URL"], false)
}

func testRefusals(t *testing.T, s *databaseServer) {
	other := &databaseServer{dir: t.TempDir()}
	other.makeCertificate(t)
	settings := s.settings(t, "refused")
	for name, change := range map[string]struct {
		field string
		value any
		want  string
	}{
		"the admin's password": {"admin_password", sensitive.New("wrong-" + byHand), map[string]string{"postgresql": "SQLSTATE 28P01", "mysql": "error 1045"}[s.kind]},
		"another authority":    {"ca_pem", other.ca, "certificate"},
		"another host":         {"host", "127.0.0.2", "allowed_hosts"},
		"another user":         {"usernames", []string{"nobody-there"}, "does not exist"},
	} {
		changed := maps.Clone(settings)
		changed[change.field] = change.value
		k := newKeeper(t, s, changed, "")
		job := k.job()
		k.create(t, job)
		err := k.rotator.Set(t.Context(), job)
		if err == nil || !strings.Contains(err.Error(), change.want) {
			t.Errorf("%s: the error is %v, want one with %s", name, err, change.want)
			continue
		}
		for _, secret := range []string{"wrong-" + byHand, adminPassword, job.New.Memo["verifier"].Reveal()} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error holds a secret", name)
			}
		}
	}
	k := newKeeper(t, s, settings, "")
	job := k.job()
	k.create(t, job)
	if err := k.rotator.Test(t.Context(), job); err == nil {
		t.Error("a value that was never set passes the test")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.rotator.Set(ctx, job); err == nil {
		t.Error("a step that was cancelled succeeds")
	}
}

// published is a version as readers hold it: while one does, it is not ended.
type published struct {
	value   sensitive.String
	readers sync.WaitGroup
}

// testLogins rotates 50 times while clients log in with what is current. Where
// versions overlap, no login may fail.
func testLogins(t *testing.T, s *databaseServer, settings rotator.Settings) {
	overlaps := rotator.Types[s.kind].Overlaps(settings)
	k := newKeeper(t, s, settings, s.value(settings["usernames"].([]string)[0], byHand))
	var mu sync.Mutex // guards current
	current := &published{value: k.current.Values["URL"]}
	var logins, failures atomic.Int64
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				mine := current
				mine.readers.Add(1)
				mu.Unlock()
				if !s.accepts(t, mine.value.Reveal()) {
					failures.Add(1)
				}
				logins.Add(1)
				mine.readers.Done()
			}
		})
	}
	defer clients.Wait()
	defer close(done)
	var switching time.Duration
	for range 50 {
		job := k.job()
		k.create(t, job)
		start := time.Now()
		k.step(t, job, k.rotator.Set, k.rotator.Test)
		mu.Lock()
		before := current
		current = &published{value: job.New.Values["URL"]}
		mu.Unlock()
		switching += time.Since(start)
		before.readers.Wait()
		k.finish(t, job, true)
	}
	t.Logf("%s, 50 rotations with %d: %d of %d logins failed; from Set to the new value in use, %v on average",
		s.kind, len(settings["usernames"].([]string)), failures.Load(), logins.Load(), (switching / 50).Round(100*time.Microsecond))
	if overlaps && failures.Load() > 0 {
		t.Error("a login failed")
	}
	if logins.Load() == failures.Load() {
		t.Error("no login succeeded")
	}
	k.live(t, "the last value", k.current.Values["URL"], true)
}
