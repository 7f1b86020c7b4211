package agentchains

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin/pb"
)

// TestRespond pins the status and the text that a client of the external
// plugin sees.
func TestRespond(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{badRequest("x must be y"), "400 x must be y"},
		{forbidden("no"), "403 no"},
		{notFound("none"), "404 none"},
		{conflict("busy"), "409 busy"},
		{fmt.Errorf("while writing: %w", conflict("busy")), "409 busy"},
		{errors.New("disk full"), "500 disk full"},
	} {
		resp, err := respond(tt.err)
		err = pb.ProtoErrToErr(pb.ErrToProtoErr(err))
		status, text := logical.RespondErrorCommon(&logical.Request{Operation: update}, resp, err)
		logical.AdjustErrorStatusCode(&status, text)
		if got := fmt.Sprint(status, " ", text); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.err, got, tt.want)
		}
	}
	if _, err := respond(fmt.Errorf("put x: %w", errors.New(logical.ErrReadOnly.Error()))); err != logical.ErrReadOnly {
		t.Errorf("got %v, which Vault does not forward", err)
	}
	if resp, err := respond(nil); resp != nil || err != nil {
		t.Error(resp, err)
	}
}
