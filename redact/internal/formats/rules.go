package main

import (
	"fmt"
	"os"
	"regexp/syntax"
	"slices"
	"strings"
)

// Most rules look for a subject, such as the name of a service, and a token that
// is assigned to something named after it: these parts stand around the two.
const (
	before  = `[\w.-]{0,50}?`
	between = `(?:[ \t\w.-]{0,20})[\s'"]{0,3}`
	assigns = `(?:=|>|:{1,3}=|\|\||:|=>|\?=|,)[\x60'"\s=]{0,5}(`
	after   = `)(?:[\x60'"\s;]|\\[nr]|$)`
)

func printRules(rules []rule, global rule) {
	fmt.Println("// rules are keys that what is around them says what they are.")
	fmt.Println("var rules = [...]rule{")
	for _, r := range rules {
		if _, err := r.ways(); err == nil {
			continue
		}
		if subject, token, ok := r.assignment(); ok {
			words, least, err := parts(subject, token)
			if err != nil {
				leftOut(r, err)
				continue
			}
			fmt.Printf("\t{name: %q, words: %s, assigned: true, regex: %s, least: %d, entropy: %v},\n", r.id, list(words), quoted(token), least, r.entropy)
			continue
		}
		switch {
		case len(r.keywords) == 0:
			leftOut(r, fmt.Errorf("it is not about text"))
		case strings.Contains(r.regex, "(?s:.)"):
			leftOut(r, fmt.Errorf("it spans lines"))
		default:
			fmt.Printf("\t{name: %q, words: %s, regex: %s, entropy: %v},\n", r.id, list(r.keywords), quoted(r.regex), r.entropy)
		}
	}
	fmt.Println("}")
	fmt.Println("\n// innocent are regexps of what a rule finds and is no key, by rule; that of all\n// has no name.")
	fmt.Println("var innocent = map[string][]string{")
	for _, r := range append(rules, global) {
		printList(r.id, r.allowed)
	}
	fmt.Println("}")
	fmt.Println("\n// innocentMatches are the same, of all that a rule matches.")
	fmt.Println("var innocentMatches = map[string][]string{")
	for _, r := range rules {
		printList(r.id, r.matches)
	}
	fmt.Println("}")
	for _, r := range rules {
		if r.id == "generic-api-key" {
			fmt.Printf("\n// stopwords are in no key that the rule %s finds.\nconst stopwords = `%s`\n", r.id, strings.Join(r.stopwords, "\n"))
		}
	}
}

func leftOut(r rule, err error) { fmt.Fprintf(os.Stderr, "%s is left out: %v\n", r.id, err) }

// assignment returns the subject and the token of a rule that is about the two.
func (r *rule) assignment() (subject, token string, ok bool) {
	left, right, ok := strings.Cut(r.regex, between)
	if !ok {
		return "", "", false
	}
	_, right, ok = strings.Cut(right, assigns)
	token, _, end := strings.Cut(right, after)
	if strings.HasPrefix(left, "(?i)") {
		token = "(?i:" + token + ")"
	}
	subject = strings.NewReplacer("(?i)", "", before, "", "(?i:", "(?:").Replace(left)
	if strings.Count(subject, "(") > strings.Count(subject, ")") {
		subject = strings.TrimPrefix(subject, "(?:")
	}
	return subject, token, ok && end
}

// parts returns the subject's words in lower case, and how long a token is at least.
func parts(subject, token string) (words []string, least int, err error) {
	ways, err := expand("(?i:" + subject + ")")
	if err != nil {
		return nil, 0, err
	}
	for _, way := range ways {
		for _, word := range spellings(way) {
			words = append(words, strings.ToLower(word))
		}
	}
	slices.Sort(words)
	parsed, err := syntax.Parse(token, syntax.Perl)
	return slices.Compact(words), shortest(parsed), err
}

// spellings returns all that a way of single characters matches, but for the case.
func spellings(way []step) []string {
	all := []string{""}
	for _, s := range way {
		var next []string
		for _, head := range all {
			if s.min == 0 {
				next = append(next, head)
			}
			for i := 0; i < len(s.class); i += 2 {
				for c := s.class[i]; c <= s.class[i+1]; c++ {
					next = append(next, head+strings.ToLower(string(rune(c))))
				}
			}
		}
		slices.Sort(next)
		all = slices.Compact(next)
	}
	return all
}

// shortest returns the length of the shortest text that a regexp matches.
func shortest(r *syntax.Regexp) int {
	n := 0
	switch r.Op {
	case syntax.OpLiteral:
		return len(r.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1
	case syntax.OpCapture:
		return shortest(r.Sub[0])
	case syntax.OpPlus:
		return shortest(r.Sub[0])
	case syntax.OpRepeat:
		return r.Min * shortest(r.Sub[0])
	case syntax.OpConcat:
		for _, sub := range r.Sub {
			n += shortest(sub)
		}
	case syntax.OpAlternate:
		n = shortest(r.Sub[0])
		for _, sub := range r.Sub[1:] {
			n = min(n, shortest(sub))
		}
	}
	return n
}

func printList(name string, list []string) {
	if len(list) == 0 {
		return
	}
	fmt.Printf("\t%q: {\n", name)
	for _, item := range list {
		fmt.Printf("\t\t%s,\n", quoted(item))
	}
	fmt.Println("\t},")
}

func list(words []string) string {
	var b strings.Builder
	b.WriteString("[]string{")
	for i, word := range words {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", word)
	}
	b.WriteString("}")
	return b.String()
}

// quoted writes a regexp so that it can be read.
func quoted(s string) string {
	if strings.Contains(s, "`") {
		return fmt.Sprintf("%q", s)
	}
	return "`" + s + "`"
}
