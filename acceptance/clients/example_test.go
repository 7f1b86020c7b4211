package clients

import (
	"crypto/rand"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const examples = "../../examples"

// The pod of the examples starts its command with the environment of the agent,
// whatever is in a value.
func TestExamplePod(t *testing.T) {
	w := newWorker(t, "deploy-pipeline", "Deployer")
	w.writeExamples()
	w.give("DATABASE_URL", "it's\n$HOME `x` \"\\\n"+rand.Text(), "secrets", data{})
	env := w.read("env/"+w.agent, nil)
	n := w.schedule(examplePod(t))
	n.initialise()

	must(t, os.WriteFile(n.path("agent"), []byte("#!/bin/sh\nexec /usr/bin/env -0\n"), 0o700))
	c := containerOf(t, n.pod, "agent")
	cmd := n.command(c, c.Command...)
	cmd.Env = []string{"PATH=" + n.root}
	out, err := cmd.Output()
	must(t, err)
	given := strings.Split(string(out), "\x00")
	for name, value := range env {
		w.known = append(w.known, value.(string))
		if !slices.Contains(given, name+"="+value.(string)) {
			t.Errorf("the command is not given %s as it is", name)
		}
	}
}

// writeExamples writes each example file to the path at which it is.
func (w *worker) writeExamples() {
	w.Helper()
	for _, door := range []string{"scopes", "secrets", "groups"} {
		must(w.T, filepath.WalkDir(filepath.Join(examples, door), func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			path, err := filepath.Rel(examples, strings.TrimSuffix(file, ".json"))
			if err != nil {
				return err
			}
			body := strings.ReplaceAll(string(text), "{random}", rand.Text())
			_, err = vault.client.Logical().WriteBytesWithContext(w.Context(), w.mount+"/"+path, []byte(body))
			return err
		}))
	}
}
