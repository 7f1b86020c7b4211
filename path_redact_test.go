package agentchains

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// redacts sends a text, and returns the answer.
func (e *env) redacts(path, text string) data {
	e.Helper()
	return e.ok(update, "redact/"+path, data{"text": text})
}

// found returns the findings as name@version:encoding×count at offset+length.
func found(answer data) string {
	var all []string
	for _, f := range answer["findings"].([]any) {
		f := f.(data)
		all = append(all, fmt.Sprintf("%v@%v:%v×%v at %v+%v", f["name"], f["version"], f["encoding"], f["count"], f["offset"], f["length"]))
	}
	return strings.Join(all, ", ")
}

// gaps returns what is not redacted as name@version: reason.
func gaps(answer data) string {
	var all []string
	for _, g := range answer["gaps"].([]any) {
		g := g.(data)
		all = append(all, fmt.Sprintf("%v@%v: %v", g["name"], g["version"], g["reason"]))
	}
	return strings.Join(all, ", ")
}

// live are values of each live version of what the Deployer sees.
func (e *env) live() {
	e.Helper()
	e.deployer()
	e.write("prod/project/platform/DATABASE_URL", "next-database")
	e.write("prod/org/SENTRY_DSN", "sentry-dsn")
	e.write("prod/org/UNSEEN", "unseen-by-all")
}

// TestRedactKeepsApart asks for what is kept under a path, by a path that begins as
// what else is kept might.
func TestRedactKeepsApart(t *testing.T) {
	both(t, func(e *env) {
		e.live()
		e.redacts(deployerPath, "text")
		for _, first := range "=~" {
			for _, door := range []string{"env/", "creds/", "explain/"} {
				e.fails(400, read, door+string(first)+deployerPath, nil, "environment")
			}
		}
	})
}

func TestRedact(t *testing.T) {
	both(t, func(e *env) {
		e.live()
		got := e.redacts(deployerPath, "new next-database, old project-db, key openai, other unseen-by-all, cHJvamVjdC1kYg== in us-west-2; project-db")
		e.is(got["text"], "new [REDACTED:DB_URL], old [REDACTED:DB_URL], key [REDACTED:OPENAI_API_KEY], other unseen-by-all, [REDACTED:DB_URL] in us-west-2; [REDACTED:DB_URL]")
		e.is(found(got), "DB_URL@2:raw×1 at 4+13, DB_URL@1:raw×2 at 23+10, OPENAI_API_KEY@1:raw×1 at 39+6, DB_URL@1:base64×1 at 68+16")
		e.is(got["count"], 5)
		e.is(gaps(got), "AWS_REGION@1: it is the name of a region")

		e.promote("prod/project/platform/DATABASE_URL")
		got = e.redacts(deployerPath, "new next-database, old project-db")
		e.is(got["text"], "new [REDACTED:DB_URL], old project-db")
		e.ok(update, "revoke/secret/prod/project/platform/DATABASE_URL", data{"reason": "test"})
		e.is(e.redacts(deployerPath, "next-database, openai")["text"], "next-database, [REDACTED:OPENAI_API_KEY]")
	})
}

func TestRedactByMode(t *testing.T) {
	both(t, func(e *env) {
		e.live()
		e.ok(patch, "secrets/prod/org/SENTRY_DSN", data{"redact": false})
		e.ok(update, awsDeploy, data{"values": data{"AWS_REGION": "us-west-2", "AWS_STAGE": "canary", "AWS_KEY": "key-of-aws"}, "redact": []any{"AWS_REGION"}, "force": true})
		got := e.redacts(deployerPath, "sentry-dsn us-west-2 canary key-of-aws ghp_0123456789abcdefghijABCDEFGHIJ456789")
		e.is(got["text"], "sentry-dsn [REDACTED:AWS_REGION] canary key-of-aws [REDACTED:github-pat]")
		if all := gaps(got); !strings.Contains(all, "SENTRY_DSN@1: its redact says so") || !strings.Contains(all, "AWS_KEY@2: its redact says so") {
			e.Error(all)
		}
		e.ok(update, "secrets/prod/agent/deploy-pipeline/Deployer/OPENAI_API_KEY", data{"value": "word"})
		e.is(e.redacts(deployerPath, "a word")["text"], "a [REDACTED:OPENAI_API_KEY]")
	})
}

// TestRedactUnresolved redacts what can be, for an agent that gets nothing.
func TestRedactUnresolved(t *testing.T) {
	both(t, func(e *env) {
		e.live()
		e.ok(remove, "groups/prod/project/platform/aws-deploy", nil)
		e.ok(update, "secrets/all/org/OPENAI_API_KEY", data{"chains_allowed": "billing"})
		e.fails(403, read, "env/"+deployerPath, nil, "does not resolve")
		got := e.redacts(deployerPath, "project-db openai")
		e.is(got["text"], "[REDACTED:DB_URL] openai")
		// What has expired may still be in a log.
		e.ok(patch, "secrets/prod/project/platform/DATABASE_URL", data{"expires_at": "2030-01-01T00:10:00Z"})
		e.clock.advance(time.Hour)
		e.is(e.redacts(deployerPath, "next-database")["text"], "[REDACTED:DB_URL]")
	})
}

func TestRedactRefused(t *testing.T) {
	both(t, func(e *env) {
		e.live()
		for path, want := range map[string]struct {
			status int
			text   string
		}{
			"all/deploy-pipeline/Deployer":  {400, "must not be all"},
			"test/deploy-pipeline/Deployer": {400, "not one of dev, staging, prod"},
			"prod/Deployer":                 {400, "the path must end in <chain>/<agent>"},
			"prod/nope/Deployer":            {404, "there is no chain nope"},
			"prod/deploy-pipeline/Nobody":   {404, "has no agent Nobody"},
		} {
			e.fails(want.status, update, "redact/"+path, data{"text": marker}, want.text)
		}
		e.fails(400, update, "redact/"+deployerPath, data{"text": marker, "scope": "org"}, "scope must be agent or mount")
		e.fails(400, update, "redact/"+deployerPath, nil, "text must have 1 to 1048576 bytes")
		e.fails(400, update, "redact/"+deployerPath, data{"text": strings.Repeat("x", maxRedactText+1)}, "text must have")
		e.redacts(deployerPath, strings.Repeat("x", maxRedactText))
		e.fails(400, update, "redact/mount", data{"text": marker, "scope": "agent"}, "there is no field scope here")
	})
}

// TestRedactLeavesNoTrace is not a read: nobody becomes a reader, no version is
// used by it, and no hold keeps it out.
func TestRedactLeavesNoTrace(t *testing.T) {
	both(t, func(e *env) {
		e.live()
		e.ok(update, "revoke/all", data{"reason": "test", "hold": true})
		e.fails(423, read, "env/"+deployerPath, nil, "hold")
		before := e.dump()
		e.is(e.redacts(deployerPath, "next-database")["text"], "[REDACTED:DB_URL]")
		e.flush()
		e.is(e.dump(), before)
		e.is(len(e.readersOf("prod/project/platform/DATABASE_URL")), 0)
		e.turn()
		e.is(e.rotation("prod/project/platform/DATABASE_URL")["proof"], "")
	})
}

// TestRedactFaults fails every operation of storage: no text is answered that was
// redacted with less than all.
func TestRedactFaults(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.live()
	const text, want = "project-db openai", "[REDACTED:DB_URL] [REDACTED:OPENAI_API_KEY]"
	for n := 0; ; n++ {
		e.start()
		e.s.arm(n, false)
		status, _, _ := e.send(e.request(update, "redact/"+deployerPath, data{"text": text}))
		ops := e.s.disarm()
		if len(ops) <= n {
			e.is(n > 5, true)
			break
		}
		if status != 500 {
			t.Errorf("%s fails: %d", ops[n], status)
		}
		e.is(e.redacts(deployerPath, text)["text"], want)
	}
}

// TestRedactSetIsKept compiles a set when one of its entries was written, and not
// when another was.
func TestRedactSetIsKept(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.live()
	set := func() *agentSet {
		t.Helper()
		set, err := e.b.agentSet(t.Context(), e.s, deployerPath)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	first := set()
	e.write("prod/org/UNSEEN", "something else")
	if set() != first {
		t.Error("the set is compiled anew after a write elsewhere")
	}
	e.write("prod/agent/deploy-pipeline/Deployer/OPENAI_API_KEY", "own-key")
	if set() == first {
		t.Error("the set is that of before a write")
	}
	before := e.b.cache.stats().bytes
	e.b.cache.drop(setKey(deployerPath))
	if took := before - e.b.cache.stats().bytes; took < 100<<10 {
		t.Errorf("the cache counts %d bytes for a set", took)
	}
}

// TestRedactLargeValues keeps the set small: a megabyte of forms for each kilobyte
// of a key is too much for some agents.
func TestRedactLargeValues(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	large := ""
	for i := range 1000 {
		large += token(i) + "\n"
	}
	e.ok(update, "groups/prod/org/pair", data{"values": data{"LARGE": large, "SMALL": token(0)}})
	e.ok(update, "scopes/chain/c", data{"agents": []any{data{"name": "A", "groups": []any{"pair"}}}})
	got := e.redacts("prod/c/A", "small "+token(0)[:20]+" large "+large)
	e.is(got["text"], "small [REDACTED:SMALL] large [REDACTED:LARGE]\n")
	if all := gaps(got); !strings.HasPrefix(all, "LARGE@1: the agent's values are large") {
		t.Error(all)
	}
	if bytes := e.b.cache.stats().bytes; bytes > mostSetBytes {
		t.Errorf("%d bytes are cached", bytes)
	}
}

// TestRedactManyFindings bounds the answer.
func TestRedactManyFindings(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	values, text := data{}, ""
	for i := range mostFindings + 10 {
		values[fmt.Sprintf("MEMBER_%d", i)] = token(i)
		text += token(i) + "\n"
	}
	e.ok(update, "groups/prod/org/many", data{"values": values})
	e.ok(update, "scopes/chain/c", data{"agents": []any{data{"name": "A", "groups": []any{"many"}}}})
	got := e.redacts("prod/c/A", text)
	e.is(len(got["findings"].([]any)), mostFindings)
	e.is(got["count"], mostFindings+10)
	if strings.Contains(got["text"].(string), token(mostFindings+5)) {
		t.Error("what is not listed is not redacted either")
	}
}
