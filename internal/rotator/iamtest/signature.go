package iamtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// signature is an AWS Signature Version 4, as the header Authorization carries it.
type signature struct {
	keyID, day, region, service string
	headers                     []string
	mac                         string
}

const algorithm = "AWS4-HMAC-SHA256"

func parseSignature(authorization string) (signature, error) {
	fields, ok := strings.CutPrefix(authorization, algorithm+" ")
	if !ok {
		return signature{}, errors.New("no " + algorithm)
	}
	values := map[string]string{}
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		values[name] = value
	}
	scope := strings.Split(values["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return signature{}, errors.New("no credential scope")
	}
	return signature{scope[0], scope[1], scope[2], scope[3], strings.Split(values["SignedHeaders"], ";"), values["Signature"]}, nil
}

// verify checks the signature of a request for the path / without a query.
func (s signature) verify(r *http.Request, body []byte, secret string, now time.Time) error {
	const layout, skew = "20060102T150405Z", 5 * time.Minute
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse(layout, date)
	switch {
	case err != nil || !strings.HasPrefix(date, s.day+"T"):
		return errors.New("the date is not that of the credential")
	case now.Sub(at).Abs() > skew:
		return errors.New("the date is too far away")
	case !slices.IsSorted(s.headers):
		return errors.New("the headers are not in order")
	}
	for name := range r.Header {
		name = strings.ToLower(name)
		if (name == "content-type" || strings.HasPrefix(name, "x-amz-")) && !slices.Contains(s.headers, name) {
			return fmt.Errorf("%s is not signed", name)
		}
	}
	if !slices.Contains(s.headers, "host") {
		return errors.New("host is not signed")
	}

	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n/\n\n", r.Method)
	for _, name := range s.headers {
		fmt.Fprintf(&canonical, "%s:%s\n", name, header(r, name))
	}
	fmt.Fprintf(&canonical, "\n%s\n%s", strings.Join(s.headers, ";"), digest(body))

	scope := strings.Join([]string{s.day, s.region, s.service, "aws4_request"}, "/")
	toSign := strings.Join([]string{algorithm, date, scope, digest([]byte(canonical.String()))}, "\n")
	key := []byte("AWS4" + secret)
	for _, text := range []string{s.day, s.region, s.service, "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		key = mac.Sum(nil)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(key)), []byte(s.mac)) {
		return errors.New("the signature is another one")
	}
	return nil
}

// header returns the value of a header in its canonical form. The server of
// net/http takes two of them out of the others.
func header(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
