package agentchains

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

func (b *backend) pathRotators() *framework.Path {
	fields := rotatorFields()
	fields["name"] = pathField("The name of the rotator.")
	return &framework.Path{
		Pattern:        "rotators/" + framework.MatchAllRegex("name"),
		DisplayAttrs:   displayAttrs("", "rotator"),
		Fields:         fields,
		ExistenceCheck: b.rotatorExists,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.CreateOperation: &framework.PathOperation{
				Callback: b.rotatorWrite, Summary: "Set up a rotator.", DisplayAttrs: displayAttrs("create", "rotator"), Responses: okResponse(rotatorFields()),
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback: b.rotatorWrite, Summary: "Change a rotator: only the fields that are sent.", DisplayAttrs: displayAttrs("update", "rotator"), Responses: okResponse(rotatorFields()),
				Description: "When an address changes, sensitive fields that are not sent with it are dropped.",
			},
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.rotatorRead, Summary: "Read a rotator. Sensitive fields are masked.", DisplayAttrs: displayAttrs("read", "rotator"), Responses: okResponse(rotatorFields()),
			},
			logical.DeleteOperation: &framework.PathOperation{
				Callback: b.rotatorDelete, Summary: "Delete a rotator that nothing uses.", DisplayAttrs: displayAttrs("delete", "rotator"), Responses: noContent(),
			},
		},
		HelpSynopsis:    "Rotators: how new values are made.",
		HelpDescription: rotatorsHelp(),
	}
}

func (b *backend) pathRotatorsList() *framework.Path {
	return pathList("rotators/", "rotators", "List rotators.", b.rotatorList)
}

// rotatorsHelp lists the types and their fields.
func rotatorsHelp() string {
	help := "\nThe types of rotators, and their fields:\n\n"
	for _, name := range slices.Sorted(maps.Keys(rotator.Types)) {
		var fields []string
		for _, f := range rotator.Types[name].Fields {
			fields = append(fields, f.Name)
		}
		help += fmt.Sprintf("%s: %s\n", name, strings.Join(fields, ", "))
	}
	return help
}

var fieldTypes = map[rotator.Kind]framework.FieldType{
	rotator.Text: framework.TypeString, rotator.Number: framework.TypeInt, rotator.Flag: framework.TypeBool,
	rotator.Duration: framework.TypeDurationSecond, rotator.List: framework.TypeCommaStringSlice, rotator.Map: framework.TypeMap,
}

// rotatorFields are the fields of all types together.
func rotatorFields() map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{
		"type": {Type: framework.TypeString, Description: "What kind of rotator it is. It does not change."},
	}
	for _, name := range slices.Sorted(maps.Keys(rotator.Types)) {
		fields["type"].AllowedValues = append(fields["type"].AllowedValues, name)
		for _, f := range rotator.Types[name].Fields {
			schema := &framework.FieldSchema{Type: fieldTypes[f.Kind], Description: f.Description}
			if f.Sensitive {
				schema.DisplayAttrs = &framework.DisplayAttributes{Name: f.Name, Sensitive: true}
			}
			fields[f.Name] = schema
		}
	}
	return fields
}

func (e *rotatorEntry) toResponse() *logical.Response {
	data := map[string]any{"type": e.Type}
	for name, setting := range e.settings() {
		switch setting := setting.(type) {
		case sensitive.String:
			data[name] = setting.Mask()
		case map[string]sensitive.String:
			masked := map[string]string{}
			for key, value := range setting {
				masked[key] = value.Mask()
			}
			data[name] = masked
		case time.Duration:
			data[name] = int64(setting / time.Second)
		default:
			data[name] = setting
		}
	}
	return &logical.Response{Data: data}
}

// rotatorName reads the name in the path of a request.
func rotatorName(d *framework.FieldData) (string, error) {
	name := d.Get("name").(string)
	if err := scope.CheckSegment(name); err != nil {
		return "", badRequest("the rotator in the path %s", err)
	}
	return name, nil
}

func (b *backend) rotatorExists(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
	name, err := rotatorName(d)
	if err != nil {
		return false, nil
	}
	e, err := b.getRotator(ctx, req.Storage, name)
	return e != nil, err
}

func (b *backend) rotatorWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := rotatorName(d)
	if err != nil {
		return respond(err)
	}
	ctx, cancel := commitContext(ctx)
	defer cancel()
	lock := b.lockEntry(rotatorKey(name))
	lock.Lock()
	defer lock.Unlock()
	e, err := b.getRotator(ctx, req.Storage, name)
	if err != nil {
		return respond(err)
	}
	if e == nil {
		e = &rotatorEntry{Type: d.Get("type").(string), Settings: map[string]any{}, Secrets: map[string]any{}}
	}
	if err := e.apply(req, d); err != nil {
		return respond(err)
	}
	if err := b.putRotator(ctx, req.Storage, name, e); err != nil {
		return respond(err)
	}
	return e.toResponse(), nil
}

// apply changes the settings that were sent.
func (e *rotatorEntry) apply(req *logical.Request, d *framework.FieldData) error {
	t := rotator.Types[e.Type]
	if t == nil {
		return badRequest("type must be one of %s", strings.Join(slices.Sorted(maps.Keys(rotator.Types)), ", "))
	}
	if sent, ok := d.GetOk("type"); ok && sent != e.Type {
		return badRequest("the type of a rotator does not change: delete it first, or use another name")
	}
	known := map[string]rotator.Field{}
	moved := false
	for _, f := range t.Fields {
		known[f.Name] = f
		if raw, sent := d.Raw[f.Name]; sent && f.Address && fmt.Sprint(raw) != fmt.Sprint(e.Settings[f.Name]) {
			moved = true
		}
	}
	if moved {
		clear(e.Secrets)
	}
	for name := range d.Raw {
		f, ok := known[name]
		switch {
		case name == "type" || name == "name":
			continue
		case !ok:
			return badRequest("%s is not a field of rotators of type %s", name, e.Type)
		}
		value, err := settingSent(req, d, f)
		if err != nil {
			return err
		}
		if f.Sensitive {
			e.Secrets[name] = value
		} else {
			e.Settings[name] = value
		}
	}
	return nil
}

// settingSent returns the value of a field that was sent, as it is stored.
func settingSent(req *logical.Request, d *framework.FieldData, f rotator.Field) (any, error) {
	if f.Kind != rotator.Map {
		value := d.Get(f.Name)
		switch value := value.(type) {
		case string:
			if f.Sensitive {
				return sensitive.New(value), nil
			}
		case int:
			return float64(value), nil // as storage gives it back
		case []string:
			list := make([]any, len(value))
			for i, item := range value {
				list[i] = item
			}
			return list, nil
		}
		return value, nil
	}
	sent, err := stringMap(req, d, f.Name)
	if err != nil {
		return nil, err
	}
	plain, secret := map[string]any{}, map[string]sensitive.String{}
	for name, value := range sent {
		plain[name], secret[name] = *value, sensitive.New(*value)
	}
	if f.Sensitive {
		return secret, nil
	}
	return plain, nil
}

func (b *backend) rotatorRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := rotatorName(d)
	if err != nil {
		return respond(err)
	}
	e, err := b.getRotator(ctx, req.Storage, name)
	if err != nil {
		return respond(err)
	}
	if e == nil {
		return respond(notFound("there is no rotator %s", name))
	}
	return e.toResponse(), nil
}

func (b *backend) rotatorDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := rotatorName(d)
	if err != nil {
		return respond(err)
	}
	users, err := b.rotatorUsers(ctx, req.Storage, name)
	if err != nil {
		return respond(err)
	}
	if len(users) > 0 {
		return respond(conflict("the rotator %s is used by %s: change those first", name, some(users)))
	}
	return respond(cachedDelete(ctx, b.cache, req.Storage, rotatorKey(name)))
}

// some names the first few of many.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func (b *backend) rotatorList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return listScopes(ctx, req.Storage, rotatorPrefix, d)
}
