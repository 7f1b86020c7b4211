package redact

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/corpus.redacted.txt")

// corpusSecrets are the values of testdata/values.
func corpusSecrets(t testing.TB) []Secret {
	files, err := filepath.Glob("testdata/values/*")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	var secrets []Secret
	for _, file := range files {
		secrets = append(secrets, Secret{Name: filepath.Base(file), Version: 1, Value: readFile(t, file)})
	}
	return secrets
}

func readFile(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestCorpus redacts what real programs printed. What is left over is for a
// reader to judge, in testdata/corpus.redacted.txt.
func TestCorpus(t *testing.T) {
	t.Parallel()
	const golden = "testdata/corpus.redacted.txt"
	set := NewSet(corpusSecrets(t)...)
	var got strings.Builder
	for _, section := range strings.SplitAfter(readFile(t, "testdata/corpus.txt"), "\n\n== ") {
		redacted, found := run(set, section)
		got.WriteString(redacted)
		title, _, _ := strings.Cut(strings.TrimPrefix(section, "== "), "\n")
		name, _, _ := strings.Cut(title, " ")
		if !slices.ContainsFunc(found, func(f Finding) bool { return f.Name == name }) {
			t.Errorf("nothing is found in %s", title)
		}
		for step := 1; step < 100; step += 13 {
			var cuts []int
			for at := step; at < len(section); at += step {
				cuts = append(cuts, at)
			}
			if chunked, _ := run(set, section, cuts...); chunked != redacted {
				t.Errorf("%s cut every %d bytes\n gives %q\n whole %q", title, step, chunked, redacted)
			}
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got.String() != readFile(t, golden) {
		t.Errorf("not as in %s; -update writes it anew", golden)
	}
}
