package rotator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

func databaseFields(port int, name Field, more ...Field) []Field {
	return append([]Field{
		{Name: "host", Kind: Text, Required: true, Address: true, Description: "The server's name or address."},
		{Name: "port", Kind: Number, Default: port, Address: true, Description: "The server's port."},
		name,
		{Name: "admin_username", Kind: Text, Required: true, Description: "The user that may set the others' passwords."},
		{Name: "admin_password", Kind: Text, Required: true, Sensitive: true, Description: "The password of admin_username."},
		{Name: "usernames", Kind: List, Required: true, Description: "The user that gets a new password, or two that take turns, so that the old password stays good until the end of the rotation."},
		{Name: "tls", Kind: Text, Default: "verify-full", Description: "verify-full, or disable when host is a loopback address."},
		caField,
		lengthField,
		templateField,
	}, more...)
}

// alternates is Overlaps of the types of databases: a user has one password.
func alternates(s Settings) bool { return len(Get[[]string](s, "usernames")) == 2 }

// database rotates the password of a user. With two users it takes turns: one
// gets the new password while the other keeps the old one.
//
// Memo of a version holds username, and verifier, which is what the server stores
// of its password. While the version is new, it also holds replaces, the user of
// the old version, and from the first Set on previous, the verifier that is put
// back when the rotation ends without a promotion.
type database struct {
	server
	random
	usernames []string
	templates func(username string) map[string]string
}

// server is a kind of database server. A password is set by its verifier, so
// that the server and its logs never have it.
type server interface {
	verifier(password string) (string, error)
	// stored returns a user's verifier, and none when the server does not show it.
	stored(ctx context.Context, username string) (string, error)
	// set fails with errNoUser for a user that does not exist.
	set(ctx context.Context, username, verifier string) error
	login(ctx context.Context, username, password string) error
}

var (
	errNoUser   = errors.New("the user does not exist")
	errTemplate = errors.New("template was changed during the rotation: abort it")
)

func newDatabase(s Settings, e *databaseHost, scheme string, server server) (*database, error) {
	d := &database{server, random{Get[int](s, "length"), alphanumeric}, Get[[]string](s, "usernames"), func(username string) map[string]string {
		return templates(s, e.url(scheme, username))
	}}
	if n := len(d.usernames); n < 1 || n > 2 || n == 2 && d.usernames[0] == d.usernames[1] {
		return nil, errors.New("usernames must be one name or two different ones")
	}
	for _, name := range d.usernames {
		switch {
		case name == "" || len(name) > 63 || strings.ContainsFunc(name, unicode.IsControl):
			return nil, errors.New("usernames must have from 1 to 63 bytes and no control characters")
		case name == e.admin.username:
			return nil, errors.New("usernames must not hold admin_username: nobody could log in to set its password")
		}
	}
	if err := checkTemplates(d.templates(d.usernames[0])); err != nil {
		return nil, err
	}
	return d, d.random.check()
}

// marker stands for the password where a template is compared with its value.
const marker = "\x00"

func checkTemplates(templates map[string]string) error {
	found := false
	for _, template := range templates {
		text, err := fill(template, databaseValues("", marker))
		if err != nil {
			return err
		}
		switch strings.Count(text.Reveal(), marker) {
		case 0:
		case 1:
			found = true
		default:
			return errors.New("template must not have {{password}} twice in one value")
		}
	}
	if !found {
		return errors.New("template must have {{password}}")
	}
	return nil
}

func databaseValues(username, password string) map[string]sensitive.String {
	return map[string]sensitive.String{"username": sensitive.New(username), "password": sensitive.New(password)}
}

func (d *database) Create(_ context.Context, job *Job) error {
	if job.New.Values != nil {
		return nil
	}
	replaces := d.user(job)
	username := d.usernames[0]
	if len(d.usernames) == 2 && replaces == username {
		username = d.usernames[1]
	}
	password := d.text()
	verifier, err := d.verifier(password)
	if err != nil {
		return err
	}
	values, err := render(job, d.templates(username), databaseValues(username, password))
	if err != nil {
		return err
	}
	job.New.Values = values
	job.New.Memo = map[string]sensitive.String{
		"username": sensitive.New(username),
		"verifier": sensitive.New(verifier),
		"replaces": sensitive.New(replaces),
	}
	return nil
}

// user returns the user of the old version, which may have been made by hand.
func (d *database) user(job *Job) string {
	if username := job.Old.Memo["username"].Reveal(); username != "" || job.Old.Values == nil {
		return username
	}
	for _, username := range d.usernames {
		if _, ok := d.password(job, job.Old.Values, username); ok {
			return username
		}
	}
	return d.usernames[0]
}

// password finds the password in values that the templates made, or could have made.
func (d *database) password(job *Job, values map[string]sensitive.String, username string) (password string, ok bool) {
	templates := d.templates(username)
	if job.Variable != "" {
		templates = map[string]string{job.Variable: templates["value"]}
	}
	for variable, template := range templates {
		text, err := fill(template, databaseValues(username, marker))
		if err != nil {
			return "", false
		}
		value := values[variable].Reveal()
		before, after, found := strings.Cut(text.Reveal(), marker)
		if !found {
			if value != before {
				return "", false
			}
			continue
		}
		rest, begins := strings.CutPrefix(value, before)
		this, ends := strings.CutSuffix(rest, after)
		// Another character could be written in another way, as in a URL.
		if !begins || !ends || strings.Trim(this, alphanumeric+"-._~") != "" || password != "" && password != this {
			return "", false
		}
		password = this
	}
	return password, password != ""
}

func (d *database) Set(ctx context.Context, job *Job) error {
	if err := d.begin(ctx, job); err != nil {
		return err
	}
	return d.set(ctx, job.New.Memo["username"].Reveal(), job.New.Memo["verifier"].Reveal())
}

// begin saves what Finish puts back if the user's password is about to be replaced.
func (d *database) begin(ctx context.Context, job *Job) error {
	if _, begun := job.New.Memo["previous"]; begun {
		return nil
	}
	var previous string
	if username := job.New.Memo["username"].Reveal(); job.Old.Values != nil && job.New.Memo["replaces"].Reveal() == username {
		var err error
		if previous, err = d.previous(ctx, job, username); err != nil {
			return err
		}
	}
	job.New.Memo["previous"] = sensitive.New(previous)
	return job.Save(ctx)
}

func (d *database) previous(ctx context.Context, job *Job, username string) (string, error) {
	if verifier := job.Old.Memo["verifier"].Reveal(); verifier != "" {
		return verifier, nil
	}
	if password, ok := d.password(job, job.Old.Values, username); ok {
		return d.verifier(password)
	}
	return d.stored(ctx, username)
}

func (d *database) Test(ctx context.Context, job *Job) error {
	username := job.New.Memo["username"].Reveal()
	password, ok := d.password(job, job.New.Values, username)
	if !ok {
		return errTemplate
	}
	return d.login(ctx, username, password)
}

func (d *database) Finish(ctx context.Context, job *Job) error {
	username, replaces := job.New.Memo["username"].Reveal(), job.New.Memo["replaces"].Reveal()
	previous, begun := job.New.Memo["previous"]
	switch {
	case !begun:
		return nil
	case job.Promoted && (replaces == username || replaces == ""):
		return nil // the new password took the place of the old one, if there was one
	case job.Promoted:
		return d.bar(ctx, replaces)
	case replaces != username || job.Old.Values == nil:
		return d.bar(ctx, username)
	case previous.Len() == 0:
		return fmt.Errorf("the old password of %s is not known here: set it at the server by hand", username)
	}
	return d.set(ctx, username, previous.Reveal())
}

// bar gives a user a password that nobody knows. To have none is not the same
// everywhere: a user of MySQL without a password needs none to log in.
func (d *database) bar(ctx context.Context, username string) error {
	verifier, err := d.verifier(random{32, alphanumeric}.text())
	if err != nil {
		return err
	}
	if err := d.set(ctx, username, verifier); !errors.Is(err, errNoUser) {
		return err
	}
	return nil
}
