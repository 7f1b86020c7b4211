package rotator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
)

// httpClient returns a client for the far side of the settings.
func httpClient(s Settings, h Host) (*http.Client, error) {
	roots, err := outbound.Roots(Get[string](s, caField.Name))
	if err != nil {
		return nil, fmt.Errorf("%s %w", caField.Name, err)
	}
	return h.Hosts.Client(roots), nil
}

// endpoint returns the URL in a field, when it may be called.
func endpoint(s Settings, h Host, field string) (*url.URL, error) {
	u, err := h.Hosts.CheckURL(Get[string](s, field))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return u, nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// call sends a request and decodes the JSON that comes back, unless answer is
// nil. When the far side answers anything but success, the error is a *refusal.
func call(ctx context.Context, c *http.Client, method string, u *url.URL, header http.Header, body []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = header
	resp, err := c.Do(req)
	// The client's own error quotes the whole URL.
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return fmt.Errorf("call %s: %w", u.Host, wrapped.Err)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", u.Host, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &refusal{u.Host, resp.StatusCode, text}
	}
	// What an error of the decoder quotes may be a value.
	if answer != nil && resp.StatusCode != http.StatusNoContent && (len(text) > maxAnswer || json.Unmarshal(text, answer) != nil) {
		return fmt.Errorf("the answer of %s is not the JSON that it should be", u.Host)
	}
	return nil
}

// refusal is an answer other than success. Its body is for looking at, not for
// showing: it may hold what was sent.
type refusal struct {
	host   string
	status int
	body   []byte
}

func (r *refusal) Error() string {
	if code := r.code(); code != "" {
		return fmt.Sprintf("%s answers %d (%s)", r.host, r.status, code)
	}
	return fmt.Sprintf("%s answers %d", r.host, r.status)
}

// code returns the error code of OAuth 2.0 and what follows its example.
func (r *refusal) code() string {
	var answer struct{ Error string }
	if json.Unmarshal(r.body, &answer) != nil || !errorCode.MatchString(answer.Error) {
		return ""
	}
	return answer.Error
}

var errorCode = regexp.MustCompile(`^[a-z_]{1,40}$`)

// status returns the status of a refusal, and 0 for any other error.
func status(err error) int {
	if r := (*refusal)(nil); errors.As(err, &r) {
		return r.status
	}
	return 0
}
