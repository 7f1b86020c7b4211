//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is the outcome of the reads, as it is written to the JSON file.
type report struct {
	Setup       setup          `json:"setup"`
	Reads       []result       `json:"reads"`
	Comparisons []comparison   `json:"comparisons"`
	Starts      []float64      `json:"start_seconds"` // each from the kill to the first answer
	Memory      []memoryResult `json:"memory"`
}

// setup is what was measured, and where.
type setup struct {
	Date    string  `json:"date"`
	Go      string  `json:"go"`
	CPU     string  `json:"cpu"`
	CPUs    int     `json:"cpus"`
	Vault   string  `json:"vault"`
	Storage string  `json:"storage"`
	Clients int     `json:"clients"`
	Seconds float64 `json:"round_seconds"`
}

// result is an operation with its rounds, and the median of each figure.
type result struct {
	Operation string `json:"operation"`
	round
	Rounds []round `json:"rounds"`
}

// round is what one round of an operation gave.
type round struct {
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	CPU       float64 `json:"cpu_ms"`        // of Vault and its plugins, for one operation
	PluginCPU float64 `json:"plugin_cpu_ms"` // what the plugins have of that
}

// comparison is a ratio, or another figure, beside its bar, if it has one.
type comparison struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Bar   string  `json:"bar"`
	Met   bool    `json:"met"`
}

// memoryResult is the memory of the engine's process around the reads of many
// secrets, in bytes, and what its cache then said of itself.
type memoryResult struct {
	CacheLimit   int64 `json:"cache_limit_bytes"`
	CacheBytes   int64 `json:"cache_bytes"`
	CacheEntries int   `json:"cache_entries"`
	Read         int   `json:"secrets_read"`
	Before       int64 `json:"resident_before"`
	After        int64 `json:"resident_after"`
	Peak         int64 `json:"resident_peak"`
}

func (v *vault) describe(ctx context.Context, o options) (setup, error) {
	var health struct{ Version string }
	if err := v.get(ctx, "sys/health", &health); err != nil {
		return setup{}, err
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return setup{}, err
	}
	_, model, _ := bytes.Cut(info, []byte("model name"))
	model, _, _ = bytes.Cut(model, []byte("\n"))
	return setup{
		Date:    time.Now().UTC().Format(time.DateOnly),
		Go:      runtime.Version(),
		CPU:     strings.Trim(string(model), "\t :"),
		CPUs:    runtime.NumCPU(),
		Vault:   health.Version,
		Storage: o.storage,
		Clients: o.clients,
		Seconds: o.duration.Seconds(),
	}, nil
}

// summarized sets the median of each figure over the rounds.
func summarized(results []result) []result {
	for i := range results {
		r := &results[i]
		r.PerSecond = r.median(func(x round) float64 { return x.PerSecond })
		r.P50 = r.median(func(x round) float64 { return x.P50 })
		r.P99 = r.median(func(x round) float64 { return x.P99 })
		r.CPU = r.median(func(x round) float64 { return x.CPU })
		r.PluginCPU = r.median(func(x round) float64 { return x.PluginCPU })
	}
	return results
}

func (r *result) median(figure func(round) float64) float64 {
	figures := make([]float64, len(r.Rounds))
	for i := range r.Rounds {
		figures[i] = figure(r.Rounds[i])
	}
	return median(figures)
}

// median of an even number of figures is the mean of the two in the middle.
func median(figures []float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// compare returns the ratio of two operations that took turns: the median of the
// ratios in each round, because both met the same conditions there. With most as
// 0 there is no upper bar, and with both as 0 none at all.
func compare(a, b *result, least, most float64) comparison {
	ratios := make([]float64, len(a.Rounds))
	for i := range a.Rounds {
		ratios[i] = a.Rounds[i].PerSecond / b.Rounds[i].PerSecond
	}
	c := comparison{What: a.Operation + " vs " + b.Operation, Value: median(ratios)}
	c.Met = c.Value >= least && (most == 0 || c.Value <= most)
	switch {
	case most != 0:
		c.Bar = fmt.Sprintf("%.2f to %.2f", least, most)
	case least != 0:
		c.Bar = fmt.Sprintf("at least %.2f", least)
	}
	return c
}

// below returns a figure beside the bar that it must be below.
func below(what string, value, bar float64) comparison {
	return comparison{what, value, fmt.Sprintf("below %g", bar), value < bar}
}

// write writes a report as JSON.
func write(file string, report any) error {
	encoded, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(encoded, '\n'), 0o644)
}
