package redact_test

import (
	"fmt"
	"os"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

func ExampleNewWriter() {
	set := redact.NewSet(redact.Secret{Name: "API_KEY", Version: 3, Value: "Zq3vT8nLw5XcR1kHs9JdM4bPy7FgU2aE"})
	var found []redact.Finding
	w := redact.NewWriter(os.Stdout, set, redact.Options{OnFinding: func(f redact.Finding) { found = append(found, f) }})
	fmt.Fprint(w, "Authorization: Bearer Zq3vT8nLw5")
	fmt.Fprint(w, "XcR1kHs9JdM4bPy7FgU2aE\n")
	_ = w.Close()
	for _, f := range found {
		fmt.Printf("%s@%d as %s: %d bytes from byte %d on\n", f.Name, f.Version, f.Encoding, f.Length, f.Offset)
	}
	// Output:
	// Authorization: Bearer [REDACTED:API_KEY]
	// API_KEY@3 as raw: 32 bytes from byte 22 on
}

func ExampleSet_JSON() {
	set := redact.NewSet(redact.Secret{Name: "PIN", Value: "123456", Force: true})
	out, _, _ := set.JSON([]byte(`{"pin": 123456, "note": "the pin is \u0031\u0032\u003345\u0036"}`))
	fmt.Println(string(out))
	// Output: {"pin": "[REDACTED:PIN]", "note": "the pin is [REDACTED:PIN]"}
}
