package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// measureLogs prints what is found in logs, by line. No secret is in them, so
// what is found is wrong.
func measureLogs(directory, show string) error {
	names, err := filepath.Glob(filepath.Join(directory, "log-*"))
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New(directory + " holds no logs")
	}
	set := redact.NewSet()
	set.FindFormats(redact.Precise)
	size := 0
	count := map[class]int{}
	rows := [][]string{{"log", "line", "format", "length", ""}}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		size += len(text)
		_, found := set.Bytes(text)
		for _, f := range found {
			verdict := classOf(f)
			count[verdict]++
			line := 1 + bytes.Count(text[:f.Offset], []byte("\n"))
			rows = append(rows, []string{filepath.Base(name), strconv.Itoa(line), f.Name, strconv.Itoa(f.Length), verdict.String()})
			if show != "" {
				fmt.Printf("%s line %d: %s, %s: %q\n", filepath.Base(name), line, f.Name, verdict, text[f.Offset:f.Offset+int64(f.Length)])
			}
		}
	}
	table.Print(rows)
	megabytes := float64(size) / 1e6
	fmt.Printf("\n%d logs of %.1f MB: %d redacted, %.2f per MB (bar: below 1); %d reported only, %.2f per MB.\n", len(names), megabytes,
		count[redacted], float64(count[redacted])/megabytes, count[reported], float64(count[reported])/megabytes)
	return nil
}
