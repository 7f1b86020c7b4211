package rotator

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	driver "github.com/go-sql-driver/mysql"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// mysqlType sets passwords of accounts of MySQL and MariaDB.
var mysqlType = &Type{
	Name: "mysql",
	Fields: databaseFields(3306, Field{Name: "database", Kind: Text, Description: "The database that the users log in to."},
		Field{Name: "user_host", Kind: Text, Default: "%", Description: "The host part of the users' accounts."},
		Field{Name: "auth_plugin", Kind: Text, Default: cachingSHA2, Description: "What the users' accounts are identified with: caching_sha2_password, or mysql_native_password as in MariaDB."},
		Field{Name: "dual_password", Kind: Flag, Description: "The server lets one user have two passwords, as MySQL does from 8.0.14 on, and MariaDB does not."},
	),
	FarSide: true,
	New: func(s Settings, h Host) (Rotator, error) {
		e, err := newDatabaseHost(s, h)
		if err != nil {
			return nil, err
		}
		m := &mysql{e, Get[string](s, "user_host"), Get[string](s, "auth_plugin")}
		if m.plugin != cachingSHA2 && m.plugin != native {
			return nil, fmt.Errorf("auth_plugin must be %s or %s", cachingSHA2, native)
		}
		d, err := newDatabase(s, e, "mysql", m)
		if err != nil {
			return nil, err
		}
		switch {
		case d.length > 256:
			return nil, errors.New("length must be at most 256: MySQL takes no longer password")
		case !Get[bool](s, "dual_password"):
			return d, nil
		case len(d.usernames) > 1:
			return nil, errors.New("dual_password is for one user: two take turns without it")
		}
		return &dualPassword{d, m}, nil
	},
	Overlaps: func(s Settings) bool { return alternates(s) || Get[bool](s, "dual_password") },
}

const (
	cachingSHA2 = "caching_sha2_password"
	native      = "mysql_native_password"
)

type mysql struct {
	*databaseHost
	userHost, plugin string
}

func (m *mysql) verifier(password string) (string, error) {
	if m.plugin == native {
		return nativeHash(password), nil
	}
	return cachingSHA2Hash(password, random{cachingSHA2Salt, alphanumeric}.text()), nil
}

func (m *mysql) stored(ctx context.Context, username string) (string, error) {
	var verifier string
	err := m.connect(ctx, m.admin, "", func(ctx context.Context, db *sql.DB) error {
		err := db.QueryRowContext(ctx, "SELECT authentication_string FROM mysql.user WHERE User = ? AND Host = ? AND plugin = ?", username, m.userHost, m.plugin).Scan(&verifier)
		if errors.Is(err, sql.ErrNoRows) || hasNumber(err, 1044, 1142, 1143) { // it is not for this admin to see
			return nil
		}
		return err
	})
	return verifier, err
}

func (m *mysql) set(ctx context.Context, username, verifier string) error {
	return m.alter(ctx, username, "IDENTIFIED WITH "+m.plugin+" AS "+literal(verifier))
}

// alter changes an account.
func (m *mysql) alter(ctx context.Context, username, how string) error {
	return m.connect(ctx, m.admin, "", func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "ALTER USER "+literal(username)+"@"+literal(m.userHost)+" "+how)
		if hasNumber(err, 1396) {
			return fmt.Errorf("%s: %w", username, errNoUser)
		}
		return err
	})
}

// errDenied says that the server does not accept a password.
var errDenied = errors.New("the password is not accepted")

func (m *mysql) login(ctx context.Context, username, password string) error {
	return m.connect(ctx, credentials{username, sensitive.New(password)}, m.name, func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "SELECT 1")
		if hasNumber(err, 1045) {
			return fmt.Errorf("%s: %w", username, errDenied)
		}
		return err
	})
}

// connect calls do with a connection. The error of a server becomes its number:
// its text may quote a statement.
func (m *mysql) connect(ctx context.Context, as credentials, name string, do func(context.Context, *sql.DB) error) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	config := driver.NewConfig() // reads no files, sends no passwords in clear
	config.Net, config.Addr, config.DBName = "tcp", m.address(), name
	config.User, config.Passwd = as.username, as.password.Reveal()
	config.TLS = m.tls
	config.DialFunc = m.dial
	config.Logger = &driver.NopLogger{}
	config.Params = map[string]string{"sql_mode": "''"} // which literal is written for
	connector, err := driver.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	err = do(ctx, db)
	var answer *driver.MySQLError
	if errors.As(err, &answer) {
		return fmt.Errorf("the server at %s answers %s with error %d", m.address(), as.username, answer.Number)
	}
	return err
}

func hasNumber(err error, numbers ...uint16) bool {
	var answer *driver.MySQLError
	return errors.As(err, &answer) && slices.Contains(numbers, answer.Number)
}

// literal quotes a text for MySQL, where a backslash escapes too.
func literal(text string) string {
	return quote(strings.ReplaceAll(text, `\`, `\\`), "'")
}

// dualPassword rotates the password of one user, who has the old one beside the
// new one until the end. Such a change takes no verifier, so the password itself
// is sent, which MySQL keeps out of its logs.
type dualPassword struct {
	*database
	mysql *mysql
}

func (d *dualPassword) Set(ctx context.Context, job *Job) error {
	username := job.New.Memo["username"].Reveal()
	password, ok := d.password(job, job.New.Values, username)
	if !ok {
		return errTemplate
	}
	if err := d.begin(ctx, job); err != nil {
		return err
	}
	// To retain the current password once more would retain the new one, and
	// drop the old one.
	if err := d.login(ctx, username, password); !errors.Is(err, errDenied) {
		return err
	}
	return d.mysql.alter(ctx, username, retaining(password))
}

func retaining(password string) string {
	return "IDENTIFIED BY " + literal(password) + " RETAIN CURRENT PASSWORD"
}

const discarding = "DISCARD OLD PASSWORD"

// Finish discards the old password also where it was made the current one again:
// it is then there twice.
func (d *dualPassword) Finish(ctx context.Context, job *Job) error {
	if _, begun := job.New.Memo["previous"]; !begun {
		return nil
	}
	if err := d.database.Finish(ctx, job); err != nil {
		return err
	}
	if err := d.mysql.alter(ctx, job.New.Memo["username"].Reveal(), discarding); !errors.Is(err, errNoUser) {
		return err
	}
	return nil
}
