package outbound

import (
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// The digest is what OpenSSL says of the same text and key.
func TestSign(t *testing.T) {
	t.Parallel()
	const want = "t=1767225600,v1=cb59099e4e389ac325cfcd644e0a9d7c57dac9259bced350d2235075f4762e01"
	if got := Sign(sensitive.New("a key of the test vector"), []byte(`{"id":"1"}`), time.Unix(1767225600, 999)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
