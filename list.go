package agentchains

import (
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// pathList is the contract of a LIST below a door, such as secrets/. It is a
// path of its own, and before the one of the door's other operations, so that
// those are not documented with its parameters.
func pathList(door, noun, summary string, callback framework.OperationFunc) *framework.Path {
	return &framework.Path{
		Pattern:      door + "(?P<path>.*/)?",
		DisplayAttrs: displayAttrs("list", noun),
		Fields: map[string]*framework.FieldSchema{
			"path":  pathField("The segments to list below, with a slash at the end; nothing lists the first ones."),
			"after": {Type: framework.TypeString, Query: true, Description: "List only what sorts after this key."},
			"limit": {Type: framework.TypeInt, Query: true, Description: "List at most this many keys. Without it the list is complete."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: &framework.PathOperation{
				Callback:     callback,
				Summary:      summary,
				DisplayAttrs: displayAttrs("list", noun),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"keys": {Type: framework.TypeStringSlice, Description: "Entries, and with a slash at the end the segments below."},
				}),
			},
		},
		HelpSynopsis:    summary,
		HelpDescription: "Answers the keys below " + door + "<path>, sorted. A key with a slash at the end has more below it.",
	}
}

// page returns the part of sorted keys after one, at most so many.
func page(keys []string, after string, limit int) []string {
	at, found := slices.BinarySearch(keys, after)
	if found && after != "" {
		at++
	}
	keys = keys[at:]
	return keys[:min(limit, len(keys))]
}

// pageUnsorted is page for keys in any order, of which there may be 100,000: it
// sorts only what may be on the page.
func pageUnsorted(keys []string, after string, limit int) []string {
	kept, last := []string{}, ""
	for _, key := range keys {
		if key <= after || last != "" && key > last {
			continue
		}
		if kept = append(kept, key); len(kept) == 2*limit {
			slices.Sort(kept)
			kept, last = kept[:limit], kept[limit-1]
		}
	}
	slices.Sort(kept)
	return kept[:min(limit, len(kept))]
}

// sortedUnion returns what is in either list, sorted.
func sortedUnion(x, y []string) []string {
	all := slices.Concat(x, y)
	slices.Sort(all)
	return slices.Compact(all)
}

// list answers a LIST with the page of keys, which are sorted, that was asked for.
func list(keys []string, d *framework.FieldData) (*logical.Response, error) {
	limit := d.Get("limit").(int)
	if limit < 0 {
		return respond(badRequest("limit must not be negative"))
	}
	if limit == 0 {
		limit = len(keys)
	}
	return logical.ListResponse(page(keys, d.Get("after").(string), limit)), nil
}
