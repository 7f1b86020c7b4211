// Command formats prints redact/formats_table.go, or redact/rules_table.go. It
// reads the rules of gitleaks, config/gitleaks.toml of its module:
//
//	go run ./redact/internal/formats formats <gitleaks.toml >redact/formats_table.go
//	go run ./redact/internal/formats rules <gitleaks.toml >redact/rules_table.go
//
// A format is a rule that begins with three or more known characters and can be
// matched byte by byte without trying again. The others remain rules. It tells on
// standard error which ones it leaves out.
package main

import (
	"errors"
	"fmt"
	"os"
	"regexp/syntax"
	"slices"
	"strings"
)

// unbounded is what a repetition without a limit may match.
const unbounded = 512

type step struct {
	class    string // pairs of the first and last byte of a range
	min, max int
}

// written by hand in redact/formats.go
var own = []string{"jwt", "jwt-base64", "private-key", "hashicorp-tf-api-token", "microsoft-teams-webhook", "sentry-org-token", "slack-webhook-url", "sidekiq-sensitive-url"}

func main() {
	rules, global, err := read(os.Stdin)
	if err == nil && len(os.Args) != 2 {
		err = errors.New("say formats or rules")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	rules = slices.DeleteFunc(rules, func(r rule) bool { return slices.Contains(own, r.id) })
	fmt.Print(header)
	switch os.Args[1] {
	case "formats":
		printFormats(rules)
	case "rules":
		printRules(rules, global)
	}
}

func printFormats(rules []rule) {
	fmt.Println("// formats are keys whose form says what they are.")
	fmt.Println("var formats = [...]format{")
	for _, r := range rules {
		ways, _ := r.ways()
		for _, way := range ways {
			prefix := prefixOf(way)
			fmt.Printf("\t{name: %q, prefix: %q, entropy: %v, steps: []step{", r.id, prefix, r.entropy)
			for i, s := range merge(way[len(prefix):]) {
				if i > 0 {
					fmt.Print(", ")
				}
				fmt.Printf("{%q, %d, %d}", s.class, s.min, s.max)
			}
			fmt.Println("}},")
		}
	}
	fmt.Println("}")
}

// ways returns the steps of a rule that is a format.
func (r *rule) ways() ([][]step, error) {
	ways, err := expand(r.regex)
	if err != nil {
		return nil, err
	}
	for _, way := range ways {
		spell(way, r.regex)
	}
	return usable(ways)
}

// spell gives the letters that a way begins with the case in which the rule is
// written. It ignores case, and whoever makes the keys does not.
func spell(way []step, regex string) {
	written := strings.NewReplacer("(?i)", "", `\b`, "", `\`, "", "(", "").Replace(regex)
	for i, s := range way {
		switch {
		case i >= len(written):
			return
		case fixed(s):
		case len(s.class) == 4 && s.min == 1 && s.max == 1 && strings.EqualFold(s.class[:1], s.class[2:3]) && strings.EqualFold(s.class[:1], written[i:i+1]):
			way[i].class = written[i:i+1] + written[i:i+1]
		default:
			return
		}
	}
}

// ends are what may follow a key. It is looked at elsewhere.
var ends = []string{`(?:[\x60'"\s;]|\\[nr]|$)`, `(?:[\x60'"\s;]|\\[nr]|$|\b)`, `(?:[^\w-]|\z)`, `(?:[^a-zA-Z0-9+/]|\z)`}

// expand returns the ways in which a regexp can match, as steps.
func expand(regex string) ([][]step, error) {
	for _, end := range ends {
		regex = strings.TrimSuffix(regex, end)
	}
	parsed, err := syntax.Parse(regex, syntax.Perl)
	if err != nil {
		return nil, err
	}
	return walk(parsed)
}
func walk(r *syntax.Regexp) ([][]step, error) {
	switch r.Op {
	case syntax.OpEmptyMatch, syntax.OpWordBoundary:
		return [][]step{nil}, nil
	case syntax.OpCapture:
		return walk(r.Sub[0])
	case syntax.OpLiteral:
		var way []step
		for _, c := range r.Rune {
			s := step{string([]rune{c, c}), 1, 1}
			if low, up := strings.ToLower(string(c)), strings.ToUpper(string(c)); r.Flags&syntax.FoldCase != 0 && low != up {
				s.class = up + up + low + low
			}
			way = append(way, s)
		}
		return [][]step{way}, nil
	case syntax.OpAnyCharNotNL:
		return [][]step{{{" ~", 1, 1}}}, nil
	case syntax.OpCharClass:
		class, err := classOf(r)
		return [][]step{{{class, 1, 1}}}, err
	case syntax.OpRepeat, syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		return repeat(r)
	case syntax.OpConcat:
		ways := [][]step{nil}
		for _, sub := range r.Sub {
			next, err := walk(sub)
			if err != nil {
				return nil, err
			}
			ways = product(ways, next)
		}
		return ways, nil
	case syntax.OpAlternate:
		var ways [][]step
		for _, sub := range r.Sub {
			next, err := walk(sub)
			if err != nil {
				return nil, err
			}
			ways = append(ways, next...)
		}
		return ways, nil
	}
	return nil, fmt.Errorf("it has %v", r.Op)
}

func repeat(r *syntax.Regexp) ([][]step, error) {
	low, high := r.Min, r.Max
	switch r.Op {
	case syntax.OpStar:
		low, high = 0, -1
	case syntax.OpPlus:
		low, high = 1, -1
	case syntax.OpQuest:
		low, high = 0, 1
	}
	if high < 0 {
		high = unbounded
	}
	ways, err := walk(r.Sub[0])
	if err != nil {
		return nil, err
	}
	if len(ways) == 1 && len(ways[0]) == 1 && ways[0][0].min == 1 && ways[0][0].max == 1 {
		return [][]step{{{ways[0][0].class, low, high}}}, nil
	}
	if high > 4 {
		return nil, fmt.Errorf("it repeats %v", r.Sub[0])
	}
	all, repeated := [][]step{}, [][]step{nil}
	for n := range high + 1 {
		if n >= low {
			all = append(all, repeated...)
		}
		repeated = product(repeated, ways)
	}
	return all, nil
}

func product(heads, tails [][]step) [][]step {
	var all [][]step
	for _, head := range heads {
		for _, tail := range tails {
			all = append(all, append(append([]step(nil), head...), tail...))
		}
	}
	return all
}

func classOf(r *syntax.Regexp) (string, error) {
	for _, c := range r.Rune {
		if c > 0x7f {
			// Folded case adds letters that are not ASCII.
			if c != 0x17f && c != 0x212a {
				return "", fmt.Errorf("it has %v", r)
			}
		}
	}
	var ascii []rune
	for i := 0; i < len(r.Rune); i += 2 {
		if r.Rune[i] <= 0x7f {
			ascii = append(ascii, r.Rune[i], r.Rune[i+1])
		}
	}
	return string(ascii), nil
}

// usable returns the ways that can be matched byte by byte.
func usable(ways [][]step) ([][]step, error) {
	const leastKnown, most = 3, 80
	var left [][]step
	for _, way := range ways {
		for _, way := range spread(way, leastKnown) {
			if len(prefixOf(way)) >= leastKnown {
				left = append(left, way)
			}
		}
		for i := 1; i < len(way); i++ {
			// What may be empty leaves to the one before all that it takes.
			if s := way[i-1]; s.min != s.max && way[i].min > 0 && overlap(s.class, way[i].class) {
				return nil, fmt.Errorf("step %d may take what belongs to step %d", i-1, i)
			}
		}
	}
	switch {
	case len(left) == 0:
		return nil, fmt.Errorf("less than %d characters of its beginning are known", leastKnown)
	case len(left) > most:
		return nil, fmt.Errorf("it matches in %d ways", len(left))
	}
	return left, nil
}

// spread makes a way several when its third character, but no other before it, is
// one of a class.
func spread(way []step, known int) [][]step {
	n := len(prefixOf(way))
	if n != known-1 || n == len(way) || way[n].min == 0 {
		return [][]step{way}
	}
	var all [][]step
	class, first := way[n].class, slices.Clone(way[n+1:])
	if rest := way[n]; rest.max > 1 {
		rest.min--
		rest.max--
		first = slices.Insert(first, 0, rest)
	}
	for i := 0; i < len(class); i += 2 {
		for c := class[i]; c <= class[i+1]; c++ {
			all = append(all, slices.Concat(way[:n], []step{{string([]byte{c, c}), 1, 1}}, first))
		}
	}
	return all
}

// prefixOf returns the known characters that a way begins with.
func prefixOf(way []step) string {
	var prefix strings.Builder
	for _, s := range way {
		if !fixed(s) {
			break
		}
		prefix.WriteByte(s.class[0])
	}
	return prefix.String()
}

func fixed(s step) bool {
	return len(s.class) == 2 && s.class[0] == s.class[1] && s.min == 1 && s.max == 1
}

func overlap(a, b string) bool {
	for i := 0; i < len(a); i += 2 {
		for k := 0; k < len(b); k += 2 {
			if a[i] <= b[k+1] && b[k] <= a[i+1] {
				return true
			}
		}
	}
	return false
}

// merge makes one step of equal ones that follow each other.
func merge(way []step) []step {
	var out []step
	for _, s := range way {
		if last := len(out) - 1; last >= 0 && out[last].class == s.class && out[last].min == out[last].max && s.min == s.max {
			out[last].min += s.min
			out[last].max += s.max
			continue
		}
		out = append(out, s)
	}
	return out
}
