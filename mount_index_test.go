package agentchains

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// token returns a value that looks random, always the same.
func token(i int) string {
	sum := sha256.Sum256(fmt.Append(nil, i))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}

// mountAgent sees one of the secrets of mounted.
const mountAgent = "prod/c/A"

func (e *env) mounted() {
	e.Helper()
	e.write("prod/org/OWN", token(0))
	e.write("dev/project/p/HIDDEN", token(1))
	e.ok(update, "groups/prod/chain/other/pair", data{"values": data{"KEY": token(2), "NOTE": "not random at all, but long"}})
	e.ok(update, "scopes/chain/c", data{"agents": []any{data{"name": "A", "secrets": []any{"OWN"}}}})
	e.indexed()
}

// indexed waits until the mount is indexed.
func (e *env) indexed() {
	e.Helper()
	// Of so few secrets it may be ready before the answer is.
	if status, text, _ := e.send(e.request(update, "redact/mount", data{"text": "text"})); status != 503 && status != 200 {
		e.Fatalf("%d %s", status, text)
	}
	e.b.worker.Load().group.Wait()
}

// TestRedactMountNotReady answers at once while the mount is read.
func TestRedactMountNotReady(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.write("prod/org/OWN", token(0))
	read := make(chan struct{})
	e.s.onOp = func(op string) {
		if strings.HasPrefix(op, "list "+placePrefix) {
			<-read
		}
	}
	for range 2 {
		e.fails(503, update, "redact/mount", data{"text": token(0)}, "reads the secrets of the mount for the first time")
	}
	close(read)
	e.b.worker.Load().group.Wait()
	e.is(e.knows(token(0)), true)
}

// checks redacts a text against the mount.
func (e *env) checks(text string) data {
	e.Helper()
	return e.ok(update, "redact/"+mountAgent, data{"text": text, "scope": "mount"})
}

// knows reports whether a text is a secret of the mount, to somebody who asks for
// the first time.
func (e *env) knows(text string) bool {
	e.Helper()
	e.b.mountUsers = newMountUsers()
	return strings.Contains(e.ok(update, "redact/mount", data{"text": text})["text"].(string), nameless)
}

func TestRedactMount(t *testing.T) {
	both(t, func(e *env) {
		e.mounted()
		text := "own " + token(0) + " other " + token(1) + " note not random at all, but long " + token(2) + token(0) + " none " + token(3)
		want := "own [REDACTED:OWN] other [REDACTED] note not random at all, but long [REDACTED][REDACTED:OWN] none " + token(3)
		got := e.checks(text)
		e.is(got["text"], want)
		e.is(found(got), "OWN@1:raw×2 at 4+32, @0:raw×2 at 43+32")
		e.is(e.redacts(mountAgent, text)["text"], strings.NewReplacer(token(0), "[REDACTED:OWN]").Replace(text))

		got = e.redacts("mount", text)
		e.is(got["text"], strings.ReplaceAll(want, "[REDACTED:OWN]", nameless))
		e.is(found(got), "@0:raw×4 at 4+32")
		if said := fmt.Sprint(got, e.log.String()); strings.Contains(said, "OWN") || strings.Contains(said, "HIDDEN") || strings.Contains(said, "pair") {
			e.Error("the answer or the log names a secret")
		}
		counters := e.ok(read, "status", nil)["counters"].(data)
		e.is(counters["mount_checks"], 2)
		e.is(counters["mount_hits"], 3)
		e.is(counters["mount_index_values"], 3)
	})
}

func TestRedactMountEncodings(t *testing.T) {
	both(t, func(e *env) {
		e.mounted()
		for _, before := range []string{"", "a", "ab", "abc"} {
			for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
				text := encoding.EncodeToString([]byte(before + "é" + token(1) + "?end"))
				for _, beside := range []string{" ", "/", "x-", "yz/"} {
					got := e.checks("see " + beside + text + " there")
					out := got["text"].(string)
					if !strings.Contains(out, nameless) || !strings.HasPrefix(out, "see "+beside) || !strings.HasSuffix(out, " there") {
						e.Errorf("%q after %q: %s", before, beside, out)
					}
					e.b.mountUsers = newMountUsers()
				}
			}
		}
		text := base64.StdEncoding.EncodeToString([]byte("user:" + token(1)))
		wrapped := text[:20] + "\r\n" + text[20:]
		got := e.checks("Basic " + wrapped)
		e.is(got["text"], "Basic "+text[:6]+nameless+"==")
		e.is(found(got), "@0:base64×1 at 12+46")
		digits := hex.EncodeToString([]byte(token(1)))
		got = e.checks("0" + strings.ToUpper(digits) + digits)
		e.is(got["text"], "0"+nameless+nameless)
		e.is(found(got), "high-entropy-hex@0:format×1 at 0+129, @0:hex×2 at 1+64")
	})
}

// TestRedactMountOverlaps redacts the union of what the agent knows and what it does
// not.
func TestRedactMountOverlaps(t *testing.T) {
	both(t, func(e *env) {
		own, other := token(0)[8:]+token(4), token(0)
		e.mounted()
		e.write("prod/agent/c/A/OWN", own)
		got := e.checks("x " + other + token(4) + " y " + own + " z")
		e.is(got["text"], "x [REDACTED:OWN] y [REDACTED:OWN] z")
		e.is(found(got), "@0:raw×1 at 2+32, OWN@1:raw×2 at 10+56")
		e.write("prod/org/OTHER", own[:20]+token(7))
		got = e.checks(own[:20] + token(7) + " " + own)
		e.is(got["text"], "[REDACTED] [REDACTED:OWN]")
		e.is(found(got), "OWN@1:fragment×1 at 0+20, @0:raw×1 at 0+52, OWN@1:raw×1 at 53+56")
	})
}

// TestRedactMatches compares with a mask of the text, byte by byte.
func TestRedactMatches(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	const text = "abcdefghijklmnopqrstuvwxyz0123456789"
	for range 10_000 {
		var found []redact.Finding
		var matches []mountMatch
		out, masked, end := "", []byte(text), 0
		for end < len(text) {
			start := min(end+rng.IntN(9), len(text))
			out += text[end:start]
			end = min(start+rng.IntN(9), len(text))
			f := redact.Finding{Name: "N", Offset: int64(start), Length: end - start, Redacted: end > start && rng.IntN(4) > 0}
			found = append(found, f)
			if f.Redacted {
				found = append(found, f) // another secret in the same range
				out += "[REDACTED:N]"
				clear(masked[start:end])
			} else {
				out += text[start:end]
			}
		}
		for range rng.IntN(4) {
			start := rng.IntN(len(text) - 1)
			m := mountMatch{start: start, end: start + 1 + rng.IntN(len(text)-start-1)}
			matches = append(matches, m)
			clear(masked[m.start:m.end])
		}
		got := redactMatches(text, out, found, matches)
		left := strings.NewReplacer("[REDACTED:N]", "", nameless, "").Replace(got)
		if want := strings.ReplaceAll(string(masked), "\x00", ""); left != want {
			t.Fatalf("%v and %v: %s leaves %s, want %s", found, matches, got, left, want)
		}
	}
}

// TestRedactMountGuesses tells nothing of a value to who knows only a part of it,
// and nothing of values that can be guessed.
func TestRedactMountGuesses(t *testing.T) {
	both(t, func(e *env) {
		short := token(5)[:windowLen]
		e.write("prod/org/SHORT", short)
		e.write("prod/org/PASSPHRASE", "correct horse battery staple")
		e.write("prod/org/NUMBER", "1234567890123456")
		e.ok(update, "secrets/prod/org/OPEN", data{"value": token(6), "redact": false})
		e.mounted()
		for i := range len(short) {
			if e.knows(short[:i] + "~" + short[i+1:]) {
				e.Errorf("found without character %d", i)
			}
		}
		for _, guess := range []string{short[:15], short[1:], token(1)[:31], token(1)[1:], token(1)[:16], "correct horse battery staple", "1234567890123456", token(6), "not random at all, but long"} {
			if e.knows("a " + guess + " b") {
				e.Errorf("a text of %d bytes is found", len(guess))
			}
		}
		if !e.knows(short) || !e.knows("a "+token(1)+" b") {
			e.Error("a whole value is not found")
		}
	})
}

// TestRedactMountFollows changes an entry in every way there is.
func TestRedactMountFollows(t *testing.T) {
	both(t, func(e *env) {
		e.mounted()
		const path = "prod/org/FOLLOWED"
		e.write(path, token(10))
		e.write(path, token(11))
		is := func(what string, want ...bool) {
			e.Helper()
			for i, found := range want {
				if got := e.knows(token(10 + i)); got != found {
					e.Errorf("%s: version %d is found: %v", what, i+1, got)
				}
			}
		}
		is("serving", true, true)
		e.promote(path)
		is("promoted", false, true)
		e.ok(update, "rotate/"+path, data{"value": token(12)})
		is("rotating", false, true, true)
		e.ok(update, "abort/"+path, nil)
		is("aborted", false, true, false)
		e.ok(patch, "secrets/"+path, data{"redact": false})
		is("not redacted", false, false)
		e.ok(patch, "secrets/"+path, data{"redact": true})
		is("redacted again", false, true)
		e.ok(update, "revoke/secret/"+path, data{"reason": "test", "value": token(13)})
		is("revoked", false, false, false, true)
		e.ok(remove, "secrets/"+path, data{"force": true})
		is("deleted", false, false, false, false)
		e.write(path, token(11))
		is("written again", false, true)

		e.b.Invalidate(e.Context(), secretPrefix+"any")
		e.indexed()
		is("invalidated", false, true)
		e.start()
		e.indexed()
		is("started again", false, true)
	})
}

// TestRedactMountRebuilds makes the table anew when most of it may be stale.
func TestRedactMountRebuilds(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mounted()
	a := address("prod/org/OWN")
	old := e.b.mount.table
	for i := range 11_000 {
		old.put(a, []string{token(i)})
	}
	if !e.knows(token(1)) { // by the old one
		t.Error("nothing is found while the table is made anew")
	}
	e.b.worker.Load().group.Wait()
	if e.b.mount.table == old || e.b.mount.table.values.n != 3 {
		t.Errorf("%d values after it", e.b.mount.table.values.n)
	}
	if !e.knows(token(1)) || e.knows(token(100)) {
		t.Error("the new table is not right")
	}
}

// TestRedactMountFaults fails every operation of storage while the mount is indexed
// and while a text is checked.
func TestRedactMountFaults(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mounted()
	for n := 0; ; n++ {
		e.start()
		e.s.arm(n, false)
		status, _, _ := e.send(e.request(update, "redact/mount", data{"text": "text"}))
		e.b.worker.Load().group.Wait()
		ops := e.s.disarm()
		if len(ops) <= n {
			break
		}
		if status != 503 && status != 500 {
			t.Errorf("%s fails: %d", ops[n], status)
		}
		if e.b.mount.table != nil {
			t.Errorf("%s fails: the table is taken for complete", ops[n])
		}
		e.indexed()
		e.s.arm(0, false)
		status, text, _ := e.send(e.request(update, "redact/mount", data{"text": token(1)}))
		e.s.disarm()
		if status != 500 || strings.Contains(text, token(1)) {
			t.Errorf("an entry that cannot be asked is ignored: %d", status)
		}
		if !e.knows(token(1)) {
			t.Errorf("%s fails: trying again finds nothing", ops[n])
		}
	}
	for n := 0; ; n++ {
		e.s.arm(n, false)
		stored := e.tries(update, "secrets/prod/org/OWN", data{"value": token(200 + n), "force": true})
		ops := e.s.disarm()
		if !e.knows(token(0)) || e.knows(token(200+n)) != stored {
			t.Errorf("%s fails: the index does not know what is stored", ops[min(n, len(ops)-1)])
		}
		if len(ops) <= n {
			break
		}
	}
}

// TestRedactMountElsewhere leaves the mount to the node that sees every write.
func TestRedactMountElsewhere(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mounted()
	standby := &logical.StaticSystemView{ReplicationStateVal: consts.ReplicationPerformanceStandby}
	if err := e.b.Setup(t.Context(), &logical.BackendConfig{Logger: e.b.Logger(), System: standby, StorageView: e.s}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.b.HandleRequest(t.Context(), e.request(update, "redact/mount", data{"text": "text"})); !errors.Is(err, logical.ErrReadOnly) {
		t.Errorf("%v, which Vault does not forward", err)
	}
	e.redacts(mountAgent, "text")
}

func TestRedactMountLimits(t *testing.T) {
	both(t, func(e *env) {
		var values []string
		for i := range 20 {
			e.write(fmt.Sprintf("dev/org/KEY_%d", i), token(100+i))
			values = append(values, token(100+i))
		}
		e.mounted()
		check := func(text string) data { return data{"text": text, "scope": "mount"} }
		path := "redact/" + mountAgent
		e.ok(update, path, check(token(0)+strings.Join(values[:9], " ")))
		e.ok(update, path, check(strings.Join(values[:10], " ")))
		e.fails(429, update, path, check(values[10]), "more than 10 secrets that are not the agent's own")
		// Neither what is known already, nor nothing, is told now.
		e.fails(429, update, path, check(values[0]), "for an hour nothing is checked")
		e.fails(429, update, "redact/mount", data{"text": "nothing"}, "for an hour nothing is checked")
		e.redacts(mountAgent, values[0])
		e.clock.advance(time.Hour)
		e.fails(429, update, path, check(strings.Join(values, " ")), "more than 10")
		e.clock.advance(time.Hour)

		for range mountTexts {
			e.ok(update, path, check("nothing"))
		}
		e.fails(429, update, path, check("nothing"), "more than 60 texts a minute")
		other := e.request(update, path, check("nothing"))
		other.EntityID = "entity-2"
		if status, text, _ := e.send(other); status != 200 {
			e.Errorf("another identity: %d %s", status, text)
		}
		e.clock.advance(time.Second)
		e.ok(update, path, check("nothing"))
		e.fails(429, update, path, check("nothing"), "more than 60 texts a minute")
	})
}

// TestMountUsersAreBounded keeps no more identities than it may, and of those that it
// drops none that could then learn more.
func TestMountUsersAreBounded(t *testing.T) {
	t.Parallel()
	us, now := newMountUsers(), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range mostMountUsers {
		id := fmt.Sprint(i)
		if err := us.turn(id, now); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := us.hits(id, map[uint64]bool{1: true}, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	if us.turn("late", now) == nil || len(us.byID) != mostMountUsers {
		t.Errorf("%d identities are kept", len(us.byID))
	}
	now = now.Add(time.Minute)
	if err := us.turn("late", now); err != nil || len(us.byID) != 2 {
		t.Errorf("%d identities are left: %v", len(us.byID), err)
	}
}

// TestRedactMountWhileWritten searches while entries are written and the table is
// dropped and made.
func TestRedactMountWhileWritten(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mounted()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 50 {
				path := fmt.Sprintf("prod/org/W_%d_%d", w, i%10)
				e.ok(update, "secrets/"+path, data{"value": token(1000 + w*100 + i), "force": true})
				if i%10 == 9 {
					e.ok(remove, "secrets/"+path, data{"force": true})
				}
				if w == 0 && i == 25 {
					e.b.Invalidate(t.Context(), secretPrefix)
				}
			}
		})
	}
	for range 50 {
		e.send(e.request(update, "redact/mount", data{"text": token(1) + token(1049)}))
	}
	writers.Wait()
	e.send(e.request(update, "redact/mount", data{"text": "text"}))
	e.b.worker.Load().group.Wait()
	for w := range 4 {
		if !e.knows(token(1000+w*100+48)) || e.knows(token(1000+w*100+49)) {
			t.Error("the index has not followed the writers")
		}
	}
}
