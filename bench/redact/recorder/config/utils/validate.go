// Package utils takes the place of the package of this name in the generator of
// gitleaks' rules, and prints the cases that the other one checks.
package utils

import (
	"encoding/json"
	"os"

	"github.com/zricethezav/gitleaks/v8/config"
)

// labelled is a text, and whether it holds a key of a rule.
type labelled struct {
	Rule     string
	Positive bool
	Text     string
	Path     string
	Outside  bool // the rule is not for files of this path
}

// Validate prints the cases of a rule.
func Validate(rule config.Rule, truePositives, falsePositives []string) *config.Rule {
	for _, text := range truePositives {
		record(rule, true, "", text)
	}
	for _, text := range falsePositives {
		record(rule, false, "", text)
	}
	return &rule
}

// ValidateWithPaths prints the cases of a rule, by the paths that they are at.
func ValidateWithPaths(rule config.Rule, truePositives, falsePositives map[string]string) *config.Rule {
	for path, text := range truePositives {
		record(rule, true, path, text)
	}
	for path, text := range falsePositives {
		record(rule, false, path, text)
	}
	return &rule
}

func record(rule config.Rule, positive bool, path, text string) {
	outside := rule.Path != nil && !rule.Path.MatchString(path)
	if err := json.NewEncoder(os.Stdout).Encode(labelled{rule.RuleID, positive, text, path, outside}); err != nil {
		panic(err)
	}
}
