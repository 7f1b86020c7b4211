package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// A summary is what is told at the end. There is no value in it: a path that
// holds one is redacted too.
type summary struct {
	set   *redact.Set
	check bool

	Redacted int          `json:"redacted"`
	Reported int          `json:"reported"`
	Files    int          `json:"files"`
	Changed  int          `json:"files_with_redacted"`
	Bytes    int64        `json:"bytes"`
	Found    []foundItem  `json:"found"`
	Gaps     []gapItem    `json:"not_looked_for"`
	Notes    []remarkItem `json:"notes"`
	Errors   []remarkItem `json:"errors"`
	Omitted  int          `json:"omitted"` // items that the lists have no room for
}

type foundItem struct {
	File     string `json:"file"`
	Name     string `json:"name"`
	Encoding string `json:"encoding"`
	Count    int    `json:"count"`
	Redacted bool   `json:"redacted"`
}

type gapItem struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

type remarkItem struct {
	File string `json:"file"`
	Text string `json:"text"`
}

func newSummary(set *redact.Set, check bool) *summary {
	s := &summary{set: set, check: check, Found: []foundItem{}, Gaps: []gapItem{}, Notes: []remarkItem{}, Errors: []remarkItem{}}
	for _, gap := range set.Report() {
		keep(s, &s.Gaps, gapItem{gap.Name, gap.Reason})
	}
	return s
}

// clean returns a path, or an error that may hold one, as it may be printed.
func (s *summary) clean(text string) string {
	text, _ = s.set.String(text)
	return printable(text)
}

// keep adds to a list of a summary as long as there is room.
func keep[T any](s *summary, list *[]T, item T) {
	const most = 1000
	if len(*list) < most {
		*list = append(*list, item)
	} else {
		s.Omitted++
	}
}

// add notes what was found in a text.
func (s *summary) add(name string, f *found) {
	name = s.clean(name)
	s.Files++
	s.Bytes += f.bytes
	if f.redacted() {
		s.Changed++
	}
	order := func(a, b match) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.encoding, b.encoding))
	}
	for _, m := range slices.SortedFunc(maps.Keys(f.counts), order) {
		n := f.counts[m]
		if m.redacted {
			s.Redacted += n
		} else {
			s.Reported += n
		}
		keep(s, &s.Found, foundItem{name, m.name, m.encoding, n, m.redacted})
	}
	for _, note := range f.notes {
		keep(s, &s.Notes, remarkItem{name, note})
	}
}

// fail notes that a file was not redacted.
func (s *summary) fail(name string, err error) {
	var in *fs.PathError
	var between *os.LinkError
	switch {
	case errors.As(err, &in):
		err = in.Err
	case errors.As(err, &between):
		err = between.Err
	}
	keep(s, &s.Errors, remarkItem{s.clean(name), s.clean(err.Error())})
}

// print prints the summary. A filter that has nothing to say says nothing.
func (s *summary) print(w io.Writer, asJSON, filter bool) error {
	if asJSON {
		data, err := json.Marshal(s)
		if err != nil {
			return err
		}
		return printJSON(w, data)
	}
	if !filter || len(s.Found) > 0 {
		fmt.Fprintf(w, "agentchains: %s\n", s.headline(filter))
	}
	var done, left [][]string
	for _, f := range s.Found {
		row := []string{f.Name, f.Encoding, strconv.Itoa(f.Count), f.File}
		if f.Redacted {
			done = append(done, row)
		} else {
			left = append(left, row)
		}
	}
	t := newTable(w)
	printSection(t, []string{"REDACTED", "ENCODING", "COUNT", "FILE"}, done)
	printSection(t, []string{"FOUND, NOT REDACTED", "ENCODING", "COUNT", "FILE"}, left)
	if err := t.Flush(); err != nil {
		return err
	}
	if len(s.Found) > 0 && len(s.Gaps)+len(s.Notes)+len(s.Errors)+s.Omitted > 0 {
		fmt.Fprintln(w)
	}
	for _, gap := range s.Gaps {
		fmt.Fprintf(w, "agentchains: %s is not redacted: %s\n", gap.Name, gap.Reason)
	}
	for _, remark := range slices.Concat(s.Notes, s.Errors) {
		fmt.Fprintf(w, "agentchains: %s: %s\n", remark.File, remark.Text)
	}
	if s.Omitted > 0 {
		fmt.Fprintf(w, "agentchains: not listed: %d more\n", s.Omitted)
	}
	return nil
}

func (s *summary) headline(filter bool) string {
	if s.Redacted+s.Reported == 0 {
		return fmt.Sprintf("found nothing in %d files (%s)", s.Files, size(s.Bytes))
	}
	text := "redacted "
	if s.check {
		text = "would redact "
	}
	text += strconv.Itoa(s.Redacted)
	if !filter {
		text += fmt.Sprintf(" in %d of %d files (%s)", s.Changed, s.Files, size(s.Bytes))
	}
	if s.Reported > 0 {
		text += fmt.Sprintf("; found, but not redacted: %d", s.Reported)
	}
	return text
}

// size is a number of bytes as people read it.
func size(bytes int64) string {
	n := float64(bytes)
	for _, unit := range []string{"bytes", "kB", "MB"} {
		if n < 1000 {
			return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 1, 64), ".0") + " " + unit
		}
		n /= 1000
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + " GB"
}

// progress tells how far long work is.
type progress struct {
	to    io.Writer // a terminal, if somebody looks on
	began time.Time
	shown time.Time
	bytes int64
}

func newProgress(to io.Writer) progress {
	now := time.Now()
	return progress{to: to, began: now, shown: now}
}

// read notes that so many bytes were read, of one file more than are done.
func (p *progress) read(n, done int) {
	const pause = 200 * time.Millisecond
	p.bytes += int64(n)
	now := time.Now()
	if p.to == nil || now.Sub(p.shown) < pause {
		return
	}
	p.shown = now
	fmt.Fprintf(p.to, "\r\x1b[K%d files, %s, %s/s", done, size(p.bytes), size(int64(float64(p.bytes)/now.Sub(p.began).Seconds())))
}

// erase takes the line away, so that the summary stands alone.
func (p *progress) erase() {
	if p.to != nil {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
