// Command quality measures what the package redact finds: in the cases that
// gitleaks tests its rules with, and in logs that hold no secret. See
// docs/redaction.md and scripts/quality.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	labelled := flag.String("cases", "", "the `file` of the cases")
	logs := flag.String("logs", "", "the `directory` of the logs, as log-1 and so on")
	show := flag.String("show", "", "print what is missed or wrong of this `rule`, or of all, and what is found in logs")
	flag.Parse()
	if *labelled == "" || *logs == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*labelled, *logs, *show); err != nil {
		fmt.Fprintln(os.Stderr, "quality:", err)
		os.Exit(1)
	}
}

func run(labelled, logs, show string) error {
	cases, err := readCases(labelled)
	if err != nil {
		return err
	}
	if err := measureCases(cases, show); err != nil {
		return err
	}
	return measureLogs(logs, show)
}

// labelled is a text, and whether it holds a key of a rule: what
// bench/redact/recorder prints.
type labelled struct {
	Rule     string
	Positive bool
	Text     string
	Path     string
	Outside  bool // the rule is not for files of this path
}

func readCases(name string) ([]labelled, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var cases []labelled
	for decoder := json.NewDecoder(bufio.NewReader(file)); ; {
		var c labelled
		switch err := decoder.Decode(&c); err {
		case nil:
			cases = append(cases, c)
		case io.EOF:
			return cases, nil
		default:
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
}
