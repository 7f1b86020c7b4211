package main

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

const mostGroup = 128 << 10 // bytes of names and values

// A naming says what the names of a source become.
type naming struct {
	renames map[string]string
	used    map[string]bool
	upper   bool
	keys    *redact.Set // that may stand where a name should
}

func newNaming(renames []string, upper bool) (*naming, error) {
	n := &naming{map[string]string{}, map[string]bool{}, upper, redact.NewSet()}
	n.keys.FindFormats(redact.Precise)
	for _, rename := range renames {
		at := strings.LastIndexByte(rename, '=') // a key may hold one, a new name not
		if at < 1 {
			return nil, errors.New("--rename must be OLD=NEW")
		}
		n.renames[rename[:at]] = rename[at+1:]
	}
	return n, nil
}

// shown returns a name of the source as it may be printed.
func (n *naming) shown(name string) string {
	const most = 100
	name, _ = n.keys.String(name)
	if runes := []rune(printable(name)); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return printable(name)
}

// renamed returns the new name of what has one of these names.
func (n *naming) renamed(names ...string) (string, bool) {
	for _, old := range names {
		if name, ok := n.renames[old]; ok {
			n.used[old] = true
			return name, true
		}
	}
	return "", false
}

// isKey reports whether a key of a known format stands where a name should. In
// upper case it would be taken for a name.
func (n *naming) isKey(name string) bool {
	_, found := n.keys.String(name)
	return len(found) > 0
}

var toUpper = strings.NewReplacer("-", "_", ".", "_")

func (n *naming) variable(k *keyValue) string {
	name, ok := n.renamed(k.from(), k.key)
	switch {
	case ok:
		return name
	case n.upper && !n.isKey(k.key):
		return strings.ToUpper(toUpper.Replace(k.key))
	}
	return k.key
}

// items returns what is to be made of the keys of a source: a secret of each, or
// a group of each entry.
func (n *naming) items(list []keyValue, place scope.Place, groups bool) ([]*importItem, error) {
	var items []*importItem
	for i := range list {
		k := &list[i]
		if !groups {
			name := n.variable(k)
			items = append(items, newImportItem(n.shown(k.from()), scope.Address{Place: place, Kind: scope.Secret, Name: name}))
			items[i].addValue(name, "", k)
			continue
		}
		if i == 0 || k.entry != list[i-1].entry {
			name, ok := n.renamed(k.entry)
			if !ok {
				name = path.Base(k.entry)
			}
			items = append(items, newImportItem(n.shown(k.entry), scope.Address{Place: place, Kind: scope.Group, Name: name}))
		}
		items[len(items)-1].addValue(n.variable(k), n.shown(k.key)+": ", k)
	}
	for _, old := range slices.Sorted(maps.Keys(n.renames)) {
		if !n.used[old] {
			return nil, fmt.Errorf("--rename: the source has no %s", n.shown(old))
		}
	}
	refuseTwins(items)
	return items, nil
}

// newImportItem refuses a name that the engine would refuse.
func newImportItem(from string, to scope.Address) *importItem {
	item := &importItem{from: from, to: to, values: map[string]sensitive.String{}}
	check := scope.CheckVariable
	if to.Kind == scope.Group {
		check = scope.CheckGroup
	}
	if err := check(to.Name); err != nil {
		item.refuse("the name " + err.Error())
	}
	return item
}

// addValue adds a variable. What is wrong with it makes all of the item refused,
// and is told after the prefix.
func (item *importItem) addValue(name, prefix string, k *keyValue) {
	_, twice := item.values[name]
	err := scope.CheckVariable(name)
	switch {
	case err != nil:
		item.refuse(prefix + "the name " + err.Error())
	case k.refused != "":
		item.refuse(prefix + k.refused)
	case twice:
		item.refuse(prefix + "another key has the same name")
	}
	item.values[name] = k.value
	if item.size += len(name) + k.value.Len(); item.size > mostGroup {
		item.refuse("the values are longer than 128 KiB together")
	}
}

// refuseTwins refuses all that would be written to one place: which of them is
// meant cannot be told.
func refuseTwins(items []*importItem) {
	first := map[string]*importItem{}
	for _, item := range items {
		if twin := first[item.to.Name]; twin != nil {
			twin.refuse("the source has this name more than once")
			item.refuse("the source has this name more than once")
		}
		first[item.to.Name] = item
	}
}
