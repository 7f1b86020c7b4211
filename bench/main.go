//go:build linux

// Command bench measures the engine in a real Vault, beside the least that an
// external plugin can be and beside what Vault does itself. See docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// options are what a run is made of.
type options struct {
	vault    string        // the vault binary
	plugins  string        // the directory of the engine, floor and loader
	storage  string        // raft or inmem
	results  string        // the directory of the JSON files, or nothing
	part     string        // the name of the one part to measure, or nothing
	clients  int           // that work at the same time
	rounds   int           // of each operation, interleaved
	duration time.Duration // of a round
	sizes    []int         // of the mounts, in secrets
	caches   []int64       // sizes of the cache, in bytes
	reveals  int           // distinct secrets read to fill a cache
	starts   int           // of the plugin
	runs     int           // of each command
	watchers []group       // simulated
	runners  []group       // real
	held     int           // executions that live at the same time
	bursts   int           // of rotations
	due      int           // rotations at one moment
	rate     int           // of reads in one second, meanwhile
	idle     time.Duration // of reads before and after, and of nothing at all
	waiting  int           // schedules of which none is due
	samples  int           // of each of two things of which the time is compared
	secrets  int           // the most in a mount
	distinct int           // secrets read to fill the cache of each
	loading  time.Duration // for all Vaults of growing size
}

// group says how many do something together, and how many times.
type group struct{ size, times int }

// part is one part of the benchmark, with a Vault of its own.
type part struct {
	name    string
	file    string                                              // of the results
	measure func(context.Context, *vault, options) (any, error) // prints what it measured, and returns it for the file
}

var parts = []part{
	{"reads", "results.json", measureReads},
	{"executions", "executions.json", measureExecutions},
	{"rotations", "rotations.json", measureRotations},
	{"timing", "timing.json", measureTiming},
	{"scale", "scale.json", measureScale},
}

func main() {
	o := options{
		sizes:   []int{1_000, 100_000, 1_000_000},
		caches:  []int64{16 << 20, 64 << 20},
		reveals: 150_000,
		starts:  5,

		runs:     100,
		watchers: []group{{1, 100}, {100, 5}, {1000, 3}},
		runners:  []group{{1, 30}, {20, 5}},

		bursts: 3,
		idle:   time.Minute,

		distinct: 50_000,
	}
	flag.StringVar(&o.vault, "vault", "", "the vault `binary`")
	flag.StringVar(&o.plugins, "plugins", "", "the `directory` of the built plugins")
	flag.StringVar(&o.storage, "storage", "raft", "Vault's storage: raft or inmem")
	flag.StringVar(&o.results, "results", "bench", "the `directory` that gets the figures as JSON")
	flag.IntVar(&o.held, "held", 100_000, "executions that live at the same time")
	flag.IntVar(&o.bursts, "bursts", o.bursts, "bursts of rotations")
	flag.StringVar(&o.part, "only", "", "the one `part` to measure: reads, executions, rotations, timing, scale or redact")
	flag.IntVar(&o.due, "due", 10_000, "rotations that are due at one moment")
	flag.IntVar(&o.waiting, "waiting", 100_000, "schedules of which none is due")
	flag.IntVar(&o.secrets, "secrets", 1_000_000, "the most secrets in the mounts of growing size")
	flag.DurationVar(&o.loading, "loading", 15*time.Minute, "time to load the Vaults of growing size; those that take longer are left out")
	flag.IntVar(&o.samples, "samples", 20_000, "samples of each of two things of which the time is compared")
	flag.IntVar(&o.rate, "rate", 200, "reads in one second while secrets are rotated")
	flag.IntVar(&o.clients, "clients", 16, "clients that work at the same time")
	flag.IntVar(&o.rounds, "rounds", 15, "rounds of each operation")
	flag.DurationVar(&o.duration, "duration", time.Second, "length of a round")
	quick := flag.Bool("quick", false, "only see that the benchmark runs: small numbers, one short round, no file")
	flag.Parse()
	if o.clients < 1 || o.rounds < 1 || o.duration <= 0 ||
		o.held < 1 || o.bursts < 1 || o.due < 1 || o.waiting < o.starts || o.rate < 1 || o.samples < 2 || o.secrets < 1000 || o.loading <= 0 || o.storage != "inmem" && o.storage != "raft" ||
		o.part != "" && !slices.ContainsFunc(parts, func(p part) bool { return p.name == o.part }) {
		flag.Usage()
		os.Exit(2)
	}
	if *quick {
		o.rounds, o.duration, o.starts = 1, 200*time.Millisecond, 1
		o.sizes, o.caches, o.reveals = []int{100, 500, 2_000}, []int64{1 << 20, 2 << 20}, 2_000
		o.runs, o.held = 2, 500
		o.watchers, o.runners = []group{{1, 2}, {10, 1}}, []group{{1, 1}, {2, 1}}
		o.bursts, o.due, o.waiting, o.idle, o.samples = 1, 100, 500, time.Second, 100
		o.secrets, o.distinct = 1_000, 500
		o.results = ""
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	for _, p := range parts {
		if o.part != "" && o.part != p.name {
			continue
		}
		r, err := p.run(ctx, o)
		// What was measured before it was stopped is kept.
		if r != nil && o.results != "" {
			err = errors.Join(err, write(filepath.Join(o.results, p.file), r))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// run measures the part in a Vault that is empty.
func (p *part) run(ctx context.Context, o options) (r any, err error) {
	err = inVault(ctx, o, func(v *vault) (err error) {
		r, err = p.measure(ctx, v, o)
		return err
	})
	return r, err
}

// inVault starts a Vault that is empty, and ends it after f.
func inVault(ctx context.Context, o options, f func(*vault) error) (err error) {
	v, err := startVault(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.stop()) }()
	return f(v)
}

// progress tells what is being done.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
