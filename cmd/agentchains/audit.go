package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

func newAudit(mount *string) *cobra.Command {
	var filter auditFilter
	var since string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "audit FILE|-",
		Short:   "Show from an audit log who read which agent's environment",
		Long:    strings.TrimSpace(auditHelp),
		Example: "  agentchains audit --chain deploy-pipeline --since 24h /var/log/vault/audit.log",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("audit needs one FILE, or - for standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			filter.mount = *mount
			var err error
			if filter.since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer file.Close()
				in = file
			}
			print := printReads
			if asJSON {
				print = printReadsJSON
			}
			skipped, err := print(cmd.OutOrStdout(), in, filter)
			if err != nil {
				return err
			}
			if skipped > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "agentchains: skipped lines that are no audit records: %d\n", skipped)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&filter.environment, "env", "", "only this environment")
	cmd.Flags().StringVar(&filter.chain, "chain", "", "only this chain")
	cmd.Flags().StringVar(&filter.agent, "agent", "", "only this agent")
	cmd.Flags().StringVar(&since, "since", "", "only from this time on: 2026-01-02T15:04:05Z, or how long ago, such as 24h")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each read as one line of JSON")
	return cmd
}

const auditHelp = `
Show from the JSON lines of a Vault audit device who got which agent's
environment, through env/, creds/ or executions/, when, and with what outcome:
ok, denied by Vault's policies, or refused by the engine. FILE may be - for
standard input. --json also shows the labels and the id of an execution.

The file is read as a stream and may be of any size. Rows are aligned, and
printed, in blocks of 500; with --json every read is printed at once.

Vault logs a hash of labels, ids and of why the engine refused bad input, until
the mount is tuned: see the README, Install.

Exit codes: 0 the log was read, 2 it was not.
`

// parseSince reads a time, or how long ago it was.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, errors.New("--since must be a time such as 2026-01-02T15:04:05Z, or how long ago, such as 24h")
	}
	return at, nil
}

func printReadsJSON(w io.Writer, r io.Reader, filter auditFilter) (skipped int, err error) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return readAudit(r, filter, func(read *auditRead) error { return encoder.Encode(read) })
}

func printReads(w io.Writer, r io.Reader, filter auditFilter) (skipped int, err error) {
	const block = 500
	t := newTable(w)
	printRow(t, "TIME", "WHO", "READ", "OUTCOME")
	rows := 0
	skipped, err = readAudit(r, filter, func(read *auditRead) error {
		printRow(t, read.Time.UTC().Format(time.RFC3339), printable(read.Who), read.path(), read.result())
		if rows++; rows%block == 0 {
			return t.Flush()
		}
		return nil
	})
	return skipped, errors.Join(err, t.Flush())
}

// result returns the outcome, with the first words of why the engine refused.
func (r *auditRead) result() string {
	const most = 60
	result := string(r.Outcome)
	if r.Outcome != refused {
		return result
	}
	reason := []rune(printable(r.Reason))
	if len(reason) > most {
		return result + ": " + string(reason[:most]) + "..."
	}
	return result + ": " + string(reason)
}

// printable replaces what would move a terminal's cursor or a table's column:
// what an audit log repeats, somebody may have sent for that.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
