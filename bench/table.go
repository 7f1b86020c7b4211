//go:build linux

package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// print writes the report as tables.
func (r *report) print(to io.Writer) {
	printSetup(to, r.Setup, r.Reads)
	printComparisons(to, r.Comparisons)

	rows := [][]string{{"cache limit", "secrets read", "in cache", "resident before", "after", "peak"}}
	for _, m := range r.Memory {
		rows = append(rows, []string{mebibytes(m.CacheLimit), thousands(m.Read), thousands(m.CacheEntries), mebibytes(m.Before), mebibytes(m.After), mebibytes(m.Peak)})
	}
	printTable(to, rows)
}

func (r *executionsReport) print(to io.Writer) {
	printSetup(to, r.Setup, r.Operations)
	printComparisons(to, r.Comparisons)

	rows := [][]string{{"command", "runs", "first output p50 ms", "p99 ms", "end p50 ms", "p99 ms"}}
	for _, c := range r.Commands {
		rows = append(rows, []string{c.Command, strconv.Itoa(c.Runs), fmt.Sprintf("%.1f", c.OutputP50), fmt.Sprintf("%.1f", c.OutputP99), fmt.Sprintf("%.1f", c.EndP50), fmt.Sprintf("%.1f", c.EndP99)})
	}
	printTable(to, rows)

	rows = [][]string{{"from an order to stop", "together", "orders", "p50 ms", "p99 ms", "max ms"}}
	for _, s := range r.Stops {
		rows = append(rows, []string{s.What, thousands(s.Size), thousands(s.Orders), fmt.Sprintf("%.1f", s.P50), fmt.Sprintf("%.1f", s.P99), fmt.Sprintf("%.1f", s.Max)})
	}
	printTable(to, rows)

	h := r.Held
	n := int64(h.Executions)
	rows = [][]string{{fmt.Sprintf("%s live executions, started in %.0f s", thousands(h.Executions), h.Seconds), "before", "after", "bytes each"}}
	for _, m := range []struct {
		what string
		footprint
	}{{"live heap of the plugin", h.Heap}, {"resident, plugin", h.Plugin}, {"resident, Vault", h.Vault}} {
		rows = append(rows, []string{m.what, mebibytes(m.Before), mebibytes(m.After), thousands(int((m.After - m.Before) / n))})
	}
	printTable(to, rows)
}

func printSetup(to io.Writer, s setup, results []result) {
	fmt.Fprintf(to, "\nVault %s in dev mode, storage %s, file audit device on.\n", s.Vault, s.Storage)
	fmt.Fprintf(to, "%d clients on the same %d CPUs (%s), %s.\n", s.Clients, s.CPUs, s.CPU, s.Go)
	fmt.Fprintf(to, "Medians of %d interleaved rounds of %g s.\n", len(results[0].Rounds), s.Seconds)

	rows := [][]string{{"operation", "per second", "p50 ms", "p99 ms", "CPU ms"}}
	for _, x := range results {
		rows = append(rows, []string{x.Operation, thousands(int(x.PerSecond)), fmt.Sprintf("%.2f", x.P50), fmt.Sprintf("%.2f", x.P99), fmt.Sprintf("%.3f", x.CPU)})
	}
	printTable(to, rows)
}

func printComparisons(to io.Writer, comparisons []comparison) {
	rows := [][]string{{"comparison", "value", "bar", ""}}
	for _, c := range comparisons {
		verdict := "missed"
		switch {
		case c.Bar == "":
			verdict = ""
		case c.Met:
			verdict = "met"
		}
		rows = append(rows, []string{c.What, fmt.Sprintf("%.2f", c.Value), c.Bar, verdict})
	}
	printTable(to, rows)
}

// printTable writes rows with the first column to the left and the others to the right.
func printTable(to io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	fmt.Fprintln(to)
	for _, row := range rows {
		line := fmt.Sprintf("%-*s", width[0], row[0])
		for i, cell := range row[1:] {
			line += fmt.Sprintf("   %*s", width[i+1], cell)
		}
		fmt.Fprintln(to, strings.TrimRight(line, " "))
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// thousands writes n with a comma between each three digits.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
