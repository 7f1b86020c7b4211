package outbound

import (
	"crypto/x509"
	"errors"
	"regexp"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// Roots returns the certificates in a text of PEM, and nil, which stands for the
// system's, for an empty one.
func Roots(pem string) (*x509.CertPool, error) {
	if pem == "" {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("must hold a certificate in PEM")
	}
	return roots, nil
}

var (
	headerName  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	headerValue = regexp.MustCompile(`^[\t -~]*$`)
)

// CheckHeaders reports a header of which the name or the value is not one.
func CheckHeaders(headers map[string]sensitive.String) error {
	for name, value := range headers {
		if !headerName.MatchString(name) || !headerValue.MatchString(value.Reveal()) {
			return errors.New("must have names and values that HTTP allows")
		}
	}
	return nil
}
