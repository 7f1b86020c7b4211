package rotator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// connectAWS makes clients of nothing but the settings: the SDK's own loader of a
// configuration would look into the process's environment and files.
func connectAWS(s Settings, h Host) (*iam.Client, *sts.Client, error) {
	client, err := httpClient(s, h)
	if err != nil {
		return nil, nil, err
	}
	client.Timeout = stepTimeout
	config := aws.Config{
		Region:     Get[string](s, "region"),
		HTTPClient: bounded{client},
		Retryer:    func() aws.Retryer { return aws.NopRetryer{} }, // whoever calls a step tries again
		APIOptions: []func(*middleware.Stack) error{withoutEnvironment},
	}
	iamEndpoint, stsEndpoint := given(s, "iam_endpoint"), given(s, "sts_endpoint")

	ctx := context.Background() // nothing is called
	toIAM, err := iam.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, iam.EndpointParameters{Region: &config.Region, Endpoint: iamEndpoint})
	if err == nil {
		_, err = h.Hosts.CheckURL(toIAM.URI.String())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("iam_endpoint: %w", err)
	}
	toSTS, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, sts.EndpointParameters{Region: &config.Region, Endpoint: stsEndpoint})
	if err == nil {
		_, err = h.Hosts.CheckURL(toSTS.URI.String())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sts_endpoint: %w", err)
	}
	return iam.NewFromConfig(config, func(o *iam.Options) { o.BaseEndpoint = iamEndpoint }),
		sts.NewFromConfig(config, func(o *sts.Options) { o.BaseEndpoint = stsEndpoint }), nil
}

// given returns the text of a field, and nil when there is none.
func given(s Settings, name string) *string {
	if text := Get[string](s, name); text != "" {
		return &text
	}
	return nil
}

// accessKey is a key of AWS. It is an aws.CredentialsProvider.
type accessKey struct{ id, secret sensitive.String }

func (k accessKey) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: k.id.Reveal(), SecretAccessKey: k.secret.Reveal()}, nil
}

func (k accessKey) sign(o *iam.Options) { o.Credentials = k }

// bounded is a client that reads no more of an answer than one may need.
type bounded struct{ client *http.Client }

func (b bounded) Do(r *http.Request) (*http.Response, error) {
	response, err := b.client.Do(r)
	if err == nil {
		response.Body = http.MaxBytesReader(nil, response.Body, maxAnswer)
	}
	return response, err
}

// withoutEnvironment takes out of a call what the SDK tells AWS of the process's
// environment: how it runs, in the User-Agent, and what called it.
func withoutEnvironment(stack *middleware.Stack) error {
	if _, err := stack.Build.Remove((*awsmiddleware.RecursionDetection)(nil).ID()); err != nil {
		return err
	}
	return smithyhttp.SetHeaderValue("User-Agent", "vault-plugin-secrets-agentchains")(stack)
}

var awsCode = regexp.MustCompile(`^[A-Za-z0-9.]{1,64}$`)

// awsError returns an error without what AWS answered, in which a key may be,
// except for its status and code.
func awsError(what string, err error) error {
	var (
		cancelled *smithy.CanceledError
		sent      *url.Error
		answered  *smithyhttp.ResponseError
		refused   smithy.APIError
	)
	switch {
	case errors.As(err, &cancelled):
		return fmt.Errorf("%s: %w", what, cancelled.Err)
	case errors.As(err, &sent):
		return fmt.Errorf("%s: %w", what, sent.Err)
	case errors.As(err, &answered):
		code := "no code"
		if errors.As(err, &refused) && awsCode.MatchString(refused.ErrorCode()) {
			code = refused.ErrorCode()
		}
		return fmt.Errorf("%s: AWS answers %d (%s)", what, answered.HTTPStatusCode(), code)
	}
	return fmt.Errorf("%s: the request cannot be made", what)
}
