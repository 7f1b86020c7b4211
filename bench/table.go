//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
)

func printMemory(results []memoryResult) {
	rows := [][]string{{"cache limit", "secrets read", "in cache", "resident before", "after", "peak"}}
	for _, m := range results {
		rows = append(rows, []string{mebibytes(m.CacheLimit), table.Thousands(m.Read), table.Thousands(m.CacheEntries), mebibytes(m.Before), mebibytes(m.After), mebibytes(m.Peak)})
	}
	table.Print(rows)
}

func printCommands(results []commandResult) {
	rows := [][]string{{"command", "runs", "first output p50 ms", "p99 ms", "end p50 ms", "p99 ms"}}
	for _, c := range results {
		rows = append(rows, []string{c.Command, strconv.Itoa(c.Runs), fmt.Sprintf("%.1f", c.OutputP50), fmt.Sprintf("%.1f", c.OutputP99), fmt.Sprintf("%.1f", c.EndP50), fmt.Sprintf("%.1f", c.EndP99)})
	}
	table.Print(rows)
}

func printStops(results []stopResult) {
	rows := [][]string{{"from an order to stop", "together", "orders", "p50 ms", "p99 ms", "max ms"}}
	for _, s := range results {
		rows = append(rows, []string{s.What, table.Thousands(s.Size), table.Thousands(s.Orders), fmt.Sprintf("%.1f", s.P50), fmt.Sprintf("%.1f", s.P99), fmt.Sprintf("%.1f", s.Max)})
	}
	table.Print(rows)
}

func printHeld(h heldResult) {
	n := int64(h.Executions)
	rows := [][]string{{fmt.Sprintf("%s live executions, started in %.0f s", table.Thousands(h.Executions), h.Seconds), "before", "after", "bytes each"}}
	for _, m := range []struct {
		what string
		footprint
	}{{"live heap of the plugin", h.Heap}, {"resident, plugin", h.Plugin}, {"resident, Vault", h.Vault}} {
		rows = append(rows, []string{m.what, mebibytes(m.Before), mebibytes(m.After), table.Thousands(int((m.After - m.Before) / n))})
	}
	table.Print(rows)
}

func printBurst(b burstResult) {
	rows := [][]string{{fmt.Sprintf("%s rotations in %.0f s: %.0f in one second", table.Thousands(b.Rotations), b.Seconds, float64(b.Rotations)/b.Seconds), "seconds", "reads", "p50 ms", "p99 ms", "max ms", "CPUs"}}
	for _, p := range []struct {
		what string
		phase
	}{{"env/ before", b.Before}, {"env/ meanwhile", b.During}, {"env/ after", b.After}} {
		rows = append(rows, []string{p.what, fmt.Sprintf("%.0f", p.Seconds), table.Thousands(p.Reads), fmt.Sprintf("%.2f", p.P50), fmt.Sprintf("%.2f", p.P99), fmt.Sprintf("%.1f", p.Max), fmt.Sprintf("%.2f", p.CPUs)})
	}
	table.Print(rows)
	rows = [][]string{{"resident", "before", "peak", "after"}}
	for _, m := range []struct {
		what string
		peakResult
	}{{"plugin", b.Plugin}, {"Vault", b.Vault}} {
		rows = append(rows, []string{m.what, mebibytes(m.Before), mebibytes(m.Peak), mebibytes(m.After)})
	}
	table.Print(rows)
}

func printWaiting(waiting []waitingResult, starts []startResult) {
	rows := [][]string{{"schedules of which none is due", "seconds", "CPU ms of the plugin", "resident"}}
	for _, w := range waiting {
		rows = append(rows, []string{table.Thousands(w.Schedules), fmt.Sprintf("%.0f", w.Seconds), fmt.Sprintf("%.0f", w.CPU), mebibytes(w.Resident)})
	}
	table.Print(rows)
	rows = [][]string{{"from a kill of the plugin to", "median s", "max s"}}
	for _, to := range []struct {
		what string
		took func(startResult) float64
	}{
		{"the first env/", func(s startResult) float64 { return s.Read }},
		{"the rotation of what came due meanwhile", func(s startResult) float64 { return s.Rotation }},
	} {
		var took []float64
		for _, s := range starts {
			took = append(took, to.took(s))
		}
		rows = append(rows, []string{to.what, fmt.Sprintf("%.2f", median(took)), fmt.Sprintf("%.2f", slices.Max(took))})
	}
	table.Print(rows)
}

// printAxis has a column for each size.
func printAxis(a axis) {
	rows := [][]string{{a.What}}
	for j, x := range a.Sizes[0].Operations {
		rows = append(rows, []string{x.Operation + ", per second (beside the first)"}, []string{x.Operation + ", CPU ms (of the plugin)"})
		for _, at := range a.Sizes {
			x := at.Operations[j]
			rows[1+2*j] = append(rows[1+2*j], fmt.Sprintf("%s (%.2f)", table.Thousands(int(x.PerSecond)), x.Ratio))
			rows[2+2*j] = append(rows[2+2*j], fmt.Sprintf("%.2f (%.2f)", x.CPU, x.PluginCPU))
		}
	}
	for _, row := range []struct {
		what string
		cell func(sizeResult) string
	}{
		{"seconds to load", func(r sizeResult) string { return fmt.Sprintf("%.0f", r.Load) }},
		{"seconds from a kill to env/", func(r sizeResult) string { return fmt.Sprintf("%.2f", r.Read) }},
		{"until all that runs is known", func(r sizeResult) string { return fmt.Sprintf("%.2f", r.Index) }},
		{"live heap of the plugin", func(r sizeResult) string { return mebibytes(r.Heap) }},
		{"resident, plugin", func(r sizeResult) string { return mebibytes(r.Plugin) }},
		{"resident, Vault", func(r sizeResult) string { return mebibytes(r.Vault) }},
	} {
		cells := []string{row.what}
		for _, at := range a.Sizes {
			cells = append(cells, row.cell(at))
		}
		rows = append(rows, cells)
	}
	for _, at := range a.Sizes {
		rows[0] = append(rows[0], table.Thousands(at.Size))
	}
	table.Print(rows)
}

func printOperations(s setup, results []result) {
	fmt.Printf("\nVault %s in dev mode, storage %s, file audit device on.\n", s.Vault, s.Storage)
	fmt.Printf("%d clients on the same %d CPUs (%s), %s.\n", s.Clients, s.CPUs, s.CPU, s.Go)
	fmt.Printf("Medians of %d interleaved rounds of %g s.\n", len(results[0].Rounds), s.Seconds)

	rows := [][]string{{"operation", "per second", "p50 ms", "p99 ms", "CPU ms"}}
	for _, x := range results {
		rows = append(rows, []string{x.Operation, table.Thousands(int(x.PerSecond)), fmt.Sprintf("%.2f", x.P50), fmt.Sprintf("%.2f", x.P99), fmt.Sprintf("%.3f", x.CPU)})
	}
	table.Print(rows)
}

func printComparisons(comparisons []comparison) {
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
	table.Print(rows)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
