package rotator_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// TestAWSAnswers has answers that no AWS gives: none of them may be believed, or
// shown.
func TestAWSAnswers(t *testing.T) {
	t.Parallel()
	const secret = "wJalrXUtnFEMI/EXAMPLEKEY"
	var streamed atomic.Int64
	text := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"a code", text(403, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>`+secret+`</Message></Error></ErrorResponse>`), "AccessDenied"},
		{"a code that is a text", text(403, `<ErrorResponse><Error><Code>the key `+secret+`</Code></Error></ErrorResponse>`), "answers 403"},
		{"a page", text(503, `<html>`+secret), "answers 503"},
		{"nothing", text(500, ``), "answers 500"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/"+secret, http.StatusTemporaryRedirect)
		}, "answers 307"},
		{"another result", text(200, `<a><`+secret+`></a>`), "answers 200"},
		{"half a key", text(200, `<CreateAccessKeyResponse><CreateAccessKeyResult><AccessKey><SecretAccessKey>`+secret), "answers 200"},
		{"no key", text(200, `<CreateAccessKeyResponse><CreateAccessKeyResult/></CreateAccessKeyResponse>`), "no key in the answer"},
		{"a key without a secret", text(200, `<CreateAccessKeyResponse><CreateAccessKeyResult><AccessKey><AccessKeyId>AKIA</AccessKeyId></AccessKey></CreateAccessKeyResult></CreateAccessKeyResponse>`), "no key in the answer"},
		{"no end", func(w http.ResponseWriter, _ *http.Request) {
			piece := strings.Repeat(" ", 1<<20)
			for range 1 << 10 {
				n, err := io.WriteString(w, piece)
				if streamed.Add(int64(n)); err != nil {
					return
				}
			}
		}, "answers 200"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := r.ParseForm(); err != nil {
					t.Error(err)
				}
				if r.PostForm.Get("Action") == "ListAccessKeys" {
					text(200, `<ListAccessKeysResponse><ListAccessKeysResult/></ListAccessKeysResponse>`)(w, r)
					return
				}
				test.answer(w, r)
			}))
			defer far.Close()
			r := &awsRun{t: t}
			var err error
			r.rotator, err = newAWS(map[string]any{
				"iam_endpoint": far.URL, "sts_endpoint": far.URL, "propagation": time.Second,
				"access_key_id": sensitive.New("AKIDEXAMPLE"), "secret_access_key": sensitive.New(secret),
			}, "127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			job := &rotator.Job{Path: "prod/org/aws", Save: func(context.Context) error { return nil }}
			err = r.rotator.Create(t.Context(), job)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "EXAMPLEKEY") {
				t.Errorf("the wrong error: want %s", test.want)
			}
			if len(job.New.Values) > 0 {
				t.Error("there are values")
			}
		})
	}
	t.Cleanup(func() {
		if n := streamed.Load(); n > 512<<20 {
			t.Errorf("%d bytes of an answer without end were taken", n)
		}
	})
}

func TestAWSSettings(t *testing.T) {
	t.Parallel()
	const local = "http://127.0.0.1:1"
	both := map[string]string{"A": "{{access_key_id}}", "B": "{{secret_access_key}}"}
	for _, test := range []struct {
		name  string
		given map[string]any
		hosts []string
		want  string // empty: none
	}{
		{"all by default", nil, []string{"*.amazonaws.com"}, ""},
		{"IAM is not allowed", nil, nil, "iam_endpoint: allowed_hosts does not allow iam.amazonaws.com:443"},
		{"STS is not allowed", nil, []string{"iam.amazonaws.com"}, "sts_endpoint: allowed_hosts does not allow sts.us-east-1.amazonaws.com:443"},
		{"another region", map[string]any{"region": "eu-west-1"}, []string{"iam.amazonaws.com"}, "does not allow sts.eu-west-1.amazonaws.com:443"},
		{"China", map[string]any{"region": "cn-north-1"}, nil, "does not allow iam.cn-north-1.amazonaws.com.cn:443"},
		{"a region that is a host", map[string]any{"region": "a.example.com/"}, []string{"*.amazonaws.com"}, "sts_endpoint: "},
		{"endpoints", map[string]any{"iam_endpoint": local, "sts_endpoint": local}, []string{"127.0.0.1"}, ""},
		{"an endpoint without TLS", map[string]any{"iam_endpoint": "http://iam.amazonaws.com"}, []string{"*.amazonaws.com"}, "iam_endpoint: a URL must begin with https"},
		{"half a key", map[string]any{"access_key_id": sensitive.New("AKIDEXAMPLE")}, []string{"*.amazonaws.com"}, "access_key_id and secret_access_key"},
		{"the other half", map[string]any{"secret_access_key": sensitive.New("x")}, []string{"*.amazonaws.com"}, "access_key_id and secret_access_key"},
		{"too short a time", map[string]any{"propagation": time.Millisecond}, []string{"*.amazonaws.com"}, "propagation must be"},
		{"too long a time", map[string]any{"propagation": time.Hour}, []string{"*.amazonaws.com"}, "propagation must be"},
		{"certificates that are none", map[string]any{"ca_pem": "x"}, []string{"*.amazonaws.com"}, "ca_pem must"},
		{"names of its own", map[string]any{"template": both}, []string{"*.amazonaws.com"}, ""},
		{"no id", map[string]any{"template": map[string]string{"B": "{{secret_access_key}}"}}, nil, "template must have a variable that is {{access_key_id}}"},
		{"an id in a text", map[string]any{"template": map[string]string{"A": "id={{access_key_id}}", "B": "{{secret_access_key}}"}}, nil, "{{access_key_id}}"},
		{"no secret", map[string]any{"template": map[string]string{"A": "{{access_key_id}}"}}, nil, "{{secret_access_key}}"},
		{"a field that is none", map[string]any{"template": map[string]string{"A": "{{access_key_id}}", "B": "{{secret_access_key}}", "C": "{{token}}"}}, nil, "template has {{token}}"},
		{"a template for a secret", map[string]any{"template": map[string]string{"A": "{{access_key_id}}", "value": "{{secret_access_key}}"}}, nil, "template has the name value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := newAWS(test.given, test.hosts...)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
