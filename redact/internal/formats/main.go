// Command formats prints redact/formats_table.go. It reads the rules of gitleaks,
// config/gitleaks.toml of its module:
//
//	go run ./redact/internal/formats <gitleaks.toml >redact/formats_table.go
//
// It takes the rules that begin with three or more known characters and can be
// matched byte by byte without trying again. It tells on standard error which
// ones it leaves out.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp/syntax"
	"strconv"
	"strings"
)

// unbounded is what a repetition without a limit may match.
const unbounded = 512

type step struct {
	class    string // pairs of the first and last byte of a range
	min, max int
}

type rule struct {
	id, regex string
	entropy   float64
}

func main() {
	rules, err := read(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(header)
	for _, r := range rules {
		ways, err := expand(r.regex)
		if err == nil {
			ways, err = usable(ways)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s is left out: %v\n", r.id, err)
			continue
		}
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

// read takes id, regex and entropy of each rule: each stands on a line of its own.
func read(in io.Reader) ([]rule, error) {
	var rules []rule
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for top := false; lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "[") {
			if top = line == "[[rules]]"; top {
				rules = append(rules, rule{})
			}
			continue
		}
		key, value, _ := strings.Cut(line, " = ")
		if !top {
			continue
		}
		r := &rules[len(rules)-1]
		switch key {
		case "id":
			r.id = strings.Trim(value, `"`)
		case "regex":
			r.regex = strings.Trim(value, "'")
		case "entropy":
			var err error
			if r.entropy, err = strconv.ParseFloat(value, 64); err != nil {
				return nil, err
			}
		}
	}
	return rules, lines.Err()
}

// expand returns the ways in which a regexp can match, as steps.
func expand(regex string) ([][]step, error) {
	// What ends a token is looked at elsewhere.
	regex = strings.TrimSuffix(regex, `(?:[\x60'"\s;]|\\[nr]|$)`)
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
	if err != nil || len(ways) != 1 || len(ways[0]) != 1 || ways[0][0].min != 1 || ways[0][0].max != 1 {
		return nil, fmt.Errorf("it repeats %v", r.Sub[0])
	}
	return [][]step{{{ways[0][0].class, low, high}}}, nil
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
	const leastKnown, most = 3, 32
	if len(ways) > most {
		return nil, fmt.Errorf("it matches in %d ways", len(ways))
	}
	var left [][]step
	for _, way := range ways {
		if len(prefixOf(way)) >= leastKnown {
			left = append(left, way)
		}
		for i := 1; i < len(way); i++ {
			if s := way[i-1]; s.min != s.max && overlap(s.class, way[i].class) {
				return nil, fmt.Errorf("step %d may take what belongs to step %d", i-1, i)
			}
		}
	}
	if len(left) == 0 {
		return nil, fmt.Errorf("less than %d characters of its beginning are known", leastKnown)
	}
	return left, nil
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
