package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/history"
)

// client does one operation after the other. What it does next follows from its random
// numbers, and not from the answers, but for the execution that it renews or finishes.
type client struct {
	*round
	id   int
	rng  *rand.Rand
	runs []execution // that it has started, and not ended
}

type execution struct {
	id, lease string
	secret    int
}

// patience is how long a client waits for an answer: less than a fault may last.
const patience = 3 * time.Second

// often is how many of each kind there are in a hundred operations.
var often = []struct {
	kind history.Kind
	n    int
}{
	{history.Resolve, 35}, {history.Start, 16}, {history.Renew, 14}, {history.Finish, 11},
	{history.List, 8}, {history.Write, 7}, {history.Rotate, 6}, {history.Revoke, 3},
}

func (c *client) work() {
	for {
		kind, secret, node, n, pause := c.pick(), c.rng.IntN(secrets), c.rng.IntN(len(c.Nodes)), c.rng.Int(), c.rng.IntN(40)
		if !c.do(kind, secret, node, n) {
			pause += 200 // nobody is there
		}
		select {
		case <-c.stop:
			return
		case <-time.After(time.Duration(pause) * time.Millisecond):
		}
	}
}

func (c *client) pick() history.Kind {
	n := c.rng.IntN(100)
	for _, o := range often {
		if n -= o.n; n < 0 {
			return o.kind
		}
	}
	panic("the shares are less than a hundred")
}

// do does one operation, and returns whether it was answered.
func (c *client) do(kind history.Kind, secret, node, n int) bool {
	o := &history.Operation{Client: c.id, Node: node, Kind: kind, Secret: key(secret)}
	agent, path := c.agent(secret), c.secret(secret)
	switch kind {
	case history.Resolve:
		c.perform(o, func(ctx context.Context) (*api.Secret, error) { return c.get(ctx, node, "env/"+agent, nil) })
	case history.List:
		c.perform(o, func(ctx context.Context) (*api.Secret, error) {
			return c.get(ctx, node, "executions/"+agent, map[string][]string{"list": {"true"}})
		})
	case history.Start:
		answer := c.perform(o, c.put(node, "executions/"+agent, data{"ttl": "1h"}))
		if o.Execution != "" {
			c.runs = append(c.runs, execution{o.Execution, answer.LeaseID, secret})
		}
	case history.Write:
		c.perform(o, c.put(node, "secrets/"+path, data{"value": c.value(o)}))
	case history.Rotate:
		c.perform(o, c.put(node, "rotate/"+path, data{"value": c.value(o)}))
	case history.Revoke:
		body := data{"reason": fmt.Sprintf("by client %d at %s", c.id, c.now())}
		if n%2 == 0 {
			body["value"] = c.value(o)
		}
		c.perform(o, c.put(node, "revoke/secret/"+path, body))
	case history.Renew, history.Finish:
		if len(c.runs) == 0 {
			return true
		}
		i := n % len(c.runs)
		x := c.runs[i]
		o.Secret, o.Execution = key(x.secret), x.id
		if kind == history.Renew {
			c.perform(o, func(ctx context.Context) (*api.Secret, error) {
				return c.Nodes[node].Client.Sys().RenewWithContext(ctx, x.lease, 0)
			})
			break
		}
		c.perform(o, c.put(node, "execution/"+x.id+"/finish", data{}))
		if o.Outcome == history.OK {
			c.runs = slices.Delete(c.runs, i, i+1)
		}
	}
	return o.Outcome != history.Unknown
}

func key(secret int) string { return fmt.Sprintf("KEY_%d", secret) }

func (w *round) agent(secret int) string { return fmt.Sprintf("prod/%s/Agent%d", w.chain, secret) }

func (w *round) secret(secret int) string { return "prod/chain/" + w.chain + "/" + key(secret) }

// value returns a new value, and notes its number.
func (c *client) value(o *history.Operation) string {
	o.Value = int(c.values.Add(1))
	return c.marker + strconv.Itoa(o.Value)
}

func (w *round) put(node int, path string, body data) func(context.Context) (*api.Secret, error) {
	return func(ctx context.Context) (*api.Secret, error) {
		return w.Nodes[node].Client.Logical().WriteWithContext(ctx, mount+"/"+path, body)
	}
}

// get is a raw read: the client's own hides the text of a 404.
func (w *round) get(ctx context.Context, node int, path string, query map[string][]string) (*api.Secret, error) {
	resp, err := w.Nodes[node].Client.Logical().ReadRawWithDataWithContext(ctx, mount+"/"+path, query)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return api.ParseSecret(resp.Body)
}

// perform sends a request, and records what came of it.
func (w *round) perform(o *history.Operation, send func(context.Context) (*api.Secret, error)) *api.Secret {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o.Call = w.now()
	answer, err := send(ctx)
	o.Return = w.now()
	why := w.answered(o, answer, err)
	w.mu.Lock()
	w.history.Operations = append(w.history.Operations, *o)
	w.mu.Unlock()
	w.tally.add(string(o.Kind), strings.TrimSpace(string(o.Outcome)+" "+why), 1)
	return answer
}

// answered notes what an answer says, and returns why it was refused or is unknown.
func (w *round) answered(o *history.Operation, answer *api.Secret, err error) (why string) {
	o.Outcome = history.Unknown
	var refusal *api.ResponseError
	switch {
	case err == nil && answer == nil:
		return "not passed on" // a redirection of a node that is not active
	case err == nil:
		o.Outcome = history.OK
		return w.read(o, answer.Data)
	case !errors.As(err, &refusal):
		return "no answer"
	}
	text := strings.Join(refusal.Errors, " ")
	has := func(status int, word string) bool {
		return refusal.StatusCode == status && strings.Contains(text, word)
	}
	switch {
	case has(http.StatusConflict, ""), o.Kind == history.Revoke && has(http.StatusBadRequest, "has no version that could be revoked"):
		o.Outcome = history.Refused
	case (o.Kind == history.Resolve || o.Kind == history.Start) && has(http.StatusBadRequest, "was revoked"):
		o.Outcome = history.OK // it has no value
		return "none"
	case o.Kind == history.List && refusal.StatusCode == http.StatusNotFound && text == "":
		o.Outcome = history.OK // of none
		return ""
	case o.Kind == history.Renew && has(http.StatusBadRequest, history.Terminated):
		o.Outcome, o.Reason = history.Refused, history.Terminated
	case o.Kind == history.Renew && has(http.StatusBadRequest, history.Ended):
		o.Outcome, o.Reason = history.Refused, history.Ended
	}
	return strconv.Itoa(refusal.StatusCode)
}

// read notes what an answer tells.
func (w *round) read(o *history.Operation, answer data) (why string) {
	switch o.Kind {
	case history.Resolve:
		o.Value = w.number(answer[o.Secret])
	case history.Start:
		o.Execution = fmt.Sprint(answer["execution_id"])
		o.Value, o.Version = w.number(answer["env"].(data)[o.Secret]), number(answer["versions"].(data)[o.Secret])
	case history.List:
		o.Executions = texts(answer["keys"])
	case history.Write:
		o.Version = max(number(answer["current_version"]), number(answer["pending_version"]))
	case history.Revoke:
		o.Incident = fmt.Sprint(answer["incident_id"])
		for _, version := range answer["versions"].([]any) {
			o.Versions = append(o.Versions, number(version))
		}
	}
	return ""
}

// number returns which value a text is; -1: none that was ever written.
func (r *run) number(value any) int {
	text, _ := value.(string)
	n, err := strconv.Atoi(strings.TrimPrefix(text, r.marker))
	if err != nil {
		return -1
	}
	return n
}

func number(v any) int {
	n, _ := v.(json.Number).Int64()
	return int(n)
}

func texts(list any) (all []string) {
	for _, v := range list.([]any) {
		all = append(all, fmt.Sprint(v))
	}
	return all
}
