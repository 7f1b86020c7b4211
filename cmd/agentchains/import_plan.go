package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// A plan says what becomes of an item.
type plan string

const (
	planNew       plan = "new"
	planOverwrite plan = "overwrite"
	planWritten   plan = "written"
	planSame      plan = "same"
	planExists    plan = "exists" // with a value that may not be read
	planConflict  plan = "conflict"
	planRefused   plan = "refused"
)

// An importItem is one secret or group on its way.
type importItem struct {
	from    string // as it may be shown
	to      scope.Address
	values  map[string]sensitive.String // by variable
	size    int
	plan    plan // empty before it was looked at
	why     string
	version int // the newest that was seen, on condition of which it is written
}

// refuse keeps the first reason.
func (item *importItem) refuse(why string) {
	if item.plan == "" {
		item.plan, item.why = planRefused, why
	}
}

// equals reports whether the item is what reveal/ answers.
func (item *importItem) equals(answer map[string]any) bool {
	values, _ := answer["values"].(map[string]any)
	if item.to.Kind == scope.Secret {
		values = map[string]any{item.to.Name: answer["value"]}
	}
	if len(values) != len(item.values) {
		return false
	}
	for name, value := range item.values {
		text, ok := values[name].(string)
		if !ok || !value.Equal(sensitive.New(text)) {
			return false
		}
	}
	return true
}

// An importer imports items.
type importer struct {
	client    *api.Client
	mount     string
	overwrite bool
	items     []*importItem
	progress  progress
}

// path is where an item is written.
func (i *importer) path(item *importItem) string {
	return i.mount + "/" + string(item.to.Kind) + "/" + item.to.Path()
}

// checkEnvironment returns an error when the token may see which environments
// there are, and this is none: every write would be refused.
func (i *importer) checkEnvironment(ctx context.Context, name string) error {
	secret, err := i.client.Logical().ListWithContext(ctx, i.mount+"/env")
	switch {
	case statusOf(err) == http.StatusForbidden:
		return nil
	case err != nil:
		return fmt.Errorf("list %s/env: %w", i.mount, vaultError(err))
	case secret == nil:
		return fmt.Errorf("there is no engine at %s", i.mount)
	}
	if known, _ := secret.Data["keys"].([]any); name != scope.All && !slices.Contains(known, any(name+"/")) {
		return errors.New("--to: the environment is not one of the engine's: add it to config first")
	}
	return nil
}

// look finds out what is there already.
func (i *importer) look(ctx context.Context) error {
	defer i.progress.erase()
	for n, item := range i.items {
		i.progress.entries("looked for", n, len(i.items))
		if item.plan == planRefused {
			continue
		}
		if err := i.lookFor(ctx, item); err != nil {
			return err
		}
	}
	return nil
}

func (i *importer) lookFor(ctx context.Context, item *importItem) error {
	secret, err := i.client.Logical().ReadWithContext(ctx, i.path(item))
	if err != nil {
		return fmt.Errorf("read %s: %w", i.path(item), vaultError(err))
	}
	if secret == nil {
		item.plan, item.version = planNew, 0
		return nil
	}
	pending := versionOf(secret, "pending_version")
	item.version = max(versionOf(secret, "current_version"), pending)
	if item.version == 0 { // the condition of a new one would hold
		item.plan, item.why = planConflict, "its value was revoked"
		return nil
	}
	path := i.mount + "/reveal/" + item.to.Path()
	secret, err = i.client.Logical().ReadWithDataWithContext(ctx, path, map[string][]string{"version": {strconv.Itoa(item.version)}})
	denied := statusOf(err) == http.StatusForbidden
	switch {
	case err != nil && !denied:
		return fmt.Errorf("read %s: %w", path, vaultError(err))
	case denied:
		item.plan, item.why = planExists, "reveal/ is denied, so the value cannot be compared"
	case secret != nil && item.equals(secret.Data):
		item.plan, item.why = planSame, ""
		return nil
	default:
		item.plan, item.why = planConflict, fmt.Sprintf("version %d has another value", item.version)
	}
	if i.overwrite && pending > 0 {
		item.plan, item.why = planConflict, "a rotation is under way"
	} else if i.overwrite {
		item.plan = planOverwrite
	}
	return nil
}

func versionOf(secret *api.Secret, field string) int {
	number, _ := secret.Data[field].(json.Number)
	version, _ := strconv.Atoi(number.String())
	return version
}

// statusOf returns the status that Vault has refused something with, or 0.
func statusOf(err error) int {
	var refusal *api.ResponseError
	if errors.As(err, &refusal) {
		return refusal.StatusCode
	}
	return 0
}

// write writes what is planned, and ends with exitLeft when not all was imported.
func (i *importer) write(ctx context.Context, w io.Writer) error {
	total, n := i.count(planNew, planOverwrite), 0
	var left [][]string
	var failed error
	for _, item := range i.items {
		if item.plan != planNew && item.plan != planOverwrite {
			continue
		}
		i.progress.entries("written", n, total)
		if failed = i.writeItem(ctx, item); failed != nil {
			break
		}
		n++
		if item.why != "" {
			left = append(left, []string{item.from, item.verdict()})
		}
	}
	i.progress.erase()
	t := newTable(w)
	printSection(t, []string{"NOT WRITTEN", "WHY"}, left)
	if err := t.Flush(); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", i.tally()); err != nil {
		return err
	}
	if failed == nil && i.count(planExists, planConflict, planRefused) > 0 {
		return exitLeft
	}
	return failed
}

// writeItem writes one item on condition of the version that was seen.
func (i *importer) writeItem(ctx context.Context, item *importItem) error {
	values := make(map[string]any, len(item.values))
	for name, value := range item.values {
		values[name] = value.Reveal()
	}
	body := map[string]any{"cas": item.version, "values": values}
	if item.to.Kind == scope.Secret {
		body = map[string]any{"cas": item.version, "value": values[item.to.Name]}
	}
	_, err := i.client.Logical().WriteWithContext(ctx, i.path(item), body)
	switch {
	case err == nil:
		item.plan, item.why = planWritten, ""
	case statusOf(err) == http.StatusBadRequest:
		item.plan, item.why = planRefused, vaultError(err).Error()
	case statusOf(err) == http.StatusConflict:
		// The client repeats a write whose answer was lost: it may be its own.
		if err := i.lookFor(ctx, item); err != nil {
			return err
		}
		if item.plan != planSame {
			item.plan, item.why = planConflict, vaultError(err).Error()
		}
	default:
		return fmt.Errorf("write %s: %w", i.path(item), vaultError(err))
	}
	return nil
}

// count returns how many items have one of the plans.
func (i *importer) count(of ...plan) (n int) {
	for _, item := range i.items {
		if slices.Contains(of, item.plan) {
			n++
		}
	}
	return n
}

func (item *importItem) verdict() string {
	if item.why == "" {
		return string(item.plan)
	}
	return string(item.plan) + ": " + item.why
}

// tally says how many items have which plan.
func (i *importer) tally() string {
	var counts []string
	for _, p := range []plan{planNew, planOverwrite, planWritten, planSame, planExists, planConflict, planRefused} {
		if n := i.count(p); n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, p))
		}
	}
	if counts == nil {
		return "There is nothing to import."
	}
	return strings.Join(counts, ", ") + "."
}

// print shows every item, without values.
func (i *importer) print(w io.Writer) error {
	t := newTable(w)
	if len(i.items) > 0 {
		printRow(t, "FROM", "TO", "PLAN")
	}
	for _, item := range i.items {
		to := string(item.to.Kind) + "/" + item.to.Path()
		if item.plan == planRefused { // its name may be anything
			to = "-"
		}
		printRow(t, item.from, to, item.verdict())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\n"+i.tally())
	return err
}

// entries tells how many of the entries were done.
func (p *progress) entries(done string, n, of int) {
	const pause = 200 * time.Millisecond
	if now := time.Now(); p.to != nil && now.Sub(p.shown) >= pause {
		p.shown = now
		fmt.Fprintf(p.to, "\r\x1b[K%s %d of %d", done, n, of)
	}
}
