package agentchains

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// rotatorEntry is what a rotator was set up with. Its sensitive settings are not
// part of its JSON form; see storedRotator.
type rotatorEntry struct {
	Type     string         `json:"type"`
	Settings map[string]any `json:"settings"` // as JSON gives them: see settings
	Secrets  map[string]any `json:"-"`        // a sensitive.String, or a map of them
}

// storedRotator is the form of a rotatorEntry in storage.
type storedRotator struct {
	rotatorEntry
	SecretTexts map[string]any `json:"secret_texts,omitempty"`
}

func (e *rotatorEntry) stored() storedRotator {
	s := storedRotator{*e, map[string]any{}}
	for name, secret := range e.Secrets {
		switch secret := secret.(type) {
		case sensitive.String:
			s.SecretTexts[name] = secret.Reveal()
		case map[string]sensitive.String:
			s.SecretTexts[name] = revealed(secret)
		}
	}
	return s
}

// getRotator returns the rotator of that name, or nil. It is a copy.
func (b *backend) getRotator(ctx context.Context, s logical.Storage, name string) (*rotatorEntry, error) {
	stored, err := cachedGet[storedRotator](ctx, b.cache, s, rotatorKey(name))
	if stored == nil || err != nil {
		return nil, err
	}
	e := &rotatorEntry{stored.Type, maps.Clone(stored.Settings), map[string]any{}}
	for name, secret := range stored.SecretTexts {
		switch secret := secret.(type) {
		case string:
			e.Secrets[name] = sensitive.New(secret)
		case map[string]any:
			e.Secrets[name] = concealed(textMap(secret))
		}
	}
	return e, nil
}

func textMap(m map[string]any) map[string]string {
	texts := make(map[string]string, len(m))
	for name, text := range m {
		texts[name], _ = text.(string)
	}
	return texts
}

func (b *backend) putRotator(ctx context.Context, s logical.Storage, name string, e *rotatorEntry) error {
	if _, err := b.build(ctx, s, e); err != nil {
		return badRequest("%s", err)
	}
	// What is read back has gone through JSON: the cache is to hold that too.
	defer b.cache.drop(rotatorKey(name))
	_, err := putJSON(ctx, s, rotatorKey(name), e.stored())
	return err
}

// settings returns what the type's code gets: defaults are filled in, and each
// value is of its field's kind.
func (e *rotatorEntry) settings() rotator.Settings {
	s := rotator.Settings{}
	for _, f := range rotator.Types[e.Type].Fields {
		switch value, given := e.Settings[f.Name]; {
		case f.Sensitive && e.Secrets[f.Name] != nil:
			s[f.Name] = e.Secrets[f.Name]
		case given && !f.Sensitive:
			s[f.Name] = settingOf(f.Kind, value)
		case f.Default != nil:
			s[f.Name] = f.Default
		}
	}
	return s
}

// settingOf gives a value of JSON the type of its kind.
func settingOf(kind rotator.Kind, value any) any {
	switch value := value.(type) {
	case float64:
		if kind == rotator.Duration {
			return time.Duration(value) * time.Second
		}
		return int(value)
	case []any:
		list := make([]string, len(value))
		for i, item := range value {
			list[i], _ = item.(string)
		}
		return list
	case map[string]any:
		return textMap(value)
	}
	return value
}

// build returns the rotator that the entry describes.
func (b *backend) build(ctx context.Context, s logical.Storage, e *rotatorEntry) (rotator.Rotator, error) {
	t := rotator.Types[e.Type]
	settings := e.settings()
	for _, f := range t.Fields {
		if _, given := settings[f.Name]; f.Required && !given {
			return nil, fmt.Errorf("%s is needed by a rotator of type %s", f.Name, e.Type)
		}
	}
	c, err := b.getConfig(ctx, s)
	if err != nil {
		return nil, err
	}
	return t.New(settings, rotator.Host{Hosts: outbound.Hosts(c.AllowedHosts), Password: b.System().GeneratePasswordFromPolicy})
}

// requireRotator returns a rotator that a schedule or a rotation names.
func (b *backend) requireRotator(ctx context.Context, s logical.Storage, name string) (*rotatorEntry, error) {
	e, err := b.getRotator(ctx, s, name)
	if err == nil && e == nil {
		return nil, badRequest("there is no rotator %s: write rotators/%s first", name, name)
	}
	return e, err
}

// overlaps reports whether the far side takes the old and the new value at the
// same time.
func (e *rotatorEntry) overlaps() bool {
	t := rotator.Types[e.Type]
	return t.Overlaps == nil || t.Overlaps(e.settings())
}

// untested reports whether the rotator cannot try a new value.
func (e *rotatorEntry) untested() bool {
	t := rotator.Types[e.Type]
	return t.Untested != nil && t.Untested(e.settings())
}

// rotatorUsers returns what names a rotator: entries with a schedule or a
// rotation, and config. Lines of the index that are stale are left out.
func (b *backend) rotatorUsers(ctx context.Context, s logical.Storage, name string) ([]string, error) {
	c, err := b.getConfig(ctx, s)
	if err != nil {
		return nil, err
	}
	var users []string
	if c.RotationWebhook == name {
		users = append(users, "config")
	}
	lines, err := listKeys(ctx, s, usePrefix+name+"/")
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		a, err := parseFlat(line)
		if err != nil {
			continue
		}
		e, err := b.getSecret(ctx, s, a)
		if err != nil {
			return nil, err
		}
		if e != nil && slices.Contains(indexLines(e, a), rotatorUseKey(name, a)) {
			users = append(users, a.Path())
		}
	}
	return users, nil
}

// encodings returns a value as texts of a far side may quote it.
func encodings(value string) []string {
	quoted, _ := json.Marshal(value) // a string always encodes
	return []string{value, url.QueryEscape(value), url.PathEscape(value), strings.Trim(string(quoted), `"`), base64.StdEncoding.EncodeToString([]byte(value))}
}

// scrub takes every value that the job or the rotator knows out of a text of the
// far side, which may quote them.
func scrub(text string, job *rotator.Job, settings rotator.Settings) string {
	var secrets []string
	add := func(value sensitive.String) {
		if value.Len() > 0 {
			secrets = append(secrets, encodings(value.Reveal())...)
		}
	}
	for _, values := range []map[string]sensitive.String{job.Old.Values, job.Old.Memo, job.New.Values, job.New.Memo} {
		for value := range maps.Values(values) {
			add(value)
		}
	}
	for setting := range maps.Values(settings) {
		switch setting := setting.(type) {
		case sensitive.String:
			add(setting)
		case map[string]sensitive.String:
			for value := range maps.Values(setting) {
				add(value)
			}
		}
	}
	// The longest first: one may be a part of another.
	slices.SortFunc(secrets, func(x, y string) int { return len(y) - len(x) })
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "[REDACTED]")
	}
	const most = 512
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
