// Package sample holds the secrets of the benchmark: those that every measured
// read answers with, and the many that fill a mount.
package sample

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// The agent whose environment is read, in the form of the path below env/.
const (
	Environment = "prod"
	Project     = "shop"
	Chain       = "shop/checkout"
	Agent       = "Buyer"
)

// Group is the name of the one group of the agent.
const Group = "aws-deploy"

// A Scope is a place of secrets, and the names of those in it that the agent sees.
type Scope struct {
	Place string
	Names []string
}

// Scopes are where the secrets of the agent are: one scope of each kind.
var Scopes = []Scope{
	{"prod/agent/" + Chain + "/" + Agent, []string{"PAYMENT_TOKEN", "SESSION_KEY", "WEBHOOK_SECRET"}},
	{"prod/chain/" + Chain, []string{"DATABASE_URL", "QUEUE_URL", "CACHE_PASSWORD", "SEARCH_API_KEY"}},
	{"prod/project/" + Project, []string{"STRIPE_API_KEY", "MAIL_API_KEY", "SMS_API_KEY", "FRAUD_API_KEY"}},
	{"all/org", []string{"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "SENTRY_DSN", "METRICS_TOKEN"}},
}

// GroupPlace is where the group is, and Members are its variables.
var (
	GroupPlace = "prod/project/" + Project
	Members    = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ACCOUNT_ID"}
)

// Value returns the value of a variable: 40 characters that only its name decides.
func Value(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:20])
}

// Values returns the variables of those names.
func Values(names []string) map[string]any {
	values := make(map[string]any, len(names))
	for _, name := range names {
		values[name] = Value(name)
	}
	return values
}

// Variables returns the whole environment of the agent: 20 variables.
func Variables() map[string]any {
	names := slices.Clone(Members)
	for _, s := range Scopes {
		names = append(names, s.Names...)
	}
	return Values(names)
}

// Filling returns the path and the name of the i-th of the secrets that fill a
// mount: one in five in the organisation, one in ten in 50 projects, the others
// in 300 chains and their 1,200 agents.
func Filling(i int) (path, name string) {
	chain := i / 10 % 300
	place := fmt.Sprintf("prod/chain/chain-%d", chain)
	switch i % 10 {
	case 0, 1:
		place = "all/org"
	case 2:
		place = fmt.Sprintf("prod/project/project-%d", i/10%50)
	case 3, 4, 5:
		place = fmt.Sprintf("prod/agent/chain-%d/agent-%d", chain, i/3000%4)
	}
	name = fmt.Sprintf("FILLING_%07d", i)
	return place + "/" + name, name
}
