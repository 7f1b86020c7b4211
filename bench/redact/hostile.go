package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// hostile is a text that makes a set work hard.
type hostile struct {
	What   string  `json:"what"`
	Speeds []speed `json:"speeds"`
	Max    float64 `json:"max_write_us"` // the longest single write of 64 bytes

	set    *redact.Set
	text   []byte
	passes []*pass
	chunks []int
}

func hostiles(o options) []*hostile {
	secrets := tokens(1_000, true)
	var heads strings.Builder
	for i := 0; heads.Len() < o.hostile; i++ {
		value := secrets[i%len(secrets)].Value
		heads.WriteString(value[:len(value)-1])
	}
	formats := func(what redact.Formats) *redact.Set {
		s := redact.NewSet(tokens(10, false)...)
		s.FindFormats(what)
		return s
	}
	// What is random in long values comes from the tokens.
	var long strings.Builder
	for _, token := range secrets[:600] {
		long.WriteString(token.Value)
	}
	value := long.String()[:1<<10]
	// A match may be spread over 16 KiB by line breaks.
	spread := value[:8] + strings.Join(strings.Split(value[8:len(value)-1], ""), "\n\n\n\n\n\n\n\n\n\n\n\n\n\n")
	a := strings.Repeat("a", 1000) + "b"
	one := func(value string) *redact.Set {
		return redact.NewSet(redact.Secret{Name: "VALUE", Version: 1, Value: value, Plain: true})
	}
	spaced := func(s string) []byte { return bytes.Repeat([]byte(s), o.hostile/len(s)) }
	list := []*hostile{
		{What: "1,000 values less their last byte, one after the other", set: redact.NewSet(secrets...), text: []byte(heads.String())},
		{What: "a, for a value of 1,000 a and a b", set: one(a), text: spaced("a")},
		{What: "line breaks, for 10 secrets", set: redact.NewSet(tokens(10, false)...), text: spaced("\r\n")},
		{What: "terminal sequences, for 10 secrets", set: redact.NewSet(tokens(10, false)...), text: spaced("\x1b[1mx")},
		{What: "-----BEGIN RSA PRIVATE KEY-----, precise formats", set: formats(redact.Precise), text: spaced("-----BEGIN RSA PRIVATE KEY-----")},
		{What: "eyJ, precise formats", set: formats(redact.Precise), text: spaced("eyJ")},
		{What: "password=, all formats, in one line", set: formats(redact.All), text: spaced("password=")},
		{What: "api_key: with a line each, all formats", set: formats(redact.All), text: spaced("api_key: x\n")},
		{What: "a value of 1 KiB less its last byte, spread over 14 KiB, 1 byte at a time", set: one(value), text: []byte(spread), chunks: []int{1}},
		{What: "a private key of 12 KiB, 1 byte at a time, precise formats", set: formats(redact.Precise),
			text: []byte("-----BEGIN PRIVATE KEY-----\n" + strings.NewReplacer("-", "", "_", "").Replace(long.String())[:12<<10]), chunks: []int{1}},
	}
	for _, h := range list {
		h.prepare()
	}
	return list
}

// prepare takes for the right output that of the text as a whole: what is measured
// is whether the cuts cost more than they should.
func (h *hostile) prepare() {
	if h.chunks == nil {
		h.chunks = chunks[:]
	}
	want, _ := h.set.Bytes(h.text)
	for _, chunk := range h.chunks {
		h.passes = append(h.passes, &pass{what: fmt.Sprintf("%s, %d bytes", h.What, chunk), size: len(h.text), want: want,
			run: func(out []byte) []byte { return written(out, h.set, h.text, chunk) }})
	}
}

func (h *hostile) finish() {
	for i, p := range h.passes {
		h.Speeds = append(h.Speeds, speed{h.chunks[i], median(p.speeds), p.speeds})
	}
	w := redact.NewWriter(new(counter), h.set, redact.Options{})
	chunk := h.chunks[0]
	for at := 0; at+chunk <= len(h.text); at += chunk {
		start := time.Now()
		_, _ = w.Write(h.text[at : at+chunk])
		h.Max = max(h.Max, float64(time.Since(start).Nanoseconds())/1e3)
	}
}

func printHostile(list []*hostile) {
	rows := [][]string{{"hostile text, MB/s in writes of", "64 B", "4 KiB", "32 KiB", "longest small write µs"}}
	for _, h := range list {
		row := []string{h.What}
		for i := range chunks {
			cell := ""
			if i < len(h.Speeds) {
				cell = fmt.Sprintf("%.1f", h.Speeds[i].MBs)
			}
			row = append(row, cell)
		}
		rows = append(rows, append(row, fmt.Sprintf("%.0f", h.Max)))
	}
	table.Print(rows)
}
