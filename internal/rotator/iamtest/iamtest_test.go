package iamtest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator/iamtest"
)

// client calls a server with a key.
type client struct {
	t   *testing.T
	iam *iam.Client
	sts *sts.Client
}

func newClient(t *testing.T, s *iamtest.Server, id, secret string) client {
	config := aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: &s.URL,
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, nil
		}),
	}
	return client{t, iam.NewFromConfig(config), sts.NewFromConfig(config)}
}

func (c client) create(user string) (iamtest.Key, error) {
	out, err := c.iam.CreateAccessKey(c.t.Context(), &iam.CreateAccessKeyInput{UserName: &user})
	if err != nil {
		return iamtest.Key{}, err
	}
	return iamtest.Key{User: user, ID: *out.AccessKey.AccessKeyId, Secret: *out.AccessKey.SecretAccessKey, Active: true}, nil
}

func (c client) update(k iamtest.Key, status types.StatusType) error {
	_, err := c.iam.UpdateAccessKey(c.t.Context(), &iam.UpdateAccessKeyInput{UserName: &k.User, AccessKeyId: &k.ID, Status: status})
	return err
}

func (c client) delete(k iamtest.Key) error {
	_, err := c.iam.DeleteAccessKey(c.t.Context(), &iam.DeleteAccessKeyInput{UserName: &k.User, AccessKeyId: &k.ID})
	return err
}

// call returns the user that the server takes the caller for.
func (c client) call() (string, error) {
	out, err := c.sts.GetCallerIdentity(c.t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return (*out.Arn)[strings.LastIndex(*out.Arn, "/")+1:], nil
}

// refused fails unless an error has a code of AWS.
func refused(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("%v, want %s", err, code)
	}
}

func newServer(t *testing.T) *iamtest.Server {
	s := iamtest.New()
	t.Cleanup(s.Close)
	return s
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first := s.AddKey("ann", false)
	ann := newClient(t, s, first.ID, first.Secret)
	second, err := ann.create("ann")
	if err != nil {
		t.Fatal(err)
	}
	_, err = ann.create("ann")
	refused(t, err, "LimitExceeded")

	byItself := newClient(t, s, second.ID, second.Secret)
	if user, err := byItself.call(); err != nil || user != "ann" {
		t.Errorf("%s, %v", user, err)
	}
	if err := ann.update(second, types.StatusTypeInactive); err != nil {
		t.Error(err)
	}
	_, err = byItself.call()
	refused(t, err, "InvalidClientTokenId")
	if err := errors.Join(ann.update(second, types.StatusTypeActive), byItself.delete(first)); err != nil {
		t.Error(err)
	}
	_, err = ann.call()
	refused(t, err, "InvalidClientTokenId")
	refused(t, byItself.delete(first), "NoSuchEntity")
	refused(t, byItself.update(second, "Lost"), "ValidationError")
	if keys := s.Keys("ann"); len(keys) != 1 || keys[0] != second {
		t.Errorf("%d keys are left", len(keys))
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ann, bob, admin := s.AddKey("ann", false), s.AddKey("bob", false), s.AddKey("admin", true)

	_, err := newClient(t, s, ann.ID, bob.Secret).call()
	refused(t, err, "SignatureDoesNotMatch")
	_, err = newClient(t, s, "AKIDEXAMPLE", ann.Secret).call()
	refused(t, err, "InvalidClientTokenId")
	_, err = newClient(t, s, ann.ID, ann.Secret).create("bob")
	refused(t, err, "AccessDenied")
	manager := newClient(t, s, admin.ID, admin.Secret)
	if _, err = manager.create("bob"); err != nil {
		t.Error(err)
	}
	_, err = manager.create("nobody")
	refused(t, err, "NoSuchEntity")
	_, err = manager.iam.ListUsers(t.Context(), &iam.ListUsersInput{})
	refused(t, err, "NoSuchEntity")

	answer, err := http.Post(s.URL, "application/x-www-form-urlencoded", strings.NewReader("Action=ListAccessKeys&Version=2010-05-08&UserName=ann"))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		t.Errorf("a request without a signature gives %d", answer.StatusCode)
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first := s.AddKey("ann", false)
	s.Delay(2)
	second, err := newClient(t, s, first.ID, first.Secret).create("ann")
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s, second.ID, second.Secret)
	for range 2 {
		_, err := c.call()
		refused(t, err, "InvalidClientTokenId")
	}
	if _, err := c.call(); err != nil {
		t.Error(err)
	}
}

func TestHook(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first := s.AddKey("ann", false)
	c := newClient(t, s, first.ID, first.Secret)
	for done, want := range map[bool]int{false: 1, true: 2} {
		s.Hook(func(p iamtest.Point) bool { return p != iamtest.Point{Action: "CreateAccessKey", Done: done} })
		if _, err := c.create("ann"); err == nil {
			t.Error("a call that was cut succeeds")
		}
		keys := s.Keys("ann")
		if len(keys) != want {
			t.Errorf("cut with done=%v: %d keys, want %d", done, len(keys), want)
		}
		for _, k := range keys[1:] {
			s.Remove(k.ID)
		}
	}
}
