package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// report is the outcome, as it is written to the JSON file.
type report struct {
	Setup       setup        `json:"setup"`
	Sets        []built      `json:"sets"`
	Streams     []*stream    `json:"streams"`
	Peers       []*peer      `json:"peers"`
	Hostile     []*hostile   `json:"hostile"`
	Comparisons []comparison `json:"comparisons"`
}

// built is what it takes to make a set.
type built struct {
	Set     string  `json:"set"`
	Seconds float64 `json:"seconds"`
	Heap    int64   `json:"heap_bytes"` // with the values and their names
}

// comparison is a figure beside its bar.
type comparison struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Bar   string  `json:"bar"`
	Met   bool    `json:"met"`
}

// The logs: one made up, and real ones.
const (
	syntheticLog = "synthetic"
	realLog      = "real"
)

// sample says of which secrets a set is.
type sample struct {
	name    string
	count   int
	plain   bool
	formats redact.Formats
}

func (o options) samples() []sample {
	var all []sample
	for _, n := range o.values {
		all = append(all, sample{table.Thousands(n) + " values, plain", n, true, 0})
	}
	for _, n := range o.secrets {
		all = append(all, sample{table.Thousands(n) + " secrets, all forms", n, false, 0})
	}
	return append(all, sample{precise, 10, false, redact.Precise}, sample{"10 secrets, all formats", 10, false, redact.All})
}

const precise = "10 secrets, precise formats"

func (r *report) measure(o options, logs map[string][]byte) error {
	var passes []*pass
	for _, of := range o.samples() {
		progress("building a set of %s", of.name)
		set := r.build(of)
		planted := forms(tokens(of.count, of.plain))
		for _, text := range []string{syntheticLog, realLog} {
			if of.formats != 0 && text != realLog {
				continue
			}
			s := &stream{Set: of.name, Text: text, set: set}
			if err := s.prepare(logs[text], planted, of.formats != 0); err != nil {
				return fmt.Errorf("%s on the %s log: %w", of.name, text, err)
			}
			r.Streams = append(r.Streams, s)
			passes = append(passes, s.passes...)
			peers, err := s.peers(of, planted)
			if err != nil {
				return err
			}
			r.Peers = append(r.Peers, peers...)
			for _, p := range peers {
				passes = append(passes, p.pass)
			}
		}
	}
	r.Hostile = hostiles(o)
	for _, h := range r.Hostile {
		passes = append(passes, h.passes...)
	}
	if err := measure(passes, o); err != nil {
		return err
	}
	for _, s := range r.Streams {
		progress("single writes: %s, %s", s.Set, s.Text)
		s.finish()
	}
	for _, p := range r.Peers {
		p.MBs, p.Rounds = median(p.pass.speeds), p.pass.speeds
	}
	for _, h := range r.Hostile {
		h.finish()
	}
	r.compare(o)
	return nil
}

// build makes a set, and measures that.
func (r *report) build(s sample) *redact.Set {
	before := heap()
	secrets := tokens(s.count, s.plain)
	start := time.Now()
	set := redact.NewSet(secrets...)
	if s.formats != 0 {
		set.FindFormats(s.formats)
	}
	took := time.Since(start).Seconds()
	r.Sets = append(r.Sets, built{s.name, took, heap() - before})
	return set
}

// peers returns what else can do what this stream does. The automaton takes 2 KiB
// for each byte of a value, too much for the largest sets.
func (s *stream) peers(of sample, planted []form) ([]*peer, error) {
	const most = 10_000
	switch {
	case of.formats == redact.Precise:
		return newGitleaks(s)
	case !of.plain:
		return nil, nil
	case of.count < most:
		return []*peer{newReplacer(s, planted), newAutomaton(s, planted)}, nil
	}
	return []*peer{newReplacer(s, planted)}, nil
}

// compare sets the bars beside the figures.
func (r *report) compare(o options) {
	largest := o.values[len(o.values)-1]
	for _, s := range r.Streams {
		switch s.Set {
		case precise:
			for _, at := range s.Speeds[1:] {
				r.bar(fmt.Sprintf("MB/s with precise formats, real log, %s", bytesOf(at.Chunk)), at.MBs, 100, true)
			}
		case "1,000 values, plain":
			r.bar(fmt.Sprintf("MB/s with 1,000 values, %s log, 32 KiB", s.Text), s.Speeds[len(chunks)-1].MBs, 500, true)
			r.bar(fmt.Sprintf("ns for a write of 64 bytes, 1,000 values, %s log, p50", s.Text), s.P50, 1000, false)
			r.bar(fmt.Sprintf("ns for a write of 64 bytes, 1,000 values, %s log, p99", s.Text), s.P99, 1000, false)
		}
	}
	allocs := slices.MaxFunc(r.Streams, func(a, b *stream) int { return cmp.Compare(a.Allocs, b.Allocs) })
	r.bar(fmt.Sprintf("allocations for a write of 64 bytes, the most: %s", allocs.Set), allocs.Allocs, 0.001, false)
	for _, b := range r.Sets {
		if b.Set == table.Thousands(largest)+" values, plain" {
			r.bar(fmt.Sprintf("MB of heap for %s values", table.Thousands(largest)), float64(b.Heap)/1e6, 64, false)
		}
	}
}

func (r *report) bar(what string, value, bar float64, least bool) {
	c := comparison{what, value, fmt.Sprintf("at most %g", bar), value <= bar}
	if least {
		c.Bar, c.Met = fmt.Sprintf("at least %g", bar), value >= bar
	}
	r.Comparisons = append(r.Comparisons, c)
}

func (r *report) print() {
	fmt.Printf("\n%s, one processor of %s. Medians of %d interleaved rounds of %g s or more.\n", r.Setup.Go, r.Setup.CPU, r.Setup.Rounds, r.Setup.Seconds)
	for _, text := range []string{syntheticLog, realLog} {
		rows := [][]string{{text + " log, MB/s in writes of", "64 B", "4 KiB", "32 KiB", "64 B: p50 ns", "p99 ns", "allocations", "held bytes"}}
		for _, s := range r.Streams {
			if s.Text == text {
				rows = append(rows, []string{s.Set, fmt.Sprintf("%.0f", s.Speeds[0].MBs), fmt.Sprintf("%.0f", s.Speeds[1].MBs), fmt.Sprintf("%.0f", s.Speeds[2].MBs),
					fmt.Sprintf("%.0f", s.P50), fmt.Sprintf("%.0f", s.P99), fmt.Sprintf("%.4f", s.Allocs), table.Thousands(s.Held)})
			}
		}
		table.Print(rows)
	}
	rows := [][]string{{"peer", "set", "log", "MB/s", "heap MB"}}
	for _, p := range r.Peers {
		rows = append(rows, []string{p.What, p.Set, p.Text, fmt.Sprintf("%.1f", p.MBs), fmt.Sprintf("%.1f", float64(p.Heap)/1e6)})
	}
	table.Print(rows)
	rows = [][]string{{"set", "ms to build", "heap MB"}}
	for _, b := range r.Sets {
		rows = append(rows, []string{b.Set, fmt.Sprintf("%.1f", 1000*b.Seconds), fmt.Sprintf("%.1f", float64(b.Heap)/1e6)})
	}
	table.Print(rows)
	printHostile(r.Hostile)
	rows = [][]string{{"comparison", "value", "bar", ""}}
	for _, c := range r.Comparisons {
		verdict := "missed"
		if c.Met {
			verdict = "met"
		}
		rows = append(rows, []string{c.What, strconv.FormatFloat(c.Value, 'g', 4, 64), c.Bar, verdict})
	}
	table.Print(rows)
}

func bytesOf(n int) string {
	if n >= 1<<10 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}
