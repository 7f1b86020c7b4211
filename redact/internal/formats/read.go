package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// rule is one of gitleaks.
type rule struct {
	id, regex string
	entropy   float64
	keywords  []string
	allowed   []string // regexps of secrets that are none
	matches   []string // the same, of all that the rule matched
	stopwords []string // which no secret contains
}

// read takes the rules from TOML as gitleaks writes it: each key on a line of its
// own, lists on several. What is about paths is left out.
func read(in io.Reader) (rules []rule, global rule, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	at := &global
	target := ""
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "[[rules]]":
			rules = append(rules, rule{})
			at = &rules[len(rules)-1]
			continue
		case strings.HasPrefix(line, "["):
			target = ""
			continue
		}
		key, value, ok := strings.Cut(line, " = ")
		if !ok {
			continue
		}
		var list []string
		if value == "[" {
			for lines.Scan() && lines.Text() != "]" {
				list = append(list, unquoted(strings.TrimSuffix(strings.TrimSpace(lines.Text()), ",")))
			}
		}
		switch key {
		case "id":
			at.id = unquoted(value)
		case "regex":
			at.regex = unquoted(value)
		case "entropy":
			if at.entropy, err = strconv.ParseFloat(value, 64); err != nil {
				return nil, rule{}, err
			}
		case "keywords":
			if list == nil {
				list = []string{unquoted(strings.Trim(value, "[]"))}
			}
			at.keywords = list
		case "regexTarget":
			target = unquoted(value)
		case "stopwords":
			at.stopwords = append(at.stopwords, list...)
		case "regexes":
			if list == nil {
				return nil, rule{}, fmt.Errorf("a list of %s is on one line", at.id)
			}
			switch target {
			case "":
				at.allowed = append(at.allowed, list...)
			case "match":
				at.matches = append(at.matches, list...)
			}
		}
	}
	return rules, global, lines.Err()
}

func unquoted(value string) string {
	for _, quotes := range []string{"'''", `"""`, `"`} {
		if inner, ok := strings.CutPrefix(value, quotes); ok {
			return strings.TrimSuffix(inner, quotes)
		}
	}
	return value
}
