package outbound

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// SignatureHeader is the header of a request that carries what Sign returns.
const SignatureHeader = "X-Agentchains-Signature"

// Sign returns t=<seconds>,v1=<hex>: the time, and the HMAC-SHA256 of the time's
// seconds, a dot and the body. With the time in it, whoever checks it can refuse
// a request that somebody recorded.
func Sign(secret sensitive.String, body []byte, now time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret.Reveal()))
	fmt.Fprintf(mac, "%d.", now.Unix())
	mac.Write(body)
	return fmt.Sprintf("t=%d,v1=%s", now.Unix(), hex.EncodeToString(mac.Sum(nil)))
}
