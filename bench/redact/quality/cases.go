package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zricethezav/gitleaks/v8/detect"
	"github.com/zricethezav/gitleaks/v8/report"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// tally is how the cases of a rule came out.
type tally struct {
	rule  string
	class class

	positive  int
	named     int // found by the name of the rule
	found     int // found by any name
	peer      int // found by gitleaks, by the name of the rule
	byPrecise int // of these, with precise formats nothing of the key is left
	byAll     int // of these, with all formats nothing of the key is left

	negative  int
	wrong     int // found by the name of the rule
	damaged   int // in which anything is redacted
	wrongPeer int // found by gitleaks, by the name of the rule
}

// class is what is done with the keys of a rule unless all are to be redacted.
type class int

const (
	unknown class = iota
	reported
	redacted
)

func classOf(f redact.Finding) class {
	if f.Redacted {
		return redacted
	}
	return reported
}

func (c class) String() string { return [...]string{"by others", "reported", "redacted"}[c] }

func (t *tally) add(o tally) {
	t.positive += o.positive
	t.named += o.named
	t.found += o.found
	t.byPrecise += o.byPrecise
	t.byAll += o.byAll
	t.peer += o.peer
	t.negative += o.negative
	t.wrong += o.wrong
	t.damaged += o.damaged
	t.wrongPeer += o.wrongPeer
}

// measureCases prints how the cases of each rule come out, the worst first.
func measureCases(cases []labelled, show string) error {
	gitleaks, err := detect.NewDetectorDefaultConfig()
	if err != nil {
		return err
	}
	precise, every := redact.NewSet(), redact.NewSet()
	precise.FindFormats(redact.Precise)
	every.FindFormats(redact.All)
	byRule := map[string]*tally{}
	outside, pathOnly := 0, map[string]bool{}
	for _, c := range cases {
		switch {
		case c.Text == "":
			pathOnly[c.Rule] = true
			continue
		case c.Outside:
			outside++
			continue
		}
		t := byRule[c.Rule]
		if t == nil {
			t = &tally{rule: c.Rule}
			byRule[c.Rule] = t
		}
		//lint:ignore SA1019 there is nothing else yet that takes a text with its path
		fragment := detect.Fragment{Raw: c.Text, FilePath: c.Path}
		o := outcome{peer: slices.DeleteFunc(gitleaks.Detect(fragment), func(f report.Finding) bool { return f.RuleID != c.Rule })}
		_, o.precise = precise.String(c.Text)
		_, o.all = every.String(c.Text)
		if fault := t.count(c, o); fault != "" && (show == "all" || show == c.Rule) {
			fmt.Printf("%s, %s: %q\n", c.Rule, fault, c.Text)
		}
	}
	printRules(slices.Collect(maps.Values(byRule)))
	fmt.Printf("\nLeft out: %d rules that look at nothing but paths, and %d cases at paths that their rule is not for.\n", len(pathOnly), outside)
	return nil
}

// outcome is what is found in a case.
type outcome struct {
	precise, all []redact.Finding
	peer         []report.Finding // by gitleaks, by the name of the rule
}

// count adds a case to the tally of its rule, and says what is wrong with it.
func (t *tally) count(c labelled, o outcome) (fault string) {
	byName, damaged := false, false
	for _, f := range o.precise {
		damaged = damaged || f.Redacted
		if f.Name == c.Rule {
			byName = true
			t.class = max(t.class, classOf(f))
		}
	}
	if !c.Positive {
		t.negative++
		t.wrong += one(byName)
		t.damaged += one(damaged)
		t.wrongPeer += one(len(o.peer) > 0)
		switch {
		case byName:
			return "wrong"
		case damaged:
			return "wrong by " + o.precise[0].Name
		}
		return ""
	}
	t.positive++
	t.named += one(byName)
	t.found += one(len(o.precise) > 0)
	if len(o.peer) > 0 {
		t.peer++
		t.byPrecise += one(o.covers(c.Text, o.precise))
		t.byAll += one(o.covers(c.Text, o.all))
	}
	switch {
	case len(o.precise) == 0:
		return "missed"
	case !byName:
		return "found by " + o.precise[0].Name
	case !o.covers(c.Text, o.all):
		return "not covered"
	case t.class == redacted && !o.covers(c.Text, o.precise):
		return "not covered by precise formats"
	}
	return ""
}

// covers reports whether of each key that gitleaks finds in a text nothing is left,
// wherever it stands.
func (o *outcome) covers(text string, found []redact.Finding) bool {
	left := []byte(text)
	for _, f := range found {
		if f.Redacted {
			clear(left[f.Offset : f.Offset+int64(f.Length)])
		}
	}
	for _, f := range o.peer {
		key := secretOf(f)
		for at := 0; ; at++ {
			next := strings.Index(text[at:], key)
			if next < 0 {
				break
			}
			at += next
			if len(bytes.Trim(left[at:at+len(key)], "\x00")) > 0 {
				return false
			}
		}
	}
	return true
}

// secretOf returns a key without what gitleaks takes for a part of it but is none:
// the last line of a private key, http, and the character behind a key.
func secretOf(f report.Finding) string {
	key, _, _ := strings.Cut(f.Secret, "-----END")
	key = strings.Trim(key, " \t\r\n\"'`<&\\")
	return strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
}

func printRules(tallies []*tally) {
	slices.SortFunc(tallies, func(a, b *tally) int {
		return cmp.Or(cmp.Compare(share(a.named, a.positive), share(b.named, b.positive)), cmp.Compare(a.rule, b.rule))
	})
	rows := [][]string{{"rule", "class", "cases", "by name", "by any", "gitleaks", "precise", "all", "negative", "wrong", "damaged", "gitleaks"}}
	totals := map[class]*tally{unknown: {rule: "all found by other names"}, reported: {rule: "all reported only"}, redacted: {rule: "all redacted"}}
	all := &tally{rule: "all"}
	for _, t := range tallies {
		rows = append(rows, t.row())
		totals[t.class].add(*t)
		all.add(*t)
	}
	table.Print(rows)
	rows = rows[:1]
	for _, t := range []*tally{totals[redacted], totals[reported], totals[unknown], all} {
		rows = append(rows, t.row())
	}
	table.Print(rows)
	rows = [][]string{{"of cases and negatives", "recall", "by any name", "precision", "gitleaks recall", "precision", "covered: precise", "all"}}
	for _, t := range []*tally{totals[redacted], totals[reported], all} {
		rows = append(rows, []string{t.rule, percent(t.named, t.positive), percent(t.found, t.positive), percent(t.named, t.named+t.wrong),
			percent(t.peer, t.positive), percent(t.peer, t.peer+t.wrongPeer), percent(t.byPrecise, t.peer), percent(t.byAll, t.peer)})
	}
	table.Print(rows)
}

func (t *tally) row() []string {
	class := t.class.String()
	if strings.HasPrefix(t.rule, "all") {
		class = ""
	}
	row := []string{t.rule, class}
	for _, n := range []int{t.positive, t.named, t.found, t.peer, t.byPrecise, t.byAll, t.negative, t.wrong, t.damaged, t.wrongPeer} {
		row = append(row, strconv.Itoa(n))
	}
	return row
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// share of nothing is all.
func share(n, of int) float64 {
	if of == 0 {
		return 1
	}
	return float64(n) / float64(of)
}

func percent(n, of int) string { return fmt.Sprintf("%.1f %%", 100*share(n, of)) }
