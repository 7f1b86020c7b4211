package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// testdata/audit.jsonl was captured from a Vault. Among the reads there are one
// of a variable named ERROR, one refused before and one after the mount was
// tuned to show errors, and requests with a wrong token and without one.
const auditFile = "testdata/audit.jsonl"

func TestAudit(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := execute("", "audit", auditFile)
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, error %q, want 0 and none", code, stderr)
	}
	same(t, "output", stdout, `TIME                  WHO               READ                                      OUTCOME
2026-11-22T01:56:25Z  approle/analyzer  env/prod/deploy-pipeline/CodeAnalyzer     ok
2026-11-22T01:56:25Z  approle/analyzer  creds/prod/deploy-pipeline/CodeAnalyzer   ok
2026-11-22T01:56:25Z  approle/analyzer  env/prod/deploy-pipeline/Deployer         denied
2026-11-22T01:56:25Z  token-ci          env/prod/billing/dunning/Reminder         ok
2026-11-22T01:56:25Z  token             env/dev/deploy-pipeline/Deployer          refused: the audit log holds a hash of the reason
2026-11-22T01:56:25Z  token             env/dev/deploy-pipeline/Deployer          refused: DATABASE_URL is in no scope of environment dev; DEPLOY_TOKEN...
2026-11-22T01:56:25Z  token             env/prod/marketing/newsletter/Copywriter  refused: STRIPE_API_KEY is not in agent or chain scope, and project b...
2026-11-22T01:56:25Z  token             env/prod/deploy-pipeline/Nobody           refused: chain deploy-pipeline has no agent Nobody
2026-11-22T01:56:25Z  token             env/nowhere/deploy-pipeline/Deployer      refused: the environment in the path is not one of dev, staging, prod...
2026-11-22T01:56:25Z  -                 env/prod/deploy-pipeline/Deployer         denied
2026-11-22T01:56:25Z  -                 env/prod/deploy-pipeline/Deployer         denied
`)
}

func TestAuditFilters(t *testing.T) {
	t.Parallel()
	tests := map[string]int{
		"":                                  11,
		"--chain deploy-pipeline":           9,
		"--chain billing/dunning":           1,
		"--chain billing":                   0,
		"--agent Deployer":                  6,
		"--env dev":                         2,
		"--env prod --agent Deployer":       3,
		"--since 2026-11-22T01:56:25Z":      11,
		"--since 2026-11-22T02:56:26.1Z":    0,
		"--since 2026-11-22T03:56:25+02:00": 11,
		"--mount /agentchains/":             11,
		"--mount agent":                     0,
	}
	for args, want := range tests {
		code, stdout, stderr := execute("", append([]string{"audit", auditFile, "--json"}, strings.Fields(args)...)...)
		if got := strings.Count(stdout, "\n"); code != 0 || stderr != "" || got != want {
			t.Errorf("%q: exit code %d, error %q, %d reads, want %d", args, code, stderr, got, want)
		}
	}
}

func TestAuditJSON(t *testing.T) {
	t.Parallel()
	_, stdout, _ := execute(captured(t, "audit.jsonl"), "audit", "-", "--json", "--chain", "deploy-pipeline", "--agent", "Nobody")
	var read auditRead
	if err := json.Unmarshal([]byte(stdout), &read); err != nil {
		t.Fatal(err)
	}
	if read.RequestID == "" || read.Time.IsZero() {
		t.Errorf("no time or no id of the request in %s", stdout)
	}
	read.RequestID, read.Time = "", time.Time{}
	want := auditRead{
		Who: "token", Operation: "env", Environment: "prod", Chain: "deploy-pipeline", Agent: "Nobody",
		Outcome: refused, Reason: "chain deploy-pipeline has no agent Nobody", RemoteAddress: "127.0.0.1",
	}
	if read != want {
		t.Errorf("%+v, want %+v", read, want)
	}
}

// The last line may be half written, and others may come from another program.
func TestAuditSkipsWhatIsNoRecord(t *testing.T) {
	t.Parallel()
	file := captured(t, "audit.jsonl")
	tests := map[string]struct {
		file           string
		reads, skipped int
	}{
		"empty":                        {"", 0, 0},
		"empty lines":                  {"\n\r\n" + file + "\n\n", 11, 0},
		"no newline":                   {strings.TrimSuffix(file, "\n"), 11, 0},
		"torn":                         {file[:len(file)-20], 10, 1},
		"other text":                   {"Nov 22 vault: sealed\n" + file + "{}\n[]\n\"x\"\n", 11, 4},
		"a line too long":              {strings.Repeat("x", maxAuditLine+1) + "\n" + file, 11, 1},
		"no environment":               {strings.ReplaceAll(file, "agentchains/env/dev/", "agentchains/env/all/"), 9, 0},
		"control characters in a path": {strings.ReplaceAll(file, "/CodeAnalyzer", `/Code\u001b[2J`), 9, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reads := 0
			skipped, err := readAudit(strings.NewReader(test.file), auditFilter{mount: "agentchains"}, func(*auditRead) error {
				reads++
				return nil
			})
			if err != nil || reads != test.reads || skipped != test.skipped {
				t.Errorf("%d reads, %d skipped, error %v, want %d and %d", reads, skipped, err, test.reads, test.skipped)
			}
		})
	}
	_, _, stderr := execute("no record\n", "audit", "-")
	same(t, "error", stderr, "agentchains: skipped lines that are no audit records: 1\n")
}

func TestAuditPassesErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	file := captured(t, "audit.jsonl")
	_, err := readAudit(io.MultiReader(strings.NewReader(file), readFunc(func([]byte) (int, error) { return 0, broken })), auditFilter{mount: "agentchains"}, func(*auditRead) error { return nil })
	if !errors.Is(err, broken) {
		t.Errorf("error %v of the reader, want %v", err, broken)
	}
	_, err = readAudit(strings.NewReader(file), auditFilter{mount: "agentchains"}, func(*auditRead) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("error %v of emit, want %v", err, broken)
	}
}

// Rows are printed in blocks, so a table does not wait for the end of the file.
func TestAuditPrintsManyRows(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	first := strings.NewReader(strings.Repeat(captured(t, "audit.jsonl"), 50))
	atEnd := 0
	second := readFunc(func([]byte) (int, error) {
		atEnd = strings.Count(out.String(), "\n")
		return 0, io.EOF
	})
	if _, err := printReads(&out, io.MultiReader(first, second), auditFilter{mount: "agentchains"}); err != nil {
		t.Fatal(err)
	}
	if rows := strings.Count(out.String(), "\n"); atEnd != 1+500 || rows != 1+50*11 || strings.Count(out.String(), "TIME") != 1 {
		t.Errorf("%d rows before the end and %d after, want 501 and 551 with one header", atEnd, rows)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// A read is printed before the next line is there, as in tail -f | audit --json -.
func TestAuditStreams(t *testing.T) {
	t.Parallel()
	in, write := io.Pipe()
	read, out := io.Pipe()
	go func() {
		_, err := printReadsJSON(out, in, auditFilter{mount: "agentchains"})
		out.CloseWithError(err)
	}()
	bound := time.AfterFunc(10*time.Second, func() {
		in.CloseWithError(errors.New("nothing was printed in time"))
		read.Close()
	})
	defer bound.Stop()
	printed := bufio.NewReader(read)
	for line := range strings.Lines(captured(t, "audit.jsonl")) {
		if _, err := io.WriteString(write, line); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(line, `"type":"response"`) || !strings.Contains(line, `"path":"agentchains/env/prod/`) || !strings.Contains(line, `"operation":"read"`) {
			continue
		}
		if _, err := printed.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		break
	}
	write.Close()
	if rest, err := io.ReadAll(printed); err != nil || len(rest) > 0 {
		t.Errorf("%d bytes more, error %v, want none", len(rest), err)
	}
}

// Not parallel: it counts what the process allocates.
func TestAuditMemoryIsBounded(t *testing.T) {
	const size = 64 << 20
	line := io.LimitReader(readFunc(func(p []byte) (int, error) {
		for i := range p {
			p[i] = 'x'
		}
		return len(p), nil
	}), size)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	skipped, err := readAudit(line, auditFilter{mount: "agentchains"}, nil)
	runtime.ReadMemStats(&after)
	if err != nil || skipped != 1 {
		t.Errorf("%d skipped, error %v, want 1", skipped, err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > size/2 {
		t.Errorf("a line of %d bytes took %d bytes of memory", size, allocated)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	same(t, "text", printable("a\tb\x1b[2J\nü\u202e"), "a?b?[2J?ü?")
}

// TestAuditExecution shows the labels of an execution, from a log in which they
// are in clear.
func TestAuditExecution(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := execute("", "audit", "testdata/execution.jsonl")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, error %q, want 0 and none", code, stderr)
	}
	same(t, "output", stdout, `TIME                  WHO    READ                 OUTCOME
2026-11-22T03:07:15Z  token  executions/prod/c/A  ok
`)
	_, stdout, _ = execute("", "audit", "--json", "testdata/execution.jsonl")
	for _, want := range []string{`"workspace":"docker:ci-7","run":"42","user":"ann"`, `"execution_id":"d6ec1adeb141e9b9f5394dd47359225b"`} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %s in %s", want, stdout)
		}
	}
}
