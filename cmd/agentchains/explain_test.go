package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	tests := []struct {
		answer, agent string
		code          int
		want          string
	}{
		{"explain-resolves.json", "prod deploy-pipeline Deployer", 0, `prod/deploy-pipeline/Deployer resolves to 6 variables.

VARIABLE               FROM                   SCOPE                           ENVIRONMENT  VERSION
OPENAI_API_KEY         secret OPENAI_API_KEY  org                             all          1
DB_URL                 secret DATABASE_URL    chain:deploy-pipeline           prod         1
DEPLOY_TOKEN           secret DEPLOY_TOKEN    agent:deploy-pipeline/Deployer  prod         1
AWS_ACCESS_KEY_ID      group aws-deploy       project:platform                prod         1
AWS_REGION             group aws-deploy       project:platform                prod         1
AWS_SECRET_ACCESS_KEY  group aws-deploy       project:platform                prod         1

NOT FOUND OR NOT GIVEN  WHY
secret SENTRY_DSN       is optional and in no scope

LOOKED IN                       FIRST IN  THEN IN
agent:deploy-pipeline/Deployer  prod      all
chain:deploy-pipeline           prod      all
project:platform                prod      all
org                             prod      all
`},
		{"explain-refused.json", "prod marketing/newsletter Copywriter", 1, `prod/marketing/newsletter/Copywriter does not resolve, so the agent gets nothing.

VARIABLE    FROM               SCOPE                       ENVIRONMENT  VERSION
MAIL_TOKEN  secret MAIL_TOKEN  chain:marketing/newsletter  prod         1

NOT FOUND OR NOT GIVEN  WHY
secret STRIPE_API_KEY   is not in agent or chain scope, and project billing does not allow chain marketing/newsletter

LOOKED IN                              FIRST IN  THEN IN
agent:marketing/newsletter/Copywriter  prod      all
chain:marketing/newsletter             prod      all
`},
		{"explain-expired.json", "dev support-bot Answerer", 1, `dev/support-bot/Answerer does not resolve, so the agent gets nothing.

NOT FOUND OR NOT GIVEN  WHY
secret HELPDESK_TOKEN   (version 1 in chain:support-bot, dev) has expired
`},
	}
	for _, test := range tests {
		t.Run(test.answer, func(t *testing.T) {
			answer := captured(t, test.answer)
			asked := vaultAnswers(t, http.StatusOK, answer)
			agent := strings.Fields(test.agent)
			args := []string{"explain", "--env", agent[0], "--chain", agent[1], "--agent", agent[2]}

			code, stdout, stderr := execute("", args...)
			if code != test.code || stderr != "" {
				t.Errorf("exit code %d, error %q, want %d and none", code, stderr, test.code)
			}
			same(t, "output", stdout, test.want)
			same(t, "path", asked.URL.Path, "/v1/agentchains/explain/"+strings.Join(agent, "/"))

			code, stdout, _ = execute("", append(args, "--json")...)
			if code != test.code || !strings.Contains(answer, compact(t, stdout)) {
				t.Errorf("with --json exit code %d, want %d and the engine's data, got:\n%s", code, test.code, stdout)
			}
		})
	}
}

// compact returns JSON as the captured answers have it.
func compact(t *testing.T, text string) string {
	t.Helper()
	var data any
	if err := json.Unmarshal([]byte(text), &data); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// An environment may be too large although every reference resolves.
func TestExplainWithoutReasons(t *testing.T) {
	t.Parallel()
	e := explanation{Error: "prod/a/b has 1001 variables, more than 1000: give the agent fewer"}
	var out strings.Builder
	if err := e.print(&out, "prod/a/b"); err != nil {
		t.Fatal(err)
	}
	same(t, "output", out.String(), e.Error+"\n")
}
