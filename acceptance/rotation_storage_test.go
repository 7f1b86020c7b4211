package acceptance

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// forms are what a value looks like in an entry of Vault's storage: as it is, in
// hex, and in base64 wherever in the encoded text it begins. Values of the tests
// are of letters and digits, which JSON leaves alone.
func forms(value string) [][]byte {
	all := [][]byte{[]byte(value), []byte(hex.EncodeToString([]byte(value))), []byte(strings.ToUpper(hex.EncodeToString([]byte(value))))}
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), value...))
		// The first and the last character also depend on what is beside the value.
		all = append(all, []byte(encoded[(before*8+5)/6:(before+len(value))*8/6]))
	}
	return all
}

// entries returns everything in Vault's storage, as Vault decrypts it for root.
func (d *durable) entries() map[string][]byte {
	d.Helper()
	all := map[string][]byte{}
	var collect func(prefix string)
	collect = func(prefix string) {
		listed, err := d.client.Logical().List("sys/raw/" + prefix)
		d.must(err)
		if listed == nil {
			return // deleted meanwhile
		}
		for _, key := range listed.Data["keys"].([]any) {
			path := prefix + key.(string)
			if strings.HasSuffix(path, "/") {
				collect(path)
				continue
			}
			entry, err := d.raw(path, "true")
			if badRequest(err) { // a salt may begin as what is compressed does
				entry, err = d.raw(path, "false")
			}
			if badRequest(err) && strings.HasPrefix(path, "core/") {
				continue // Vault's own keys, and what it keeps beside its encryption
			}
			d.must(err)
			if entry == nil {
				continue
			}
			text, err := base64.StdEncoding.DecodeString(entry.Data["value"].(string))
			d.must(err)
			all[path] = text
		}
	}
	collect("")
	return all
}

func (d *durable) raw(path, decompress string) (*api.Secret, error) {
	return d.client.Logical().ReadWithData("sys/raw/"+path, map[string][]string{"encoding": {"base64"}, "compressed": {decompress}})
}

func badRequest(err error) bool {
	var refusal *api.ResponseError
	return errors.As(err, &refusal) && refusal.StatusCode == http.StatusBadRequest
}

// found returns in how many entries of Vault's storage a value is.
func (d *durable) found(value string) (n int) {
	d.Helper()
	for _, text := range d.entries() {
		if slices.ContainsFunc(forms(value), func(form []byte) bool { return bytes.Contains(text, form) }) {
			n++
		}
	}
	return n
}

func TestFormsAreFound(t *testing.T) {
	t.Parallel()
	value := "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	for _, around := range []string{"", "x", "xy", "xyz", `{"value":"`} {
		text := around + value + around
		for what, encoded := range map[string]string{
			"plain": text, "hex": hex.EncodeToString([]byte(text)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(text))),
			"base64": base64.StdEncoding.EncodeToString([]byte(text)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(text)),
		} {
			if !slices.ContainsFunc(forms(value), func(form []byte) bool { return strings.Contains(encoded, string(form)) }) {
				t.Errorf("%s is not found after %q", what, around)
			}
		}
	}
}
