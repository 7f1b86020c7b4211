package agentchains

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// HandleRequest checks the input before the framework sees it: the framework's
// own messages about a field quote its value, and Vault logs them.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (resp *logical.Response, err error) {
	defer func() {
		if b.recovered("request", recover()) {
			resp, err = nil, errors.New("internal error: see the server's log")
		}
	}()
	if err := b.checkInput(req); err != nil {
		return respond(err)
	}
	return b.Backend.HandleRequest(ctx, req)
}

// HandleExistenceCheck looks at the path only, so that no body, however wrong,
// decides whether Vault asks the policy for create or for update.
func (b *backend) HandleExistenceCheck(ctx context.Context, req *logical.Request) (found, exists bool, err error) {
	defer func() {
		if b.recovered("existence check", recover()) {
			found, exists, err = true, false, nil
		}
	}()
	pathOnly := *req
	pathOnly.Data = nil
	return b.Backend.HandleExistenceCheck(ctx, &pathOnly)
}

// recovered logs a panic, without its value, which may hold anything. A panic
// that left the process would end every mount that shares it.
func (b *backend) recovered(where string, panicked any) bool {
	if panicked == nil {
		return false
	}
	b.Logger().Error("panic", "in", where, "type", fmt.Sprintf("%T", panicked), "stack", string(debug.Stack()))
	return true
}

// checkInput refuses unknown fields, and values of another JSON type than the
// declared one. Its messages name the field, never what was in it.
func (b *backend) checkInput(req *logical.Request) error {
	if len(req.Data) == 0 {
		return nil
	}
	takes, ok := operationTakes[req.Operation]
	if !ok {
		return nil
	}
	path := b.Route(req.Path)
	if path == nil {
		return nil // the framework answers that the path is not supported
	}
	captures := captureNames(path)
	for name, value := range req.Data {
		schema := path.Fields[name]
		if schema == nil || captures[name] || !takes(name, schema) {
			if !fieldNamePattern.MatchString(name) {
				name = "with that name"
			}
			return badRequest("there is no field %s here: remove it, or see vault path-help", name)
		}
		if value == nil && req.Operation == logical.PatchOperation {
			continue
		}
		check, special := fieldChecks[name]
		if !special || schema.Type == framework.TypeBool { // redact is one of two types
			check = typeChecks[schema.Type]
		}
		if expected := check(value); expected != "" {
			return badRequest("%s must be %s", name, expected)
		}
	}
	return nil
}

// operationTakes says which of a path's fields a request of an operation may have.
var operationTakes = map[logical.Operation]func(name string, schema *framework.FieldSchema) bool{
	logical.CreateOperation: inBody,
	logical.UpdateOperation: inBody,
	logical.PatchOperation:  inBody,
	logical.ReadOperation:   inQuery,
	logical.ListOperation:   inQuery,
	logical.DeleteOperation: func(name string, _ *framework.FieldSchema) bool { return name == "force" },
}

func inBody(_ string, schema *framework.FieldSchema) bool { return !schema.Query }

func inQuery(_ string, schema *framework.FieldSchema) bool { return schema.Query }

var (
	fieldNamePattern = regexp.MustCompile(`^[a-z][a-z_]{0,31}$`)
	capturePattern   = regexp.MustCompile(`\(\?P<([a-z_]+)>`)
	integerPattern   = regexp.MustCompile(`^-?[0-9]{1,15}$`)
)

func captureNames(path *framework.Path) map[string]bool {
	names := map[string]bool{}
	for _, match := range capturePattern.FindAllStringSubmatch(path.Pattern, -1) {
		names[match[1]] = true
	}
	return names
}

// typeChecks return what a value of the type must be, or nothing when it is.
// Besides the JSON type, a scalar may be the string that the vault command and
// a query make of it; nothing else is converted.
var typeChecks = map[framework.FieldType]func(any) string{
	framework.TypeString:           checkString,
	framework.TypeBool:             checkBool,
	framework.TypeInt:              checkInteger,
	framework.TypeDurationSecond:   checkDuration,
	framework.TypeCommaStringSlice: checkStrings,
	framework.TypeCommaIntSlice:    checkIntegers,
	framework.TypeMap:              checkStringMap,
	framework.TypeSlice:            checkSlice,
}

// fieldChecks are for fields whose type the framework has no word for.
var fieldChecks = map[string]func(any) string{
	"expires_at":       checkTime,
	"options":          checkOptions,
	"redact":           checkRedact,
	"time":             checkTime,
	"valid_from":       checkTime,
	"next_rotation_at": checkTime,
}

func checkString(v any) string {
	if _, ok := v.(string); ok {
		return ""
	}
	return "a string"
}

func checkBool(v any) string {
	if _, ok := v.(bool); ok || v == "true" || v == "false" {
		return ""
	}
	return "true or false"
}

func checkInteger(v any) string {
	switch v := v.(type) {
	case int, int64:
		return ""
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return ""
		}
	case json.Number:
		if _, err := v.Int64(); err == nil {
			return ""
		}
	case string:
		if integerPattern.MatchString(v) {
			return ""
		}
	}
	return "an integer"
}

func checkDuration(v any) string {
	const expected = "a duration, such as 10m, 7d or a number of seconds, and not negative"
	if s, ok := v.(string); ok {
		if d, err := parseutil.ParseDurationSecond(s); err != nil || d < 0 {
			return expected
		}
		return ""
	}
	if checkInteger(v) != "" {
		return expected
	}
	if n, err := strconv.ParseFloat(fmt.Sprint(v), 64); err != nil || n < 0 || n > maxSeconds {
		return expected
	}
	return ""
}

// maxSeconds keeps a duration far from overflow: a hundred years.
const maxSeconds = 100 * 365 * 24 * 3600

func checkTime(v any) string {
	if s, ok := v.(string); ok {
		if _, err := time.Parse(time.RFC3339, s); err == nil || s == "" {
			return ""
		}
	}
	return "a time as in RFC 3339, such as 2030-01-31T12:00:00Z"
}

func checkStrings(v any) string {
	switch v := v.(type) {
	case string, []string:
		return ""
	case []any:
		for _, item := range v {
			if _, ok := item.(string); !ok {
				return "a list of strings"
			}
		}
		return ""
	}
	return "a list of strings"
}

func checkIntegers(v any) string {
	const expected = "a number or a list of numbers"
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if checkInteger(item) != "" {
				return expected
			}
		}
		return ""
	case string:
		for _, item := range strings.Split(v, ",") {
			if checkInteger(item) != "" {
				return expected
			}
		}
		return ""
	}
	if checkInteger(v) != "" {
		return expected
	}
	return ""
}

func checkRedact(v any) string {
	if checkBool(v) == "" || checkStrings(v) == "" {
		return ""
	}
	return "true, false or a list of strings"
}

func checkOptions(v any) string {
	options, ok := v.(map[string]any)
	for name, option := range options {
		ok = ok && name == "cas" && checkInteger(option) == ""
	}
	if !ok {
		return "an object with cas, an integer, and nothing else"
	}
	return ""
}

// checkStringMap lets null through: patch deletes a key with it, and the
// handlers of the other operations refuse it.
func checkStringMap(v any) string {
	const expected = "an object of strings: send the body as JSON, with vault write … @file.json"
	m, ok := v.(map[string]any)
	if !ok {
		return expected
	}
	for _, item := range m {
		if _, ok := item.(string); !ok && item != nil {
			return expected
		}
	}
	return ""
}

func checkSlice(v any) string {
	if _, ok := v.([]any); ok {
		return ""
	}
	return "a list"
}
