package acceptance

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	mysqldriver "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/agentchains/vault-plugin-secrets-agentchains/acceptance/cluster"
)

// databaseServer is a server of its own for a test, with an admin.
type databaseServer struct {
	*engine
	kind, admin, password string
	account               string // the statement that makes one, of a name and a password
	dir                   string
	port                  int
}

func startPostgreSQL(e *engine) *databaseServer {
	e.Helper()
	s := newDatabaseServer(e, "postgresql", "initdb", "postgres")
	s.account = `CREATE ROLE %s LOGIN PASSWORD '%s'`
	pgdata := filepath.Join(s.dir, "data")
	s.run("initdb", "--pgdata="+pgdata, "--username="+s.admin, "--pwfile="+s.file("password", s.password),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	s.start(syscall.SIGINT, "postgres", "-D", pgdata, "-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(s.port),
		"-c", "unix_socket_directories=", "-c", "fsync=off")
	return s
}

func startMariaDB(e *engine) *databaseServer {
	e.Helper()
	s := newDatabaseServer(e, "mysql", "mariadb-install-db", "mariadbd")
	s.account = "CREATE USER '%s'@'%%' IDENTIFIED BY '%s'"
	datadir := filepath.Join(s.dir, "data")
	s.run("mariadb-install-db", "--no-defaults", "--datadir="+datadir, "--auth-root-authentication-method=normal", "--skip-test-db")
	init := fmt.Sprintf("CREATE USER %[1]s@'%%' IDENTIFIED BY '%[2]s';\nGRANT ALL ON *.* TO %[1]s@'%%' WITH GRANT OPTION;\nDROP USER IF EXISTS ''@localhost;\n", s.admin, s.password)
	s.start(syscall.SIGTERM, "mariadbd", "--no-defaults", "--datadir="+datadir, "--bind-address=127.0.0.1", "--port="+strconv.Itoa(s.port),
		"--socket="+filepath.Join(s.dir, "sock"), "--pid-file="+filepath.Join(s.dir, "pid"), "--skip-name-resolve",
		"--innodb-flush-log-at-trx-commit=0", "--init-file="+s.file("init.sql", init))
	return s
}

func newDatabaseServer(e *engine, kind string, programs ...string) *databaseServer {
	e.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("REQUIRE_DATABASES") != "" {
				e.Fatal(err)
			}
			e.Skipf("NOT TESTED against a real server: %v. Run with PATH=$PATH:$(scripts/databases)", err)
		}
	}
	// Not TempDir: the server's user has to reach it.
	dir, err := os.MkdirTemp("", "database")
	e.must(err)
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	address, err := cluster.FreeAddress()
	e.must(err)
	_, port, err := net.SplitHostPort(address)
	e.must(err)
	s := &databaseServer{engine: e, kind: kind, admin: "agentchains", password: e.value("admin_password"), dir: dir}
	s.port, err = strconv.Atoi(port)
	e.must(err)
	s.own(dir)
	return s
}

// credential is that of a user without rights: the servers refuse to run as root.
func (s *databaseServer) credential() *syscall.Credential {
	s.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	nobody, err := user.Lookup("nobody")
	s.must(err)
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	s.must(err)
	gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
	s.must(err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *databaseServer) own(path string) {
	s.Helper()
	if c := s.credential(); c != nil {
		s.must(os.Chown(path, int(c.Uid), int(c.Gid)))
	}
}

func (s *databaseServer) file(name, text string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	s.must(os.WriteFile(path, []byte(text), 0o600))
	s.own(path)
	return path
}

func (s *databaseServer) command(program string, args ...string) *exec.Cmd {
	s.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential(), Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *databaseServer) run(program string, args ...string) {
	s.Helper()
	if out, err := s.command(program, args...).CombinedOutput(); err != nil {
		s.Fatalf("%s: %v\n%s", program, err, secrets.censor(string(out)))
	}
}

// start starts the server and waits until it lets the admin in.
func (s *databaseServer) start(stop syscall.Signal, program string, args ...string) {
	s.Helper()
	log, err := os.Create(filepath.Join(s.dir, "log"))
	s.must(err)
	defer log.Close()
	cmd := s.command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	s.must(cmd.Start())
	s.Cleanup(func() {
		_ = cmd.Process.Signal(stop) // it may have ended by itself
		_ = cmd.Wait()
	})
	err = eventually(program+" serves", func() (bool, error) { return s.accepts(s.value(s.admin, s.password)), nil })
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		s.Fatalf("%v\n%s", err, secrets.censor(string(text)))
	}
}

func (s *databaseServer) value(username, password string) string {
	database := map[string]string{"postgresql": "postgres", "mysql": ""}[s.kind]
	return fmt.Sprintf("%s://%s:%s@127.0.0.1:%d/%s", s.kind, username, password, s.port, database)
}

// open opens a database as a client would, by its URL.
func (s *databaseServer) open(value string) (*sql.DB, error) {
	if s.kind == "postgresql" {
		return sql.Open("pgx", value+"?sslmode=disable")
	}
	u, err := url.Parse(value)
	if err != nil {
		return nil, err
	}
	config := mysqldriver.NewConfig()
	config.Net, config.Addr, config.User = "tcp", u.Host, u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.Logger = &mysqldriver.NopLogger{}
	connector, err := mysqldriver.NewConnector(config)
	return sql.OpenDB(connector), err
}

// execute runs a statement as whoever a value is for.
func (s *databaseServer) execute(value, statement string) error {
	db, err := s.open(value)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = db.ExecContext(ctx, statement)
	return err
}

func (s *databaseServer) accepts(value any) bool {
	return s.execute(value.(string), "SELECT 1") == nil
}

// farSide makes the users that a rotator is to rotate, and a way to the server
// with points.
func (s *databaseServer) farSide(users ...string) *farSide {
	s.Helper()
	byHand := s.engine.value("by hand")
	for _, name := range users {
		s.must(s.execute(s.value(s.admin, s.password), fmt.Sprintf(s.account, name, byHand)))
	}
	b := &breaker{over: s.Context()}
	settings := data{
		"type": s.kind, "host": "127.0.0.1", "port": s.proxy(b), "tls": "disable", "usernames": users,
		"admin_username": s.admin, "admin_password": s.password, "template": data{"value": s.value("{{username}}", "{{password}}")},
	}
	if s.kind == "mysql" {
		settings["auth_plugin"] = "mysql_native_password"
	}
	return &farSide{
		breaker: b, rotator: settings, entry: "prod/org/DATABASE_URL", first: data{"value": s.value(users[0], byHand)},
		overlaps: len(users) == 2, accepts: s.accepts,
	}
}

// proxy listens for connections to the server, and returns its port. Its points
// are a connection, and the statements of rotators.
func (s *databaseServer) proxy(b *breaker) int {
	s.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	var forwarding sync.WaitGroup
	forwarding.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			forwarding.Go(func() { s.forward(b, client) })
		}
	})
	s.Cleanup(func() {
		_ = listener.Close()
		forwarding.Wait()
	})
	return listener.Addr().(*net.TCPAddr).Port
}

func (s *databaseServer) forward(b *breaker, client net.Conn) {
	defer client.Close()
	if !b.pass("connection", false) {
		return
	}
	server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		s.Error(err)
		return
	}
	defer server.Close()
	var sent atomic.Value // the statement that is to be answered
	sent.Store("")
	var both sync.WaitGroup
	both.Go(func() {
		relay(client, server, func(p []byte) bool {
			for _, statement := range []string{"ALTER", "SELECT 1"} {
				if bytes.Contains(p, []byte(statement)) {
					sent.Store(statement)
					return b.pass(statement, false)
				}
			}
			return true
		})
	})
	both.Go(func() {
		relay(server, client, func([]byte) bool {
			statement := sent.Swap("").(string)
			return statement == "" || b.pass(statement, true)
		})
	})
	both.Wait()
}

// relay copies until an end, or until pass does not let a part through.
func relay(from, to net.Conn, pass func([]byte) bool) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !pass(buffer[:n]) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
