// Command bench measures the engine in a real Vault, beside the least that an
// external plugin can be and beside KV v2. See docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are what a run is made of.
type options struct {
	vault    string        // the vault binary
	plugins  string        // the directory of the engine, floor and loader
	storage  string        // raft or inmem
	results  string        // the JSON file, or nothing
	clients  int           // that read at the same time
	rounds   int           // of each read, interleaved
	duration time.Duration // of a round
	sizes    []int         // of the mounts, in secrets
	caches   []int64       // sizes of the cache, in bytes
	reveals  int           // distinct secrets read to fill a cache
	starts   int           // of the plugin
}

func main() {
	o := options{
		sizes:   []int{1_000, 100_000, 1_000_000},
		caches:  []int64{16 << 20, 64 << 20},
		reveals: 150_000,
		starts:  5,
	}
	flag.StringVar(&o.vault, "vault", "", "the vault `binary`")
	flag.StringVar(&o.plugins, "plugins", "", "the `directory` of the built plugins")
	flag.StringVar(&o.storage, "storage", "raft", "Vault's storage: raft or inmem")
	flag.StringVar(&o.results, "results", "bench/results.json", "the `file` that gets the figures as JSON")
	flag.IntVar(&o.clients, "clients", 16, "clients that read at the same time")
	flag.IntVar(&o.rounds, "rounds", 15, "rounds of each read")
	flag.DurationVar(&o.duration, "duration", time.Second, "length of a round")
	quick := flag.Bool("quick", false, "only see that the benchmark runs: small mounts, one short round, no file")
	flag.Parse()
	if o.clients < 1 || o.rounds < 1 || o.duration <= 0 || o.storage != "inmem" && o.storage != "raft" {
		flag.Usage()
		os.Exit(2)
	}
	if *quick {
		o.rounds, o.duration, o.starts = 1, 200*time.Millisecond, 1
		o.sizes, o.caches, o.reveals = []int{100, 500, 2_000}, []int64{1 << 20, 2 << 20}, 2_000
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

func run(ctx context.Context, o options) (err error) {
	v, err := startVault(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.stop()) }()
	r, err := measure(ctx, v, o)
	if err != nil {
		return err
	}
	r.print(os.Stdout)
	if o.results == "" {
		return nil
	}
	return r.write(o.results)
}

// progress tells what is being done.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
