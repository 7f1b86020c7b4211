package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// key is the secret of the agents under test, and plain is without.
const key = "J6qPzt0vLw8xYd3kR5mTn1Bc"

// An agentFiles is an agent under test, which leaves files.
type agentFiles struct {
	*testing.T
	*events
	dir      string // of the copies
	findings *findings
}

func newAgentFiles(t *testing.T) *agentFiles {
	t.Helper()
	a := &agentFiles{T: t, dir: filepath.Join(t.TempDir(), "events"), findings: newFindings(map[string]variable{"KEY": {}})}
	var err error
	a.events, err = newEvents(a.dir)
	a.must(err)
	t.Cleanup(func() { a.must(a.remove()) })
	return a
}

func (a *agentFiles) must(err error) {
	a.Helper()
	if err != nil {
		a.Fatal(err)
	}
}

func (a *agentFiles) begin() {
	a.follow(redact.NewSet(redact.Secret{Name: "KEY", Version: 1, Value: key}), a.findings)
}

func (a *agentFiles) path(name string) string { return filepath.Join(a.private.path(), name) }

// add appends to a file, as the agent.
func (a *agentFiles) add(name, text string) {
	a.Helper()
	f, err := os.OpenFile(a.path(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	a.must(err)
	_, err = f.WriteString(text)
	a.must(errors.Join(err, f.Close()))
}

// published returns all files in the directory of the copies.
func (a *agentFiles) published() map[string]string {
	a.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(a.dir)
	a.must(err)
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(a.dir, entry.Name()))
		a.must(err)
		files[entry.Name()] = string(text)
	}
	return files
}

// shows waits until a copy has that text.
func (a *agentFiles) shows(name, want string) {
	a.Helper()
	a.wait(name+" is "+want, func() bool { return a.published()[name] == want })
}

func (a *agentFiles) wait(what string, done func() bool) {
	a.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); !done(); {
		select {
		case <-tick.C:
		case <-late:
			a.Fatalf("not in time: %s", what)
		}
	}
}

// ends compares what is published in the end, and what is not.
func (a *agentFiles) ends(want map[string]string, complaints ...string) {
	a.Helper()
	var got []string
	for _, err := range a.finish() {
		got = append(got, err.Error())
	}
	if !slices.Equal(got, complaints) {
		a.Errorf("complaints %q, want %q", got, complaints)
	}
	if published := a.published(); !maps.Equal(published, want) {
		a.Errorf("published is %q, want %q", published, want)
	}
	if _, err := os.Stat(a.private.path()); !errors.Is(err, fs.ErrNotExist) {
		a.Errorf("the private directory is still there: %v", err)
	}
}

func TestEventsAreRedacted(t *testing.T) {
	t.Parallel()
	a := newAgentFiles(t)
	quoted, err := json.Marshal(`say "` + key + `"`)
	a.must(err)
	pem := "-----BEGIN\n" + key[:12] + "\n" + key[12:] + "\n"
	a.add("result.json", "{\"a\": "+string(quoted)+",\n \""+key+"\": [1, true]}\n")
	a.add("events.jsonl", `{"n":1,"text":`+string(quoted)+"}\n\nno JSON: "+key+"\n{\"n\":2}")
	a.add("agent.log", "the key is "+key)
	a.add("notes.txt", "over\n"+pem)
	a.add("image.png", "\x89PNG\x00\xff"+key+"\xfe")
	a.add("broken.json", `{"a": "`+key)
	a.add("empty.txt", "")
	a.add(".lock", key)
	a.begin()
	a.ends(map[string]string{
		"result.json":  "{\"a\": \"say \\\"[REDACTED:KEY]\\\"\",\n \"[REDACTED:KEY]\": [1, true]}\n",
		"events.jsonl": "{\"n\":1,\"text\":\"say \\\"[REDACTED:KEY]\\\"\"}\n\nno JSON: [REDACTED:KEY]\n{\"n\":2}",
		"agent.log":    "the key is [REDACTED:KEY]",
		"notes.txt":    "over\n-----BEGIN\n[REDACTED:KEY]\n",
		"image.png":    "\x89PNG\x00\xff[REDACTED:KEY]\xfe",
		"broken.json":  `{"a": "[REDACTED:KEY]`,
		"empty.txt":    "",
	})
	var out strings.Builder
	a.findings.print(&out, false)
	same(t, "summary", out.String(), "agentchains: redacted KEY 8 times (raw) in agent.log, broken.json, events.jsonl and 3 more\n")
}

// Lines appear while the agent writes them, and only whole ones of JSON.
func TestEventsGrow(t *testing.T) {
	t.Parallel()
	a := newAgentFiles(t)
	a.begin()
	a.add("events.jsonl", `{"a":"`+key[:10])
	a.add("agent.log", "a\n"+key[:10])
	a.add("result.json", "{}")
	a.shows("agent.log", "a\n")
	a.add("events.jsonl", key[10:]+"\"}\n{")
	a.add("agent.log", key[10:]+"\n")
	a.shows("agent.log", "a\n[REDACTED:KEY]\n")
	a.shows("events.jsonl", "{\"a\":\"[REDACTED:KEY]\"}\n")
	a.add("events.jsonl", "}\n")
	a.ends(map[string]string{
		"agent.log": "a\n[REDACTED:KEY]\n", "events.jsonl": "{\"a\":\"[REDACTED:KEY]\"}\n{}\n", "result.json": "{}",
	})
}

// Nothing but regular files with a name that may be shown is published, and
// nothing from outside of the directory.
func TestEventsThatAreNone(t *testing.T) {
	t.Parallel()
	a := newAgentFiles(t)
	outside := filepath.Join(t.TempDir(), "outside")
	a.must(os.WriteFile(outside, []byte("outside"), 0o600))
	a.must(os.Symlink(outside, a.path("link.log")))
	a.must(os.Symlink("good.log", a.path("latest.log")))
	a.must(unix.Mkfifo(a.path("pipe.log"), 0o600))
	a.must(os.Mkdir(a.path("folder.log"), 0o700))
	a.must(os.WriteFile(a.path("folder.log/below.log"), nil, 0o600))
	for _, name := range []string{key + ".log", "a\x1b[2Jb.log", "-rf.log", strings.Repeat("x", 200), "good.log"} {
		a.add(name, "text")
	}
	a.begin()
	a.ends(map[string]string{"good.log": "text"},
		"4 of the files of events: a name may have 128 letters, digits, ., _ and -, and nothing secret",
		"4 of the files of events: no regular file")
}

func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	a := newAgentFiles(t)
	a.left = 10
	a.add("a.log", "0123456789")
	a.add("b.log", "x")
	a.begin()
	a.ends(map[string]string{"a.log": "0123456789", "b.log": ""}, "b.log: the files of events are larger than 1024 MiB")

	a = newAgentFiles(t)
	for i := range maxEventFiles + 2 {
		a.add(fmt.Sprint(i), "")
	}
	a.begin()
	if errs := a.finish(); len(errs) != 1 || errs[0].Error() != "2 of the files of events: more than 1000" {
		t.Errorf("complaints %q", errs)
	}
	if n := len(a.published()); n != maxEventFiles {
		t.Errorf("%d files are published", n)
	}
}

// A line that is too long to be taken for JSON is redacted as text, whole or not.
func TestEventsWithALongLine(t *testing.T) {
	t.Parallel()
	a := newAgentFiles(t)
	a.begin()
	long := strings.Repeat("0123456789abcde\t", mostJSON/16)
	a.add("events.jsonl", "{}\n"+long)
	copied := filepath.Join(a.dir, "events.jsonl")
	a.wait("most of the line is published", func() bool {
		info, err := os.Stat(copied)
		return err == nil && info.Size() > mostJSON/2
	})
	a.add("events.jsonl", key+" "+key+"\n{\"a\":\""+key+"\"}\n"+long)
	if errs := a.finish(); errs != nil {
		a.Errorf("complaints %q", errs)
	}
	if want := "{}\n" + long + "[REDACTED:KEY] [REDACTED:KEY]\n{\"a\":\"[REDACTED:KEY]\"}\n" + long; a.published()["events.jsonl"] != want {
		a.Error("the copy is not as expected")
	}
}

// A file that is not the one whose beginning was published is not joined to it.
func TestEventsThatAreReplaced(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(a *agentFiles){
		"by another file": func(a *agentFiles) {
			a.add("next", "another text, which is longer")
			a.must(os.Rename(a.path("next"), a.path("agent.log")))
		},
		"by less": func(a *agentFiles) { a.must(os.Truncate(a.path("agent.log"), 1)) },
		"by a pipe": func(a *agentFiles) {
			a.must(errors.Join(os.Remove(a.path("agent.log")), unix.Mkfifo(a.path("agent.log"), 0o600)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgentFiles(t)
			a.begin()
			a.add("agent.log", "text\n")
			a.shows("agent.log", "text\n")
			replace(a)
			complaint := "agent.log: it was replaced or shortened while it was read"
			if name == "by a pipe" {
				complaint = "1 of the files of events: no regular file"
			}
			a.ends(map[string]string{"agent.log": "text\n"}, complaint)
		})
	}
}

// What is there is never replaced: the copies have a directory of their own.
func TestEventsReplaceNothing(t *testing.T) {
	t.Parallel()
	a := newAgentFiles(t)
	a.add("a.json", "{}")
	a.add("b.log", "text")
	for _, name := range []string{"a.json", "b.log"} {
		a.must(os.WriteFile(filepath.Join(a.dir, name), []byte("mine"), 0o600))
	}
	if _, err := newEvents(a.dir); err == nil || !strings.HasSuffix(err.Error(), " is not empty, and no file is ever replaced") {
		t.Errorf("error %v", err)
	}
	a.begin()
	a.ends(map[string]string{"a.json": "mine", "b.log": "mine"}, "a.json: linkat .a.json.draft a.json: file exists", "b.log: openat b.log: file exists")
}

// The directory of a runner that lives stays, and that of a dead one goes.
func TestLeftoversAreRemoved(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	alive, err := newPrivateDirIn(parent)
	must(err)
	dead, err := newPrivateDirIn(parent)
	must(err)
	must(dead.lock.Close())
	must(os.WriteFile(filepath.Join(dead.path(), "raw"), []byte(key), 0o600))
	elsewhere := t.TempDir()
	must(os.Symlink(elsewhere, filepath.Join(parent, privatePrefix+"link")))
	removeLeftovers(parent)
	for path, want := range map[string]bool{alive.path(): true, dead.path(): false, elsewhere: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if info, err := os.Stat(alive.path()); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
}
