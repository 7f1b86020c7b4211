// Package table prints figures.
package table

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Print writes rows with the first column to the left and the others to the right.
func Print(rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	fmt.Println()
	for _, row := range rows {
		line := fmt.Sprintf("%-*s", width[0], row[0])
		for i, cell := range row[1:] {
			line += fmt.Sprintf("   %*s", width[i+1], cell)
		}
		fmt.Println(strings.TrimRight(line, " "))
	}
}

// Thousands writes n with a comma between each three digits.
func Thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
