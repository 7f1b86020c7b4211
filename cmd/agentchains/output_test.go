package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// password is long enough that Flush may let its first bytes go.
var password = "hunter2-" + strings.Repeat("correct-horse-battery-staple-", 3)

func passwordSet() *redact.Set {
	return redact.NewSet(redact.Secret{Name: "PASSWORD", Version: 2, Value: password, Plain: true})
}

// A prompt is not held up: at once when nothing can come of it, else after a pause.
func TestPrompt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := newStream(&out, passwordSet(), func(redact.Finding) {})
		shows := func(want string) {
			t.Helper()
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			same(t, "output", out.String(), "\x1b[1mname?\x1b[0m "+want)
		}
		write := func(text, want string) {
			t.Helper()
			if _, err := s.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			shows(want)
		}
		write("\x1b[1mname?\x1b[0m ", "")
		write("hu", "")
		time.Sleep(idle - 1)
		write("n", "")
		time.Sleep(idle - 1)
		shows("")
		time.Sleep(time.Nanosecond)
		shows("hun")
		write(password[3:]+" hunter2-correct", "hun[REDACTED:PASSWORD] ")
		time.Sleep(time.Minute)
		shows("hun[REDACTED:PASSWORD] ")
		if err := s.close(); err != nil {
			t.Error(err)
		}
		shows("hun[REDACTED:PASSWORD] hunter2-correct")
	})
}

// A secret that comes slowly, as it is typed, is hidden all the same, but for its
// first bytes; what is typed otherwise shows after the pause, also before a
// terminal sequence.
func TestTypewriter(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		key:                           "J6[REDACTED:KEY]",
		"J\x1b[K\x1b[12;6H":           "J\x1b[K\x1b[12;6H",
		"name\x1b[0m":                 "name\x1b[0m",
		"the \x1b[1mkey\x1b[0m" + key: "the \x1b[1mkey\x1b[0mJ6[REDACTED:KEY]",
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			s := newStream(&out, redact.NewSet(redact.Secret{Name: "KEY", Version: 1, Value: key}), func(redact.Finding) {})
			for i := range typed {
				if _, err := s.Write([]byte(typed[i : i+1])); err != nil {
					t.Fatal(err)
				}
				time.Sleep(idle)
				synctest.Wait()
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.timer.Stop()
			same(t, "output", out.String(), want)
		})
	}
}

// full takes so many bytes.
type full int

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// What the timer cannot write is the error of the next write, and of the end.
func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		room := full(1)
		s := newStream(&room, passwordSet(), func(redact.Finding) {})
		if _, err := s.Write([]byte("hu")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(idle)
		synctest.Wait()
		if _, err := s.Write([]byte("n")); !errors.Is(err, errFull) {
			t.Errorf("write: %v", err)
		}
		if err := s.close(); !errors.Is(err, errFull) {
			t.Errorf("close: %v", err)
		}
	})
}

func TestSetOfAnExecution(t *testing.T) {
	t.Parallel()
	env := variables(map[string]any{
		"env":      map[string]any{"KEY": "J6qPzt0vLw8xYd3k", "PIN": "1234", "DEBUG": "true", "REGION": "us-west-2", "OPEN": "8Kd02mQx7Lr5Tz1c", "NONE": "", "OLD": "v0Rn4Wb6Hs9Jf2Ga"},
		"versions": map[string]any{"KEY": "3"},
		"redact":   map[string]any{"KEY": "always", "PIN": "always", "DEBUG": "unless_common", "REGION": "unless_common", "OPEN": "never", "NONE": "always"},
	})
	set, gaps := newSet(env, false)
	if want := []string{"NONE is not redacted: it is empty"}; !slices.Equal(gaps, want) {
		t.Errorf("gaps are %q, want %q", gaps, want)
	}
	text, _ := set.String("J6qPzt0vLw8xYd3k 1234 true us-west-2 8Kd02mQx7Lr5Tz1c v0Rn4Wb6Hs9Jf2Ga")
	same(t, "text", text, "[REDACTED:KEY] [REDACTED:PIN] true us-west-2 8Kd02mQx7Lr5Tz1c [REDACTED:OLD]")
	_, gaps = newSet(env, true)
	if want := []string{"DEBUG is not redacted: it is a word", "NONE is not redacted: it is empty", "OPEN is not redacted: it is not meant to be", "REGION is not redacted: it is the name of a region"}; !slices.Equal(gaps, want) {
		t.Errorf("gaps are %q, want %q", gaps, want)
	}
}

// Large values must not hold up the start: they are looked for as they are.
func TestSetOfLargeValues(t *testing.T) {
	t.Parallel()
	large := key + strings.Repeat(" large", maxForms/6)
	set, gaps := newSet(map[string]variable{"LARGE": {value: large, redact: redactAlways}, "KEY": {value: password, redact: redactAlways}}, false)
	if want := []string{"LARGE is redacted only as it is, and not in other encodings or in pieces: the values are large"}; !slices.Equal(gaps, want) {
		t.Errorf("gaps are %q, want %q", gaps, want)
	}
	text, _ := set.String(large + " " + hex.EncodeToString([]byte(password)))
	same(t, "text", text, "[REDACTED:LARGE] [REDACTED:KEY]")
}
