package main

import (
	"bytes"
	"strings"

	ahocorasick "github.com/BobuSumisu/aho-corasick"
	"github.com/zricethezav/gitleaks/v8/detect"
)

// peer is another way to do the work, or part of it.
type peer struct {
	What   string    `json:"what"`
	Set    string    `json:"set"`
	Text   string    `json:"text"`
	Heap   int64     `json:"heap_bytes"`
	MBs    float64   `json:"mb_per_second"`
	Rounds []float64 `json:"rounds"`

	pass *pass
}

// newReplacer replaces in a text that is whole: it knows no streams.
func newReplacer(s *stream, planted []form) *peer {
	var pairs []string
	text := string(s.text)
	before := heap()
	for _, f := range planted {
		pairs = append(pairs, f.text, "[REDACTED:"+f.name+"]")
	}
	replacer := strings.NewReplacer(pairs...)
	// It builds its tables when it is first used.
	_ = replacer.Replace("")
	p := &peer{What: "strings.NewReplacer", Set: s.Set, Text: s.Text, Heap: heap() - before}
	p.pass = &pass{what: p.What, size: len(text), want: s.want, run: func(out []byte) []byte {
		sink := bytes.NewBuffer(out)
		_, _ = replacer.WriteString(sink, text)
		return sink.Bytes()
	}}
	return p
}

// newAutomaton finds all forms in a text that is whole; the rest is ours.
func newAutomaton(s *stream, planted []form) *peer {
	before := heap()
	trie := ahocorasick.NewTrieBuilder()
	for _, f := range planted {
		trie.AddString(f.text)
	}
	built := trie.Build()
	p := &peer{What: "BobuSumisu/aho-corasick", Set: s.Set, Text: s.Text, Heap: heap() - before}
	p.pass = &pass{what: p.What, size: len(s.text), want: s.want, run: func(out []byte) []byte {
		var spans []span
		built.Walk(s.text, func(end, n, pattern int64) bool {
			spans = append(spans, span{int(end - n + 1), int(end + 1), "[REDACTED:" + planted[pattern].name + "]"})
			return true
		})
		return replace(out, s.text, spans)
	}}
	return p
}

// newGitleaks returns gitleaks as a library, which finds and does not replace: on
// lines, and on blocks of 4 KiB.
func newGitleaks(s *stream) ([]*peer, error) {
	before := heap()
	detector, err := detect.NewDetectorDefaultConfig()
	if err != nil {
		return nil, err
	}
	size := heap() - before
	lines := &peer{What: "gitleaks, each line", Set: s.Set, Text: s.Text, Heap: size}
	lines.pass = &pass{what: lines.What, size: len(s.text), run: func(out []byte) []byte {
		for line := range bytes.Lines(s.text) {
			detector.DetectBytes(line)
		}
		return out
	}}
	blocks := &peer{What: "gitleaks, 4 KiB", Set: s.Set, Text: s.Text, Heap: size}
	blocks.pass = &pass{what: blocks.What, size: len(s.text), run: func(out []byte) []byte {
		for at := 0; at < len(s.text); at += 4 << 10 {
			detector.DetectBytes(s.text[at:min(at+4<<10, len(s.text))])
		}
		return out
	}}
	return []*peer{lines, blocks}, nil
}
