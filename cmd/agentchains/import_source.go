package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// What a source may hold at most.
const (
	mostEntries = 10_000
	mostSource  = 64 << 20 // bytes
	mostValue   = 64 << 10 // bytes
)

var (
	errSourceLarge = errors.New("there are more than 64 MiB: import it in parts")
	errSourceMany  = errors.New("there are more than 10,000 entries: import it in parts")
)

// A keyValue is one key of a source with its value.
type keyValue struct {
	entry, key string // the entry of a KV engine, and the key in it; a file has keys only
	value      sensitive.String
	refused    string // why no variable can have the value
}

// from is what the source calls it.
func (k *keyValue) from() string {
	if k.entry == "" {
		return k.key
	}
	return k.entry + "#" + k.key
}

// An importSource is all that was read.
type importSource struct {
	list    []keyValue
	leftOut []string // entries without keys
	bytes   int
}

// add adds a key with its decoded JSON value.
func (in *importSource) add(entry, key string, value any) error {
	k := keyValue{entry: entry, key: key}
	text, ok := valueText(value)
	in.bytes += len(text)
	switch {
	case len(in.list) == mostEntries:
		return errSourceMany
	case in.bytes > mostSource:
		return errSourceLarge
	case !ok:
		k.refused = "the value is an object, a list or null, and not a text"
	case text == "":
		k.refused = "the value is empty"
	case len(text) > mostValue:
		k.refused = "the value is longer than 64 KiB"
	case strings.ContainsRune(text, 0):
		k.refused = "the value holds a NUL byte, which an environment variable cannot carry"
	default:
		k.value = sensitive.New(text)
	}
	in.list = append(in.list, k)
	return nil
}

// valueText returns a decoded JSON value as a variable holds it, if one can.
func valueText(value any) (text string, ok bool) {
	switch value := value.(type) {
	case string:
		return value, true
	case json.Number:
		return value.String(), true
	case bool:
		return strconv.FormatBool(value), true
	}
	return "", false
}

// addObject adds the keys of one object, in order.
func (in *importSource) addObject(entry string, object map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if err := in.add(entry, key, object[key]); err != nil {
			return err
		}
	}
	return nil
}

// decodeExport decodes JSON with its numbers as they are written. Its error
// names no content, which may be a value.
func decodeExport(text string, into any) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(into) == nil {
		if _, err := decoder.Token(); err == io.EOF {
			return nil
		}
	}
	return errors.New("it is not the JSON of such an export")
}

func (in *importSource) parseDoppler(text string) error {
	var object map[string]any
	if err := decodeExport(text, &object); err != nil {
		return err
	}
	return in.addObject("", object)
}

func (in *importSource) parseInfisical(text string) error {
	var list []struct {
		Key   *string `json:"key"`
		Value any     `json:"value"`
	}
	if err := decodeExport(text, &list); err != nil {
		return err
	}
	for number, secret := range list {
		if secret.Key == nil {
			return fmt.Errorf("object %d of the list has no key", number+1)
		}
		if err := in.add("", *secret.Key, secret.Value); err != nil {
			return err
		}
	}
	return nil
}
