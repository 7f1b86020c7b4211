package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// print writes the report as tables.
func (r *report) print(to io.Writer) {
	s := r.Setup
	fmt.Fprintf(to, "\nVault %s in dev mode, storage %s, file audit device on.\n", s.Vault, s.Storage)
	fmt.Fprintf(to, "%d clients on the same %d CPUs (%s), %s.\n", s.Clients, s.CPUs, s.CPU, s.Go)
	fmt.Fprintf(to, "Medians of %d interleaved rounds of %g s; each operation gives all 20 variables.\n", len(r.Reads[0].Rounds), s.Seconds)

	rows := [][]string{{"operation", "per second", "p50 ms", "p99 ms", "CPU ms"}}
	for _, x := range r.Reads {
		rows = append(rows, []string{x.Read, thousands(int(x.PerSecond)), fmt.Sprintf("%.2f", x.P50), fmt.Sprintf("%.2f", x.P99), fmt.Sprintf("%.3f", x.CPU)})
	}
	printTable(to, rows)

	rows = [][]string{{"comparison", "value", "bar", ""}}
	for _, c := range r.Comparisons {
		verdict := "missed"
		if c.Met {
			verdict = "met"
		}
		rows = append(rows, []string{c.What, fmt.Sprintf("%.2f", c.Value), c.Bar, verdict})
	}
	printTable(to, rows)

	rows = [][]string{{"cache limit", "secrets read", "in cache", "resident before", "after", "peak"}}
	for _, m := range r.Memory {
		rows = append(rows, []string{mebibytes(m.CacheLimit), thousands(m.Read), thousands(m.CacheEntries), mebibytes(m.Before), mebibytes(m.After), mebibytes(m.Peak)})
	}
	printTable(to, rows)
}

// printTable writes rows with the first column to the left and the others to the right.
func printTable(to io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
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
