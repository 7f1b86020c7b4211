package main

import (
	"bytes"
	"debug/buildinfo"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestModules compares what is named with what "go version -m" prints, for both
// binaries.
func TestModules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(args ...string) []byte {
		t.Helper()
		out, err := exec.Command("go", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %s\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	run("build", "-trimpath", "-o", dir, "../../cmd/...")
	for _, name := range []string{"agentchains", "vault-plugin-secrets-agentchains"} {
		binary := filepath.Join(dir, name)
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, c := range describe(info).Components[1:] {
			got = append(got, c.Name+" "+c.Version+" "+c.Properties[0].Value)
		}
		for line := range bytes.Lines(run("version", "-m", binary)) {
			if f := strings.Fields(string(line)); f[0] == "dep" {
				want = append(want, strings.Join(f[1:], " "))
			}
		}
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("the modules of %s are\n%q, want\n%q", name, got, want)
		}
	}
}
