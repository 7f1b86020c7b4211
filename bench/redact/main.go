// Command redact measures how fast the package redact is, beside what else could
// do its work. It needs nothing but the files it is given. See docs/performance.md.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// options are what a run is made of.
type options struct {
	values  []int         // of the sets that look for nothing but the values themselves
	secrets []int         // of those that look for all forms
	size    int           // of the synthetic log
	most    int           // of each real log
	hostile int           // of each hostile text
	rounds  int           // of each pass, interleaved
	least   time.Duration // of one round
}

func main() {
	o := options{values: []int{10, 120, 1_000, 100_000}, secrets: []int{10, 100}, size: 8 << 20, most: 8 << 20, hostile: 256 << 10, least: 50 * time.Millisecond}
	flag.IntVar(&o.rounds, "rounds", 7, "rounds of each pass, at least 5")
	logs := flag.String("logs", "", "the `directory` of real logs, as log-1 and so on")
	results := flag.String("results", "", "the JSON `file` that gets the figures, or nothing")
	quick := flag.Bool("quick", false, "only see that it runs: small numbers, one short round, no file")
	flag.Parse()
	if *logs == "" || o.rounds < 5 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *quick {
		o.values, o.secrets = []int{10, 1_000, 10_000}, []int{10}
		o.size, o.most, o.hostile, o.rounds, o.least = 1<<20, 128<<10, 64<<10, 1, time.Millisecond
		*results = ""
	}
	// One processor, so that a figure is not that of the collector on another.
	runtime.GOMAXPROCS(1)
	if err := run(o, *logs, *results); err != nil {
		fmt.Fprintln(os.Stderr, "bench/redact:", err)
		os.Exit(1)
	}
}

func run(o options, logs, results string) error {
	r := &report{Setup: describe(o)}
	collected, err := readLogs(logs, o.most)
	if err != nil {
		return err
	}
	if err := r.measure(o, map[string][]byte{syntheticLog: synthetic(o.size), realLog: collected}); err != nil {
		return err
	}
	r.print()
	if results == "" {
		return nil
	}
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(results, append(encoded, '\n'), 0o644)
}

// setup is what was measured, and where.
type setup struct {
	Date    string  `json:"date"`
	Go      string  `json:"go"`
	CPU     string  `json:"cpu"`
	Rounds  int     `json:"rounds"`
	Seconds float64 `json:"least_seconds_of_a_round"`
}

func describe(o options) setup {
	model := "unknown"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, after, _ := strings.Cut(string(info), "model name")
		line, _, _ := strings.Cut(after, "\n")
		model = strings.Trim(line, "\t :")
	}
	return setup{time.Now().UTC().Format(time.DateOnly), runtime.Version(), model, o.rounds, o.least.Seconds()}
}

// progress tells what is being done.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
