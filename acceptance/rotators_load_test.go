package acceptance

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is clients that log in to a database without a pause, with what creds/
// gave them, while its password is rotated.
type load struct {
	*engine
	accepts func(value any) bool

	// A rotation is between the two while it is asked for: its far side may be
	// switched, and nobody has been told so yet.
	begun, answered atomic.Int64
	clients         sync.WaitGroup
}

// tally counts the logins of a client.
type tally struct {
	logins, failed atomic.Int64
	wrong          atomic.Int64 // failed although no rotation began since the value was read
	refused        atomic.Int64 // reads
	text           atomic.Value // of the last refusal
}

const (
	loadAgent  = "prod/c/Worker"
	loadSecret = "prod/org/DATABASE_URL"
	rotated    = 50 // times
)

func newLoad(t *testing.T, users ...string) *load {
	t.Helper()
	e := newEngine(t)
	far := startPostgreSQL(e).farSide(users...)
	newSubject(e, far, nil)
	e.chain("c", "", "DATABASE_URL")
	e.write("config", data{"creds_max_ttl": "1s"})
	l := &load{engine: e, accepts: far.accepts}
	e.Cleanup(l.clients.Wait)
	return l
}

// client logs in until the end. It reads creds/ again when its ttl is over, or
// with fresh at each login.
func (l *load) client(ctx context.Context, fresh bool) *tally {
	c := &tally{}
	c.text.Store("")
	l.clients.Go(func() {
		var value any
		var until time.Time
		var known int64
		for ctx.Err() == nil {
			if fresh || !time.Now().Before(until) {
				read, answered := time.Now(), l.answered.Load()
				creds, err := l.engine.client.Logical().Read(l.mount + "/creds/" + loadAgent)
				if err != nil || creds == nil {
					c.refused.Add(1)
					c.text.Store(fmt.Sprint(err))
					continue
				}
				ttl, err := time.ParseDuration(fmt.Sprintf("%vs", creds.Data["ttl"]))
				if err != nil {
					l.Error(err)
					return
				}
				value, known, until = creds.Data["DATABASE_URL"], answered, read.Add(ttl)
			}
			c.logins.Add(1)
			if !l.accepts(value) {
				c.failed.Add(1)
				if l.begun.Load() == known {
					c.wrong.Add(1)
				}
			}
		}
	})
	return c
}

// rotate rotates once, to the end. What is done meanwhile begins as soon as the
// rotation has.
func (l *load) rotate(body data, meanwhile func()) {
	l.Helper()
	l.begun.Add(1)
	l.write("rotate/"+loadSecret, body)
	l.answered.Add(1)
	meanwhile()
	l.reaches(loadSecret, "idle")
}

// check prints what became of a client's logins, of which none may fail, or only
// those with a value from before a rotation.
func (l *load) check(who string, c *tally, none bool) {
	l.Helper()
	l.Logf("%s: %d logins, %d failed", who, c.logins.Load(), c.failed.Load())
	if n := c.refused.Load(); n > 0 {
		l.Errorf("%s: %d reads of creds/ failed: %s", who, n, secrets.censor(c.text.Load().(string)))
	}
	if n := c.wrong.Load(); n > 0 {
		l.Errorf("%s: %d logins failed although no rotation began since the value was read", who, n)
	}
	if c.logins.Load() < rotated || none && c.failed.Load() > 0 {
		l.Errorf("%s: there must be a login for each rotation, and none may fail", who)
	}
}

// Two users take turns: a client that reads creds/ again as its ttl says, which
// is shorter than min_overlap, is never refused.
func TestLoginsWithTwoUsers(t *testing.T) {
	l := newLoad(t, "app_a", "app_b")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	byTTL, fresh := l.client(ctx, false), l.client(ctx, true)
	started := time.Now()
	for range rotated {
		l.rotate(data{"min_overlap": "2s"}, func() {})
	}
	t.Logf("%d rotations in %s", rotated, time.Since(started).Round(time.Second))
	stop()
	l.clients.Wait()
	l.check("a client that reads as the ttl says", byTTL, true)
	l.check("a client that reads before each login", fresh, true)
	l.same("the last version", l.read("secrets/" + loadSecret)["current_version"], rotated+1)
}

// A single user has one password. Who reads while it is switched waits, and gets
// the new one. Who has read before, and executions, are left with the old one.
func TestLoginsWithOneUser(t *testing.T) {
	l := newLoad(t, "app")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	byTTL, fresh := l.client(ctx, false), l.client(ctx, true)
	broken, unusable := 0, 0
	for range rotated {
		x := l.start(loadAgent, nil)
		var next *execution
		l.rotate(nil, func() {
			next = l.start(loadAgent, nil)
			for _, env := range []data{next.env, l.read("creds/" + loadAgent)} {
				if !l.accepts(env["DATABASE_URL"]) {
					unusable++
				}
			}
		})
		if ids := l.rotation(loadSecret)["broken_executions"].([]any); len(ids) == 1 && ids[0] == x.id && !l.accepts(x.env["DATABASE_URL"]) {
			broken++
		}
		for _, over := range []*execution{x, next} {
			over.write("execution/"+over.id+"/finish", nil)
		}
	}
	stop()
	l.clients.Wait()
	l.check("a client that reads as the ttl says", byTTL, false)
	l.check("a client that reads before each login", fresh, false)
	l.same("starts and reads during the switch that got what does not work", unusable, 0)
	l.same("rotations that broke the one execution on the old value, and list it", broken, rotated)
	if byTTL.failed.Load() == 0 {
		t.Error("no client was left with the old value: the test shows nothing")
	}
}
