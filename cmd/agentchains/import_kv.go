package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"
)

// A kvReader reads a mount of Vault's KV engine.
type kvReader struct {
	client      *api.Client
	mount       string // with the / at its end
	data, lists string // the paths that entries are read at and listed at
	visited     int    // entries and folders
	in          *importSource
}

// readKV reads the entry of a KV engine at a path or, when the path ends with /
// or is that of the mount, all entries below it.
func (in *importSource) readKV(ctx context.Context, client *api.Client, path string) error {
	all := strings.HasSuffix(path, "/")
	path = strings.Trim(path, "/")
	kv, err := newKVReader(ctx, client, path)
	if err != nil {
		return err
	}
	kv.in = in
	name := strings.TrimPrefix(path+"/", kv.mount)
	if name == "" || all {
		err = kv.readFolder(ctx, name)
	} else {
		err = kv.readEntry(ctx, strings.TrimSuffix(name, "/"))
	}
	if err == nil && len(in.list)+len(in.leftOut) == 0 {
		return fmt.Errorf("--kv: there is no entry at %s; a path that ends with / stands for all below it", path)
	}
	return err
}

// newKVReader finds out which mount a path is in, as vault kv does.
func newKVReader(ctx context.Context, client *api.Client, path string) (*kvReader, error) {
	secret, err := client.Logical().ReadWithContext(ctx, "sys/internal/ui/mounts/"+path)
	if err != nil {
		return nil, fmt.Errorf("--kv: find the mount of %s: %w", path, vaultError(err))
	}
	if secret == nil {
		return nil, fmt.Errorf("--kv: there is no mount at %s", path)
	}
	mount, _ := secret.Data["path"].(string)
	if kind, _ := secret.Data["type"].(string); kind != "kv" || mount == "" {
		return nil, fmt.Errorf("--kv: the mount of %s is no KV engine", path)
	}
	options, _ := secret.Data["options"].(map[string]any)
	if options["version"] == "2" {
		return &kvReader{client: client, mount: mount, data: mount + "data/", lists: mount + "metadata/"}, nil
	}
	return &kvReader{client: client, mount: mount, data: mount, lists: mount}, nil
}

// visit counts what is read, because a tree of folders may hold no entry at all.
func (kv *kvReader) visit() error {
	if kv.visited++; kv.visited > mostEntries {
		return errSourceMany
	}
	return nil
}

// readFolder reads all entries below a path, which is empty or ends with /.
func (kv *kvReader) readFolder(ctx context.Context, path string) error {
	if err := kv.visit(); err != nil {
		return err
	}
	secret, err := kv.client.Logical().ListWithContext(ctx, kv.lists+path)
	if err != nil {
		return fmt.Errorf("list %s: %w", printable(kv.lists+path), vaultError(err))
	}
	if secret == nil {
		return nil
	}
	keys, _ := secret.Data["keys"].([]any)
	for _, key := range keys {
		name, _ := key.(string)
		read := kv.readEntry
		if strings.HasSuffix(name, "/") {
			read = kv.readFolder
		}
		if err := read(ctx, path+name); err != nil {
			return err
		}
	}
	return nil
}

func (kv *kvReader) readEntry(ctx context.Context, path string) error {
	if err := kv.visit(); err != nil {
		return err
	}
	secret, err := kv.client.Logical().ReadWithContext(ctx, kv.data+path)
	if err != nil {
		return fmt.Errorf("read %s: %w", printable(kv.data+path), vaultError(err))
	}
	if secret == nil {
		return nil // it was deleted since it was listed
	}
	object := secret.Data
	if kv.data != kv.mount {
		object, _ = secret.Data["data"].(map[string]any) // null when it was deleted
	}
	if len(object) == 0 {
		kv.in.leftOut = append(kv.in.leftOut, kv.mount+path)
		return nil
	}
	return kv.in.addObject(path, object)
}
