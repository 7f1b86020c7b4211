package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// A status is the answer of status.
type status struct {
	Version   string      `json:"version"`
	StartedAt time.Time   `json:"started_at"`
	Expired   []expiry    `json:"expired"`
	Expiring  []expiry    `json:"expiring"`
	Due       []attention `json:"due"`
	Draining  []attention `json:"draining"`
	Overdue   []attention `json:"overdue"`
	Failed    []attention `json:"failed"`
	Orphaned  []attention `json:"orphaned"`
	Outbox    map[string]struct {
		Dead int `json:"dead"`
	} `json:"outbox"`
	Stoppable *struct {
		Watched   int `json:"watched"`
		Unwatched int `json:"unwatched"`
	} `json:"stoppable"` // null while the engine still reads what runs
	Unacknowledged []unacknowledged  `json:"unacknowledged"`
	Counters       map[string]uint64 `json:"counters"`
}

// An attention is an entry whose rotation wants some, and why.
type attention struct {
	Path       string    `json:"path"`
	DueAt      time.Time `json:"due_at"`
	StartedAt  time.Time `json:"started_at"`
	Version    int       `json:"version"`
	Executions int       `json:"executions"`
	LastError  string    `json:"last_error"`
}

// An unacknowledged is an incident that waits for executions.
type unacknowledged struct {
	ID         string `json:"incident_id"`
	Executions int    `json:"executions"`
}

type expiry struct {
	Path      string    `json:"path"`
	ExpiresAt time.Time `json:"expires_at"`
}

func newStatus(mount *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what needs attention, and how much is read",
		Long:  strings.TrimSpace(statusHelp),
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := newClient()
			if err != nil {
				return err
			}
			data, err := readVault(cmd.Context(), client, *mount, "status")
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var s status
			if err := json.Unmarshal(data, &s); err != nil {
				return fmt.Errorf("status: decode: %w", err)
			}
			return s.print(cmd.OutOrStdout(), time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the engine's answer as JSON")
	return cmd
}

const statusHelp = `
Show the secrets and groups that have expired or expire within 7 days, and the
rotations that are due, wait for executions, fail or need a person, at most 100
of each; how many executions could be stopped now, because somebody watches them;
incidents that wait for executions, and notifications that were given up. Counts
are of what was read since the engine was started on this node. The token needs
read on status.

Exit codes: 0 the status was read, 2 it was not.
`

func (s *status) print(w io.Writer, now time.Time) error {
	c := s.Counters
	t := newTable(w)
	printRow(t, "Engine", fmt.Sprintf("%s, started %s (%s ago)", s.Version, s.StartedAt.Format(time.RFC3339), now.Sub(s.StartedAt).Round(time.Second)))
	printRow(t, "Read", fmt.Sprintf("env %d, creds %d, reveal %d, refused %d", c["env_reads"], c["creds_reads"], c["reveal_reads"], c["refused_reads"]))
	printRow(t, "Cache", fmt.Sprintf("%d entries, %s of %s, %d hits, %d misses", c["cache_entries"], bytesString(c["cache_bytes"]), bytesString(c["cache_limit_bytes"]), c["cache_hits"], c["cache_misses"]))
	printRow(t, "Expired", strconv.Itoa(len(s.Expired)))
	printExpiries(t, s.Expired)
	printRow(t, "Expiring", strconv.Itoa(len(s.Expiring)))
	printExpiries(t, s.Expiring)
	for _, list := range []struct {
		name  string
		items []attention
		why   func(attention) string
	}{
		{"Due", s.Due, func(a attention) string { return "since " + a.DueAt.Format(time.RFC3339) }},
		{"Draining", s.Draining, func(a attention) string { return fmt.Sprintf("%d executions hold the old version", a.Executions) }},
		{"Overdue", s.Overdue, func(a attention) string {
			return fmt.Sprintf("%d executions hold version %d, which was destroyed", a.Executions, a.Version)
		}},
		{"Failed", s.Failed, func(a attention) string { return a.LastError }},
		{"Orphaned", s.Orphaned, func(a attention) string { return a.LastError }},
	} {
		printRow(t, list.name, strconv.Itoa(len(list.items)))
		for _, item := range list.items {
			printRow(t, "", item.Path+"  "+list.why(item))
		}
	}
	stoppable := "not known yet: the engine is still reading what runs"
	if x := s.Stoppable; x != nil {
		stoppable = fmt.Sprintf("%d of %d executions", x.Watched, x.Watched+x.Unwatched)
	}
	printRow(t, "Stoppable", stoppable)
	printRow(t, "Waiting", strconv.Itoa(len(s.Unacknowledged)))
	for _, u := range s.Unacknowledged {
		printRow(t, "", fmt.Sprintf("incident %s  %d executions have not acknowledged", u.ID, u.Executions))
	}
	printRow(t, "Unsent", s.deadLetters())
	return t.Flush()
}

// deadLetters says how many notifications were given up, and whose they were.
func (s *status) deadLetters() string {
	total, of := 0, []string{}
	for _, name := range slices.Sorted(maps.Keys(s.Outbox)) {
		if dead := s.Outbox[name].Dead; dead > 0 {
			total += dead
			of = append(of, fmt.Sprintf("%s %d", name, dead))
		}
	}
	if total == 0 {
		return "0"
	}
	return fmt.Sprintf("%d dead letters: %s", total, strings.Join(of, ", "))
}

func printExpiries(t *tabwriter.Writer, list []expiry) {
	for _, e := range list {
		printRow(t, "", e.ExpiresAt.Format(time.RFC3339)+"  "+e.Path)
	}
}

// bytesString returns a number of bytes in the largest unit that leaves one.
func bytesString(n uint64) string {
	for _, unit := range []string{"bytes", "KiB", "MiB"} {
		if n < 10<<10 {
			return fmt.Sprintf("%d %s", n, unit)
		}
		n >>= 10
	}
	return fmt.Sprintf("%d GiB", n)
}
