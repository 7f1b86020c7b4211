package rotator

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// passwordType makes random passwords, by a Vault password policy or of an alphabet.
var passwordType = &Type{
	Name: "password",
	Fields: []Field{
		lengthField,
		{Name: "alphabet", Kind: Text, Default: alphanumeric, Description: "The characters of a new value: at least 10 different printable ones of ASCII."},
		{Name: "policy", Kind: Text, Description: "The name of a password policy of Vault, instead of length and alphabet."},
		templateField,
	},
	New: func(s Settings, h Host) (Rotator, error) {
		r := &password{random{Get[int](s, "length"), Get[string](s, "alphabet")}, Get[string](s, "policy"), "", templates(s, "{{password}}"), h}
		return r, r.check()
	},
}

// apiKeyType makes keys of a prefix and random characters.
var apiKeyType = &Type{
	Name: "api-key",
	Fields: []Field{
		lengthField,
		{Name: "prefix", Kind: Text, Description: "What a new value begins with, beside its random characters."},
		templateField,
	},
	New: func(s Settings, h Host) (Rotator, error) {
		r := &password{random: random{Get[int](s, "length"), alphanumeric}, prefix: Get[string](s, "prefix"), templates: templates(s, "{{password}}"), host: h}
		return r, r.check()
	},
}

// templates returns the settings' templates, by default for the value of a secret.
func templates(s Settings, byDefault string) map[string]string {
	if given := Get[map[string]string](s, "template"); len(given) > 0 {
		return given
	}
	return map[string]string{"value": byDefault}
}

// password makes values that nobody else has to accept.
type password struct {
	random
	policy, prefix string
	templates      map[string]string
	host           Host
}

func (p *password) Create(ctx context.Context, job *Job) error {
	text := p.prefix + p.random.text()
	if p.policy != "" {
		var err error
		if text, err = p.host.Password(ctx, p.policy); err != nil {
			return fmt.Errorf("policy %s gives no password: %w", p.policy, err)
		}
	}
	values, err := render(job, p.templates, map[string]sensitive.String{"password": sensitive.New(text)})
	if err == nil {
		job.New.Values = values
	}
	return err
}

func (*password) Set(context.Context, *Job) error    { return nil }
func (*password) Test(context.Context, *Job) error   { return nil }
func (*password) Finish(context.Context, *Job) error { return nil }

const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// random makes texts of characters that are drawn independently and evenly.
type random struct {
	length   int
	alphabet string
}

func (r random) check() error {
	if r.length < 16 || r.length > 1024 {
		return fmt.Errorf("length must be from 16 to 1024")
	}
	seen := map[byte]bool{}
	for i := range len(r.alphabet) {
		c := r.alphabet[i]
		if c < ' ' || c > '~' || seen[c] {
			return fmt.Errorf("alphabet must hold printable ASCII characters, each once")
		}
		seen[c] = true
	}
	if len(seen) < 10 {
		return fmt.Errorf("alphabet must hold at least 10 characters")
	}
	return nil
}

func (r random) text() string {
	text := make([]byte, r.length)
	for i := range text {
		n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(r.alphabet)))) // it never fails
		text[i] = r.alphabet[n.Int64()]
	}
	return string(text)
}
