package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// newTable returns a writer that aligns what printRow prints until its Flush.
func newTable(w io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
}

// printRow prints one row. The last cell must not be empty: the one before it
// would leave blanks at the end of the line.
func printRow(t *tabwriter.Writer, cells ...string) {
	fmt.Fprintln(t, strings.Join(cells, "\t"))
}

// printSection prints an empty line, a header and rows, or nothing without rows.
func printSection(t *tabwriter.Writer, header []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(t)
	printRow(t, header...)
	for _, row := range rows {
		printRow(t, row...)
	}
}

// printJSON prints data as people read it.
func printJSON(w io.Writer, data json.RawMessage) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(data)
}
