package redact

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

// lines is a log without secrets.
func lines(size int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"GET", "/api/v1/projects", "200", "INFO", "connecting to", "step", "done", "in", "12.7ms",
		"Compiling", "github.com/example/service/internal/handler", "ok", "WARN", "retry", "sha256:", "layer", "pulled"}
	var b bytes.Buffer
	for b.Len() < size {
		fmt.Fprintf(&b, "2026-05-04T10:%02d:%02d.%03dZ", random.IntN(60), random.IntN(60), random.IntN(1000))
		for range 4 + random.IntN(8) {
			b.WriteString(" " + words[random.IntN(len(words))])
		}
		if random.IntN(4) == 0 {
			fmt.Fprintf(&b, " %x", random.Uint64())
		}
		b.WriteByte('\n')
	}
	return b.Bytes()[:size]
}

// tokens are values as a generator makes them. With plain, each is one form.
func tokens(n int, plain bool) []Secret {
	random := rand.New(rand.NewPCG(3, 4))
	list := make([]Secret, n)
	for i := range list {
		raw := make([]byte, 15+random.IntN(18))
		for k := range raw {
			raw[k] = byte(random.Uint32())
		}
		list[i] = Secret{Name: fmt.Sprint("TOKEN_", i), Value: base64.RawURLEncoding.EncodeToString(raw), Plain: plain}
	}
	return list
}

func BenchmarkWriter(b *testing.B) {
	text := lines(8 << 20)
	for _, needles := range []int{10, 120, 1_000, 100_000} {
		benchmarkChunks(b, fmt.Sprintf("needles=%d", needles), NewSet(tokens(needles, true)...), text)
	}
	for _, secrets := range []int{10, 100} {
		benchmarkChunks(b, fmt.Sprintf("secrets=%d", secrets), NewSet(tokens(secrets, false)...), text)
	}
	set := NewSet(tokens(10, false)...)
	set.FindFormats(Precise)
	benchmarkChunks(b, "secrets=10,formats", set, text)
	short := append(tokens(10, false), Secret{Name: "SHORT", Value: "q7w8"}, Secret{Name: "MIDDLE", Value: "hunter2-x"})
	benchmarkChunks(b, "secrets=10,short", NewSet(short...), text)
	benchmarkChunks(b, "secrets=10,colours", NewSet(tokens(10, false)...), bytes.ReplaceAll(text, []byte("INFO"), []byte("\x1b[32mINFO\x1b[0m")))
}

func benchmarkChunks(b *testing.B, name string, set *Set, text []byte) {
	for _, chunk := range []int{64, 4 << 10, 32 << 10} {
		b.Run(fmt.Sprintf("%s/chunk=%d", name, chunk), func(b *testing.B) {
			w := NewWriter(io.Discard, set, Options{OnFinding: func(Finding) {}})
			b.SetBytes(int64(chunk))
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				if at+chunk > len(text) {
					at = 0
				}
				_, _ = w.Write(text[at : at+chunk])
				at += chunk
			}
		})
	}
}

func BenchmarkSet(b *testing.B) {
	for _, plain := range []bool{true, false} {
		for _, n := range []int{10, 1_000, 100_000} {
			if n > 1_000 && !plain {
				continue
			}
			list := tokens(n, plain)
			b.Run(fmt.Sprintf("secrets=%d/plain=%v", n, plain), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					NewSet(list...)
				}
			})
		}
	}
}
