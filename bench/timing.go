//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	random "math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/sample"
	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// timingReport is what the time of an answer tells about a secret, as it is written
// to the JSON file.
type timingReport struct {
	Setup setup        `json:"setup"`
	Pairs []pairResult `json:"pairs"`
}

// pairResult is how two things differ that took turns, at random. One of them is
// nearer to a secret than the other.
type pairResult struct {
	What    string     `json:"what"`
	Samples int        `json:"samples"` // of each
	Median  [2]float64 `json:"median_us"`
	T       float64    `json:"t"` // Welch's, without the slowest twentieth of both together
}

// pair is what is compared.
type pair struct {
	what string
	do   func(side int) (time.Duration, error)
}

// measureTiming compares what differs only in how near it is to a secret.
func measureTiming(ctx context.Context, v *vault, o options) (any, error) {
	r := &timingReport{}
	o.clients = 1
	var err error
	if r.Setup, err = v.describe(ctx, o); err != nil {
		return nil, err
	}
	pairs, err := v.timingPairs(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		progress("timing: %s", p.what)
		if err := os.Truncate(v.audit, 0); err != nil { // it would fill the disk
			return nil, err
		}
		result, err := p.measure(o.samples)
		if err != nil {
			return nil, err
		}
		r.Pairs = append(r.Pairs, result)
	}
	printPairs(r.Pairs)
	return r, nil
}

// measure takes turns until there are so many samples of each side.
func (p *pair) measure(samples int) (pairResult, error) {
	var took [2][]float64
	for len(took[0]) < samples || len(took[1]) < samples {
		side := random.IntN(2)
		d, err := p.do(side)
		if err != nil {
			return pairResult{}, fmt.Errorf("%s: %w", p.what, err)
		}
		took[side] = append(took[side], float64(d)/float64(time.Microsecond))
	}
	all := slices.Sorted(slices.Values(slices.Concat(took[0], took[1])))
	slow := all[len(all)*19/20]
	var kept [2][]float64
	for side := range took {
		kept[side] = slices.DeleteFunc(slices.Clone(took[side]), func(us float64) bool { return us > slow })
	}
	return pairResult{p.what, min(len(took[0]), len(took[1])), [2]float64{median(took[0]), median(took[1])}, welch(kept[0], kept[1])}, nil
}

// welch returns the t of Welch's test. Beyond 4.5 two means are not the same.
func welch(a, b []float64) float64 {
	meanA, errorA := moments(a)
	meanB, errorB := moments(b)
	return (meanA - meanB) / math.Sqrt(errorA+errorB)
}

// moments returns the mean, and the square of its standard error.
func moments(of []float64) (mean, squared float64) {
	n := float64(len(of))
	for _, x := range of {
		mean += x / n
	}
	for _, x := range of {
		squared += (x - mean) * (x - mean) / (n - 1) / n
	}
	return mean, squared
}

// timingPairs stores secrets and returns what is asked about them.
func (v *vault) timingPairs(ctx context.Context) ([]pair, error) {
	if err := v.register(ctx, plugin, engineCommand); err != nil {
		return nil, err
	}
	if err := v.mount(ctx, plugin, plugin); err != nil {
		return nil, err
	}
	if err := v.putSample(ctx, plugin); err != nil {
		return nil, err
	}
	value := rand.Text() + rand.Text() // 52 letters and digits
	near, far := value[:len(value)-1]+"_", "_"+value[1:]
	const place = plugin + "/secrets/" + sample.Environment + "/org/"
	for name, content := range map[string]string{
		"SHORT": rand.Text() + rand.Text(), "LONG": strings.Repeat(rand.Text(), 2400), "FLAT": strings.Repeat("a", len(value)), "GUESSED": "first",
	} {
		if err := v.put(ctx, place+name, body{"value": content}); err != nil {
			return nil, err
		}
	}
	// While its rotation is under way, a wrong guess is refused and changes nothing.
	if err := v.put(ctx, place+"GUESSED", body{"value": value}); err != nil {
		return nil, err
	}
	ids, err := startExecutions(ctx, []*client{v.client}, executions(plugin), 1, time.Hour)
	if err != nil {
		return nil, err
	}
	others, err := v.clients(ctx, 1, allow("read", plugin+"/execution/*")+allow("update", redactMount))
	if err != nil {
		return nil, err
	}
	if err := readMount(ctx, others[0]); err != nil {
		return nil, err
	}
	requests := func(what string, c *client, method string, status int, paths [2]string, contents [2]body) pair {
		return pair{what, func(side int) (time.Duration, error) {
			return c.timed(ctx, method, paths[side], contents[side], status)
		}}
	}
	read := func(what, first, second string) pair {
		return requests(what, v.client, http.MethodGet, http.StatusOK, [2]string{place + first, place + second}, [2]body{})
	}
	execution := plugin + "/execution/"
	return []pair{
		read("control: a masked read twice", "SHORT", "SHORT"),
		read("control: masked read of 52 bytes vs 62 KB", "SHORT", "LONG"),
		read("masked read of one letter 52 times vs random ones", "FLAT", "SHORT"),
		equalPair(value, far, near),
		requests("write of a value: the first byte is wrong vs the last", v.client, http.MethodPut, http.StatusConflict,
			[2]string{place + "GUESSED", place + "GUESSED"}, [2]body{{"value": far}, {"value": near}}),
		v.redactPair(ctx, near),
		requests("execution of another identity vs none", others[0], http.MethodGet, http.StatusNotFound,
			[2]string{execution + ids[0], execution + strings.Repeat("0", len(ids[0]))}, [2]body{}),
	}, nil
}

// equalPair compares, in this process, what the engine compares secrets with.
func equalPair(value, far, near string) pair {
	const times = 100
	secret, guesses := sensitive.New(value), [2]sensitive.String{sensitive.New(far), sensitive.New(near)}
	return pair{fmt.Sprintf("comparison, %d times in process: the first byte is wrong vs the last", times), func(side int) (time.Duration, error) {
		start := time.Now()
		for range times {
			if guesses[side].Equal(secret) {
				return 0, errors.New("a wrong guess is equal")
			}
		}
		return time.Since(start), nil
	}}
}

// redactPair searches the mount for most of a secret, and for what is none. An
// identity may ask 60 times a minute.
func (v *vault) redactPair(ctx context.Context, near string) pair {
	const turns = 50
	asker, asked := newClient(v.address, ""), 0
	texts := [2]body{{"text": strings.ToLower(near)}, {"text": near}}
	return pair{"redact/mount of no secret vs all of one but its last byte", func(side int) (_ time.Duration, err error) {
		if asked++; asked%turns == 1 {
			if asker.token, err = v.createToken(ctx, "bench"); err != nil {
				return 0, err
			}
		}
		return asker.timed(ctx, http.MethodPut, redactMount, texts[side], http.StatusOK)
	}}
}

const redactMount = plugin + "/redact/mount"

// readMount waits until the engine has read the secrets of the mount, which it does
// when they are first asked for.
func readMount(ctx context.Context, c *client) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := c.timed(ctx, http.MethodPut, redactMount, body{"text": "harmless"}, http.StatusOK)
		if err == nil || pause(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

// timed returns how long a request takes that is answered with a status.
func (c *client) timed(ctx context.Context, method, path string, content body, status int) (time.Duration, error) {
	encoded, err := json.Marshal(content)
	if err != nil {
		return 0, err
	}
	req, err := c.request(ctx, method, path, encoded)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	took := time.Since(start)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("%s %s: %s, not %d", method, path, resp.Status, status)
	}
	return took, err
}

func printPairs(pairs []pairResult) {
	rows := [][]string{{"", "samples of each", "median us", "median us", "t"}}
	for _, p := range pairs {
		rows = append(rows, []string{p.What, table.Thousands(p.Samples), fmt.Sprintf("%.1f", p.Median[0]), fmt.Sprintf("%.1f", p.Median[1]), fmt.Sprintf("%.1f", p.T)})
	}
	table.Print(rows)
}
