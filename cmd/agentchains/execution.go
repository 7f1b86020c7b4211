package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// An execution is a started one, as its runner holds it.
type execution struct {
	client *api.Client // repeats nothing by itself
	mount  string
	id     string
	lease  string
	env    map[string]variable

	generation int
	until      time.Time // the lease is over, as far as the runner knows
	ttl        time.Duration
}

// A variable is one that the agent is given.
type variable struct {
	value   string
	version int
	redact  string // always, never, or unless_common
}

// An order is why an execution must stop.
type order struct {
	told     bool // by somebody, who wants a receipt
	reason   string
	incident string
}

func (o *order) String() string {
	if o.incident != "" {
		return fmt.Sprintf("%s (incident %s)", o.reason, o.incident)
	}
	return o.reason
}

// startExecution starts an execution, and renews its lease at once, which drops
// the copy of the environment that Vault keeps in it.
func startExecution(ctx context.Context, client *api.Client, mount, agent string, fields map[string]any) (*execution, error) {
	path := mount + "/executions/" + agent
	sent := time.Now()
	secret, err := client.Logical().WriteWithContext(ctx, path, fields)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, vaultError(err))
	}
	x := &execution{mount: mount, lease: secret.LeaseID, env: variables(secret.Data), generation: 1}
	x.id, _ = secret.Data["execution_id"].(string)
	x.extend(sent, secret.LeaseDuration)
	if x.client, err = client.CloneWithHeaders(); err != nil {
		return nil, fmt.Errorf("settings of Vault: %w", err)
	}
	x.client.SetToken(client.Token())
	x.client.SetMaxRetries(0)
	if over := x.renew(ctx); over != nil {
		return nil, fmt.Errorf("start %s: %s", path, over.reason)
	}
	return x, nil
}

// variables returns those in the answer to a start. An engine that does not say
// how one is to be redacted leaves that to its value.
func variables(data map[string]any) map[string]variable {
	env := map[string]variable{}
	values, _ := data["env"].(map[string]any)
	versions, _ := data["versions"].(map[string]any)
	modes, _ := data["redact"].(map[string]any)
	for name := range values {
		v := variable{redact: redactUnlessCommon}
		v.value, _ = values[name].(string)
		if number, ok := versions[name].(json.Number); ok {
			version, _ := number.Int64()
			v.version = int(version)
		}
		if mode, ok := modes[name].(string); ok {
			v.redact = mode
		}
		env[name] = v
	}
	return env
}

// extend notes a lease of so many seconds from when it was asked for. The time
// is monotonic, so that a clock that is set changes nothing.
func (x *execution) extend(sent time.Time, seconds int) {
	x.ttl = time.Duration(seconds) * time.Second
	x.until = sent.Add(x.ttl)
}

// renew renews the lease once, while there is one. It returns an order when the
// lease is refused; what else goes wrong is for the next try.
func (x *execution) renew(ctx context.Context) *order {
	ctx, cancel := context.WithTimeout(ctx, min(requestLimit, time.Until(x.until)))
	defer cancel()
	sent := time.Now()
	secret, err := x.client.Sys().RenewWithContext(ctx, x.lease, 0)
	if err == nil {
		x.extend(sent, secret.LeaseDuration)
		return nil
	}
	return refusal(err)
}

const requestLimit = 15 * time.Second

// refusal returns the order that an error of Vault amounts to, or nothing when
// it says nothing about the execution. A renewal that fails is always a 400,
// whatever failed: the engine's word in its text tells.
func refusal(err error) *order {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return nil
	}
	text := strings.Join(answer.Errors, " ")
	switch {
	case strings.Contains(text, "EXECUTION_TERMINATED"):
		return &order{told: true, reason: "it was told to stop"}
	case strings.Contains(text, "EXECUTION_ENDED"), strings.Contains(text, "lease not found"), strings.Contains(text, "lease expired"), strings.Contains(text, "past the max TTL"):
		return &order{reason: "its lease has ended"}
	case answer.StatusCode == http.StatusForbidden:
		return &order{reason: "its token is no longer good"}
	case answer.StatusCode == http.StatusNotFound:
		return &order{reason: "Vault does not know the execution any more"}
	}
	return nil
}

// keep renews the lease until it is refused or over.
func (x *execution) keep(ctx context.Context) *order {
	tries := 0
	for {
		pause := min(x.ttl/3, time.Until(x.until))
		if tries > 0 {
			pause = min(backoff(tries), time.Until(x.until))
		}
		if !sleep(ctx, pause) {
			return nil
		}
		before := x.until
		if over := x.renew(ctx); over != nil {
			if over.told {
				if state, err := x.state(ctx, "", nil); err == nil {
					over.reason, over.incident = state.Reason, state.IncidentID
				}
			}
			return over
		}
		if tries++; x.until.After(before) {
			tries = 0
		}
		switch {
		case x.ttl == 0: // less than a second is left
			return &order{reason: "its time is over"}
		case !time.Now().Before(x.until):
			return &order{reason: "Vault is out of reach, and its lease is over"}
		}
	}
}

// keepToken renews the runner's token: the execution ends with it. What the
// token may not, or need not, is left alone.
func (x *execution) keepToken(ctx context.Context) {
	for {
		token, err := x.client.Auth().Token().LookupSelfWithContext(ctx)
		if err != nil {
			return
		}
		ttl, err := token.TokenTTL()
		if renewable, _ := token.TokenIsRenewable(); err != nil || !renewable || ttl <= 0 {
			return
		}
		if !sleep(ctx, ttl/2) {
			return
		}
		for tries := 1; ; tries++ {
			_, err := x.client.Auth().Token().RenewSelfWithContext(ctx, 0)
			if err == nil || refusal(err) != nil {
				break
			}
			if !sleep(ctx, backoff(tries)) {
				return
			}
		}
	}
}

// watch waits for an order to stop.
func (x *execution) watch(ctx context.Context) *order {
	const least = 200 * time.Millisecond // between two polls
	tries := 0
	for {
		asked := time.Now()
		state, err := x.state(ctx, "/watch", map[string][]string{"generation": {strconv.Itoa(x.generation)}, "wait": {"5"}})
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err != nil:
			if over := refusal(err); over != nil {
				return over
			}
			tries++
			if !sleep(ctx, backoff(tries)) {
				return nil
			}
			continue
		case state.State == "terminating":
			return &order{told: true, reason: state.Reason, incident: state.IncidentID}
		case state.State != "active":
			return &order{reason: "the execution is " + state.State}
		}
		tries, x.generation = 0, state.Generation
		if !sleep(ctx, least-time.Since(asked)) {
			return nil
		}
	}
}

type executionState struct {
	State      string `json:"state"`
	Generation int    `json:"generation"`
	Reason     string `json:"reason"`
	IncidentID string `json:"incident_id"`
}

// state reads the state of the execution, at once or by a long poll.
func (x *execution) state(ctx context.Context, verb string, query map[string][]string) (*executionState, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	resp, err := x.client.Logical().ReadRawWithDataWithContext(ctx, x.mount+"/execution/"+x.id+verb, query)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Data executionState `json:"data"`
	}
	return &answer.Data, json.NewDecoder(resp.Body).Decode(&answer)
}

// tell says something of the execution, such as how it ended, and tries until
// it is heard or refused.
func (x *execution) tell(ctx context.Context, verb string, fields map[string]any) error {
	for tries := 1; ; tries++ {
		_, err := x.client.Logical().WriteWithContext(ctx, x.mount+"/execution/"+x.id+"/"+verb, fields)
		var answer *api.ResponseError
		if err == nil || errors.As(err, &answer) && answer.StatusCode < http.StatusInternalServerError {
			return err
		}
		if !sleep(ctx, backoff(tries)) {
			return err
		}
	}
}

// tellFinding tells of something that was found in the agent's output.
func (x *execution) tellFinding(ctx context.Context, r report) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	return x.tell(ctx, "finding", r.fields())
}

// backoff is the pause before a try: it doubles from 0.2 to 5 seconds, and a
// random half of it keeps a thousand runners from coming at once.
func backoff(tries int) time.Duration {
	const first, most = 200 * time.Millisecond, 5 * time.Second
	pause := min(first<<min(tries-1, 10), most)
	return pause/2 + rand.N(pause/2)
}

// sleep reports whether it was not broken off.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
