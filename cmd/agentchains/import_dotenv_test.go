package main

import (
	"strings"
	"testing"
)

// parsed returns what a parser adds, a line each, with the values quoted.
func parsed(t *testing.T, parse func(*importSource, string) error, text string) string {
	t.Helper()
	var in importSource
	if err := parse(&in, text); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, k := range in.list {
		lines.WriteString(k.from() + "=" + k.value.Reveal())
		if k.refused != "" {
			lines.WriteString("!" + k.refused)
		}
		lines.WriteString("|")
	}
	return lines.String()
}

func TestDotenv(t *testing.T) {
	t.Parallel()
	const empty = "!the value is empty|"
	for text, want := range map[string]string{
		"":                                    "",
		"\n \t\n# A=1\n  # B=2":               "",
		"A=1":                                 "A=1|",
		"A=1\nB=2\n":                          "A=1|B=2|",
		"A=1\r\n\r\nB='2'\r\n":                "A=1|B=2|",
		"  A = 1  ":                           "A=1|",
		"export A=1\nexport\tB=2":             "A=1|B=2|",
		"exported=1\nexport=2":                "exported=1|export=2|",
		"A=one two":                           "A=one two|",
		"A=1 # one":                           "A=1|",
		"A=1\t#one":                           "A=1|",
		"A=a#b":                               "A=a#b|",
		"A=#b":                                "A=#b|",
		"A= #b":                               "A=" + empty,
		"A=\nB=2":                             "A=" + empty + "B=2|",
		`A=""`:                                "A=" + empty,
		"A=b=c==":                             "A=b=c==|",
		`A=it's "so"`:                         `A=it's "so"|`,
		`A=C:\new`:                            `A=C:\new|`,
		"A=$HOME ${B}":                        "A=$HOME ${B}|",
		`A="$HOME ${B}" # no expansion`:       "A=$HOME ${B}|",
		`A='x # y' # z`:                       "A=x # y|",
		`A='a\nb"c'`:                          `A=a\nb"c|`,
		`A="a\nb\tc\rd\"e\\f\$g` + "\\`h\"":   "A=a\nb\tc\rd\"e\\f$g`h|",
		`A="\d\\n"`:                           `A=\d\n|`,
		`A="it's"`:                            "A=it's|",
		"A=\"one\n two # 2\n\nfour\"\nB=2":    "A=one\n two # 2\n\nfour|B=2|",
		"A='one\ntwo'#c\nB=2":                 "A=one\ntwo|B=2|",
		"A=\"one\r\ntwo\"":                    "A=one\ntwo|",
		"a.b-c=1\n_D=2":                       "a.b-c=1|_D=2|",
		"A=1\nA=2":                            "A=1|A=2|",
		"A=\"" + strings.Repeat("x", 9) + `"`: "A=xxxxxxxxx|",
	} {
		same(t, text, parsed(t, (*importSource).parseDotenv, text), want)
	}
}

// What cannot be read is told by its line, and nothing in it is repeated.
func TestDotenvErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"A=1\n" + tokenValue:                             "line 2 must be NAME=value, a comment or empty",
		"A=1\n\n1" + tokenValue + "=2":                   "line 3 must be NAME=value, a comment or empty",
		"=" + tokenValue:                                 "line 1 must be NAME=value, a comment or empty",
		"export " + tokenValue:                           "line 1 must be NAME=value, a comment or empty",
		"A B=" + tokenValue:                              "line 1 must be NAME=value, a comment or empty",
		"A=1\nB=\"" + tokenValue + "\nC=3":               "line 2 begins a quote that is never closed",
		"A='" + tokenValue:                               "line 1 begins a quote that is never closed",
		`A="` + tokenValue + `\"`:                        "line 1 begins a quote that is never closed",
		"A=\"one\n\n" + tokenValue + `" ` + tokenValue:   "line 3 has text behind the closing quote",
		"A='" + tokenValue + "'" + tokenValue + "\nB=22": "line 1 has text behind the closing quote",
	} {
		var in importSource
		err := in.parseDotenv(text)
		if err == nil {
			t.Errorf("no error, want %q", want)
			continue
		}
		same(t, "error", err.Error(), want)
	}
}

// No text makes the parser panic, or read on for ever.
func FuzzDotenv(f *testing.F) {
	f.Add("export A=\"b\\\n\" # c\n'")
	f.Fuzz(func(_ *testing.T, text string) {
		var in importSource
		_ = in.parseDotenv(text)
	})
}
