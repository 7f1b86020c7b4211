package rotator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// postgresqlType sets passwords of roles of PostgreSQL 10 or newer.
var postgresqlType = &Type{
	Name:    "postgresql",
	Fields:  databaseFields(5432, Field{Name: "database", Kind: Text, Default: "postgres", Description: "The database to log in to."}),
	FarSide: true,
	New: func(s Settings, h Host) (Rotator, error) {
		e, err := newDatabaseHost(s, h)
		if err != nil {
			return nil, err
		}
		return newDatabase(s, e, "postgresql", &postgresql{e})
	},
	Overlaps: alternates,
}

type postgresql struct{ *databaseHost }

func (*postgresql) verifier(password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails
	return scramVerifier(password, salt)
}

func (p *postgresql) stored(ctx context.Context, username string) (string, error) {
	var verifier string
	err := p.connect(ctx, p.admin, func(ctx context.Context, conn *pgconn.PgConn) error {
		result := conn.ExecParams(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = $1", [][]byte{[]byte(username)}, nil, nil, nil).Read()
		if len(result.Rows) == 1 {
			verifier = string(result.Rows[0][0])
		}
		if hasSQLState(result.Err, "42501") { // only superusers see pg_authid
			return nil
		}
		return result.Err
	})
	return verifier, err
}

func (p *postgresql) set(ctx context.Context, username, verifier string) error {
	return p.connect(ctx, p.admin, func(ctx context.Context, conn *pgconn.PgConn) error {
		_, err := conn.Exec(ctx, "ALTER ROLE "+quote(username, `"`)+" PASSWORD "+quote(verifier, "'")).ReadAll()
		if hasSQLState(err, "42704") {
			return fmt.Errorf("%s: %w", username, errNoUser)
		}
		return err
	})
}

func (p *postgresql) login(ctx context.Context, username, password string) error {
	return p.connect(ctx, credentials{username, sensitive.New(password)}, func(ctx context.Context, conn *pgconn.PgConn) error {
		_, err := conn.Exec(ctx, "SELECT 1").ReadAll()
		return err
	})
}

// connect calls do with a connection. The error of a server becomes its code:
// its text may quote a statement.
func (p *postgresql) connect(ctx context.Context, as credentials, do func(context.Context, *pgconn.PgConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	config, err := p.config(as)
	if err != nil {
		return err
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err == nil {
		defer func() { _ = conn.Close(ctx) }()
		err = do(ctx, conn)
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return fmt.Errorf("PostgreSQL at %s answers %s with SQLSTATE %.5s", p.address(), as.username, answer.Code)
	}
	var unreachable *pgconn.ConnectError
	if errors.As(err, &unreachable) {
		return unreachable.Unwrap()
	}
	return err
}

// config makes a configuration of nothing but p. ParseConfig, the only way to
// make one, takes what its text leaves open from variables and files.
func (p *postgresql) config(as credentials) (*pgconn.Config, error) {
	// No text overrides this one, which makes it read a service file.
	if err := os.Unsetenv("PGSERVICE"); err != nil {
		return nil, err
	}
	config, err := pgconn.ParseConfig("host=localhost port=5432 user=nobody password=none database=none connect_timeout=0" +
		" sslmode=disable sslcertmode=disable sslrootcert='' sslsni=1 sslnegotiation=postgres" +
		" target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer require_auth=scram-sha-256,md5")
	if err != nil {
		return nil, err
	}
	config.Host, config.Port, config.Database = p.host, uint16(p.port), p.name
	config.User, config.Password = as.username, as.password.Reveal()
	config.TLSConfig = p.tls
	config.RuntimeParams = map[string]string{"application_name": "agentchains"}
	config.DialFunc = p.dial
	// The name is resolved where the address is checked.
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	return config, nil
}

func hasSQLState(err error, code string) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == code
}

// quote quotes an identifier or a text of SQL.
func quote(text, mark string) string {
	return mark + strings.ReplaceAll(text, mark, mark+mark) + mark
}
