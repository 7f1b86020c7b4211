package main

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// chunks are the sizes of the writes.
var chunks = [...]int{64, 4 << 10, 32 << 10}

// pass is one way to redact a text, with its speed in each round.
type pass struct {
	what   string
	size   int    // of the text
	want   []byte // the output, unless there is none
	run    func(out []byte) []byte
	speeds []float64 // in MB/s
}

// stream is a set that redacts a text, and what that takes.
type stream struct {
	Set    string  `json:"set"`
	Text   string  `json:"text"`
	Speeds []speed `json:"speeds"`
	// Of a write of 64 bytes.
	P50    float64 `json:"p50_ns"`
	P99    float64 `json:"p99_ns"`
	Allocs float64 `json:"allocations"`
	// Held is the most that was held back, in bytes.
	Held int `json:"held_bytes"`

	set    *redact.Set
	text   []byte
	want   []byte
	spans  []span // that are replaced
	passes []*pass
}

// speed is that of one size of writes: the median of the rounds.
type speed struct {
	Chunk  int       `json:"chunk"`
	MBs    float64   `json:"mb_per_second"`
	Rounds []float64 `json:"rounds"`
}

// prepare plants forms in a log, and says by the oracle what the output must be.
// With formats, more than that may be redacted: what is said to be found must
// cover the forms, and the output must be the text with just that replaced.
func (s *stream) prepare(log []byte, forms []form, formats bool) error {
	var planted int
	s.text, planted = plant(log, forms)
	s.spans = oracle(s.text, forms)
	if len(s.spans) < planted {
		return fmt.Errorf("the oracle finds %d of %d planted values", len(s.spans), planted)
	}
	if formats {
		_, found := s.set.Bytes(s.text)
		var err error
		if s.spans, err = spansOf(found, s.spans); err != nil {
			return err
		}
	}
	s.want = replace(nil, s.text, s.spans)
	for _, chunk := range chunks {
		s.passes = append(s.passes, &pass{
			what: fmt.Sprintf("%s on the %s log in writes of %d bytes", s.Set, s.Text, chunk),
			size: len(s.text), want: s.want,
			run: func(out []byte) []byte { return written(out, s.set, s.text, chunk) },
		})
	}
	return nil
}

// written appends what a Writer makes of text in writes of one size.
func written(out []byte, set *redact.Set, text []byte, chunk int) []byte {
	sink := bytes.NewBuffer(out)
	w := redact.NewWriter(sink, set, redact.Options{})
	for len(text) > 0 {
		n := min(chunk, len(text))
		// A bytes.Buffer takes everything.
		_, _ = w.Write(text[:n])
		text = text[n:]
	}
	_ = w.Close()
	return sink.Bytes()
}

// measure runs the passes in turns, so that whatever else the machine does meets
// all of them. Time is the processor's: nothing waits, so on a machine that is idle
// it is that of the clock too. Each output is compared: a speed with wrong output is
// none.
func measure(passes []*pass, o options) error {
	var out []byte
	for round := range o.rounds {
		progress("round %d of %d", round+1, o.rounds)
		for _, p := range passes {
			runtime.GC()
			var took time.Duration
			times := 0
			for times == 0 || took < o.least {
				start := processor()
				out = p.run(out[:0])
				took += processor() - start
				times++
				if p.want != nil && !bytes.Equal(out, p.want) {
					return fmt.Errorf("%s: the output is wrong", p.what)
				}
			}
			p.speeds = append(p.speeds, float64(p.size)*float64(times)/1e6/took.Seconds())
		}
	}
	return nil
}

// finish sets what the rounds gave, and measures single writes.
func (s *stream) finish() {
	for i, p := range s.passes {
		s.Speeds = append(s.Speeds, speed{chunks[i], median(p.speeds), p.speeds})
	}
	s.writes()
	s.holds()
}

// writes measures writes of 64 bytes, one by one, after as many that are not
// measured. The time of each includes one look at the clock.
func (s *stream) writes() {
	const chunk = 64
	w := redact.NewWriter(io.Discard, s.set, redact.Options{})
	took := make([]time.Duration, 0, len(s.text)/chunk)
	for range 2 {
		var before, after runtime.MemStats
		took = took[:0]
		runtime.ReadMemStats(&before)
		start := time.Now()
		for at := 0; at+chunk <= len(s.text); at += chunk {
			_, _ = w.Write(s.text[at : at+chunk])
			now := time.Now()
			took = append(took, now.Sub(start))
			start = now
		}
		runtime.ReadMemStats(&after)
		s.Allocs = float64(after.Mallocs-before.Mallocs) / float64(len(took))
	}
	slices.Sort(took)
	s.P50, s.P99 = float64(took[len(took)/2]), float64(took[len(took)*99/100])
}

// holds measures how much is held back after writes of 64 bytes.
func (s *stream) holds() {
	const chunk = 64
	sink := new(counter)
	w := redact.NewWriter(sink, s.set, redact.Options{})
	// The output up to byte to is that of the input up to byte from.
	from, to, next := 0, 0, 0
	for at := 0; at < len(s.text); at += chunk {
		end := min(at+chunk, len(s.text))
		_, _ = w.Write(s.text[at:end])
		for next < len(s.spans) && to+s.spans[next].start-from+len(s.spans[next].marker) <= sink.n {
			to += s.spans[next].start - from + len(s.spans[next].marker)
			from = s.spans[next].end
			next++
		}
		s.Held = max(s.Held, end-(from+sink.n-to))
	}
}

// counter counts what is written to it.
type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

// processor returns how much processor time the process has had.
func processor() time.Duration {
	var u syscall.Rusage
	// It fails for nothing but a bad argument.
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heap returns what is in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// median of an even number of figures is the mean of the two in the middle.
func median(figures []float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
