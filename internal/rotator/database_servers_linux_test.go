package rotator_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

const adminPassword = "the-admins-own-password"

// databaseServer is a server that runs for a test.
type databaseServer struct {
	kind    string // its type of rotators
	admin   string
	port    int
	ca      string // PEM
	dir     string
	account string // the statement that makes one, with its name and password
	quoted  *strings.Replacer
	log     *watched
	made    sync.Map // the passwords that rotations made
}

// startPostgreSQL starts a server that logs every statement.
func startPostgreSQL(t *testing.T) *databaseServer {
	s := newDatabaseServer(t, "postgresql", "postgres", "initdb", "postgres")
	s.account, s.quoted = `CREATE ROLE "%s" LOGIN PASSWORD '%s'`, strings.NewReplacer(`"`, `""`)
	passwordFile := filepath.Join(s.dir, "password")
	s.write(t, "password", adminPassword)
	data := filepath.Join(s.dir, "data")
	s.run(t, "initdb", "--pgdata="+data, "--username="+s.admin, "--pwfile="+passwordFile, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-sync")
	s.start(t, "database system is ready to accept connections", syscall.SIGINT, "postgres", "-D", data,
		"-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(s.port), "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "log_statement=all", "-c", "max_connections=50",
		"-c", "ssl=on", "-c", "ssl_cert_file="+filepath.Join(s.dir, "cert.pem"), "-c", "ssl_key_file="+filepath.Join(s.dir, "key.pem"))
	return s
}

// startMariaDB starts a server that logs every statement.
func startMariaDB(t *testing.T) *databaseServer {
	s := newDatabaseServer(t, "mysql", "admin", "mariadb-install-db", "mariadbd")
	s.account, s.quoted = "CREATE USER '%s'@'%%' IDENTIFIED BY '%s'", strings.NewReplacer(`'`, `''`, `\`, `\\`)
	data := filepath.Join(s.dir, "data")
	s.run(t, "mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	s.write(t, "init.sql", fmt.Sprintf("CREATE USER admin@'%%' IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO admin@'%%' WITH GRANT OPTION;\nDROP USER IF EXISTS ''@localhost;\n", adminPassword))
	s.start(t, "ready for connections", syscall.SIGTERM, "mariadbd", "--no-defaults", "--datadir="+data,
		"--bind-address=127.0.0.1", "--port="+strconv.Itoa(s.port), "--socket="+filepath.Join(s.dir, "sock"),
		"--pid-file="+filepath.Join(s.dir, "pid"), "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0",
		"--init-file="+filepath.Join(s.dir, "init.sql"), "--general-log", "--general-log-file="+filepath.Join(s.dir, "general.log"),
		"--ssl-cert="+filepath.Join(s.dir, "cert.pem"), "--ssl-key="+filepath.Join(s.dir, "key.pem"))
	return s
}

func newDatabaseServer(t *testing.T, kind, admin string, programs ...string) *databaseServer {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("REQUIRE_DATABASES") != "" {
				t.Fatal(err)
			}
			t.Skipf("NOT TESTED against a real server: %v. Run with PATH=$PATH:$(scripts/databases)", err)
		}
	}
	// Not t.TempDir: the server's user has to reach it.
	dir, err := os.MkdirTemp("", "database")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	s := &databaseServer{kind: kind, admin: admin, dir: dir, port: listener.Addr().(*net.TCPAddr).Port, log: &watched{}}
	s.own(t, dir)
	s.makeCertificate(t)
	return s
}

// credential is that of a user without rights: the servers refuse to run as root.
func (s *databaseServer) credential(t *testing.T) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, _ := strconv.ParseUint(nobody.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *databaseServer) own(t *testing.T, path string) {
	if c := s.credential(t); c != nil {
		if err := os.Chown(path, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *databaseServer) write(t *testing.T, name, text string) {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.own(t, path)
}

func (s *databaseServer) makeCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "database"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	s.write(t, "cert.pem", s.ca)
	s.write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func (s *databaseServer) command(t *testing.T, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential(t), Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *databaseServer) run(t *testing.T, program string, args ...string) {
	if out, err := s.command(t, program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// start starts the server and waits until it says that it is ready.
func (s *databaseServer) start(t *testing.T, ready string, stop syscall.Signal, program string, args ...string) {
	s.log.sign, s.log.seen = ready, make(chan struct{})
	cmd := s.command(t, program, args...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-s.log.seen:
	case err := <-ended:
		t.Fatalf("%s ended: %v\n%s", program, err, s.log.String())
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		t.Fatalf("%s is not ready\n%s", program, s.log.String())
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(stop)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s does not end", program)
			_ = cmd.Process.Kill()
		}
	})
}

// statements is what the server logged of what it was sent.
func (s *databaseServer) statements(t *testing.T) string {
	if s.kind == "postgresql" {
		return s.log.String()
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "general.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// value is a URL as the rotator makes it by default.
func (s *databaseServer) value(username, password string) string {
	return s.template(url.User(username).String(), password, s.port)
}

func (s *databaseServer) template(username, password string, port int) string {
	database := map[string]string{"postgresql": "postgres", "mysql": ""}[s.kind]
	return fmt.Sprintf("%s://%s:%s@127.0.0.1:%d/%s", s.kind, username, password, port, database)
}

// open opens a database as a client would, by its URL.
func (s *databaseServer) open(t *testing.T, value string) *sql.DB {
	u, err := url.Parse(value)
	if err != nil {
		t.Fatal("a value is no URL")
	}
	if s.kind == "postgresql" {
		db, err := sql.Open("pgx", value+"?sslmode=disable")
		if err != nil {
			t.Fatal("a value is no URL of PostgreSQL")
		}
		return db
	}
	config := mysqldriver.NewConfig()
	config.Net, config.Addr, config.DBName, config.User = "tcp", u.Host, strings.TrimPrefix(u.Path, "/"), u.User.Username()
	config.Passwd, _ = u.User.Password()
	connector, err := mysqldriver.NewConnector(config)
	if err != nil {
		t.Fatal("a value is no URL of MySQL")
	}
	return sql.OpenDB(connector)
}

// accepts says whether the server lets a client in with a value.
func (s *databaseServer) accepts(t *testing.T, value string) bool {
	db := s.open(t, value)
	defer func() { _ = db.Close() }()
	_, err := db.ExecContext(t.Context(), "SELECT 1")
	return err == nil
}

// execute runs statements as the admin.
func (s *databaseServer) execute(t *testing.T, statements ...string) {
	t.Helper()
	db := s.open(t, s.value(s.admin, adminPassword))
	defer func() { _ = db.Close() }()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// settings are those of a rotator of users, who are made first, with a password
// that they are given by hand.
func (s *databaseServer) settings(t *testing.T, usernames ...string) rotator.Settings {
	t.Helper()
	for _, username := range usernames {
		s.execute(t, fmt.Sprintf(s.account, s.quoted.Replace(username), byHand))
	}
	settings := rotator.Settings{}
	for _, field := range rotator.Types[s.kind].Fields {
		if field.Default != nil {
			settings[field.Name] = field.Default
		}
	}
	settings["host"], settings["port"], settings["ca_pem"] = "127.0.0.1", s.port, s.ca
	settings["admin_username"], settings["admin_password"] = s.admin, sensitive.New(adminPassword)
	settings["usernames"] = usernames
	if s.kind == "mysql" {
		settings["auth_plugin"] = "mysql_native_password"
	}
	return settings
}

const byHand = "made-by-hand"

func (s *databaseServer) rotator(t *testing.T, settings rotator.Settings) rotator.Rotator {
	t.Helper()
	r, err := rotator.Types[s.kind].New(settings, rotator.Host{Hosts: outbound.Hosts{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// watched is output that closes seen when sign is in it.
type watched struct {
	mu   sync.Mutex
	text bytes.Buffer
	sign string
	seen chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.text.Write(p)
	if w.sign != "" && strings.Contains(w.text.String(), w.sign) {
		w.sign = ""
		close(w.seen)
	}
	return n, err
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
