package agentchains

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
)

// apiError is an error for the caller: a status and one sentence that says
// what was wrong, where, and what to do. It never holds a secret value.
type apiError struct {
	status int
	text   string
}

func (e *apiError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func forbidden(format string, args ...any) error {
	return &apiError{http.StatusForbidden, fmt.Sprintf(format, args...)}
}

// notFound is for an entry, chain or agent that does not exist, and for
// nothing else: clients drop the text of a 404, and some delete on it.
func notFound(format string, args ...any) error {
	return &apiError{http.StatusNotFound, fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &apiError{http.StatusConflict, fmt.Sprintf(format, args...)}
}

// locked is for what an operator keeps out until a hold is released.
func locked(format string, args ...any) error {
	return &apiError{http.StatusLocked, fmt.Sprintf(format, args...)}
}

// notReady asks the client to try again.
func notReady(format string, args ...any) error {
	return &apiError{http.StatusServiceUnavailable, fmt.Sprintf(format, args...)}
}

// tooMany is for who asks more often than he may.
func tooMany(format string, args ...any) error {
	return &apiError{http.StatusTooManyRequests, fmt.Sprintf(format, args...)}
}

// respond turns an error into what Vault passes on with the right status. A
// coded error leaves bare and alone: wrapped it would become a 500 on its way
// through gRPC, and beside a response a 400.
func respond(err error) (*logical.Response, error) {
	var api *apiError
	switch {
	case errors.As(err, &api) && api.status == http.StatusBadRequest:
		return logical.ErrorResponse("%s", api.text), nil
	case errors.As(err, &api):
		return nil, logical.CodedError(api.status, api.text)
	case isReadOnly(err):
		return nil, logical.ErrReadOnly
	}
	return nil, err
}

// isReadOnly goes by the text because an error of storage reaches a plugin as
// text only. Vault forwards the request to the node that can write.
func isReadOnly(err error) bool {
	return err != nil && strings.Contains(err.Error(), logical.ErrReadOnly.Error())
}
