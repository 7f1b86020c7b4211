package rotator_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// dualServer speaks as much of MySQL's protocol as the rotator does. It keeps one
// account by the manual's rules for two passwords, which MariaDB does not have.
type dualServer struct {
	port int

	mu                 sync.Mutex
	primary, secondary string // verifiers of mysql_native_password
	statements         []string
	hostile            []byte // a packet that is sent instead of an answer
	at                 string // after this: a statement, or nothing for the login
	leaked             []byte // what the client answered to it
}

func startDualServer(t *testing.T) *dualServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dualServer{port: listener.Addr().(*net.TCPAddr).Port, primary: verifierOf(byHand)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				s.serve(&packets{conn, 0})
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return s
}

func verifierOf(password string) string {
	once := sha1.Sum([]byte(password))
	return fmt.Sprintf("*%X", sha1.Sum(once[:]))
}

// packets are the frames of the protocol.
type packets struct {
	conn     net.Conn
	sequence byte
}

func (p *packets) read() ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(p.conn, header[:]); err != nil {
		return nil, err
	}
	p.sequence = header[3] + 1
	body := make([]byte, int(header[0])|int(header[1])<<8|int(header[2])<<16)
	_, err := io.ReadFull(p.conn, body)
	return body, err
}

func (p *packets) write(body []byte) {
	n := len(body)
	_, _ = p.conn.Write(append([]byte{byte(n), byte(n >> 8), byte(n >> 16), p.sequence}, body...))
	p.sequence++
}

var done = []byte{0, 0, 0, 2, 0, 0, 0}

func refusal(number uint16) []byte {
	return append(binary.LittleEndian.AppendUint16([]byte{0xff}, number), "#HY000refused"...)
}

func (s *dualServer) serve(p *packets) {
	challenge := []byte("12345678abcdefghijkl")
	const capabilities = 1 | 8 | 0x200 | 0x8000 | 0x80000 // protocol 4.1, a database, plugins
	hello := append([]byte("\x0a8.4.0\x00\x01\x00\x00\x00"), challenge[:8]...)
	hello = append(hello, 0, capabilities&0xff, capabilities>>8&0xff, 45, 2, 0, capabilities>>16&0xff, 0, 21)
	hello = append(append(hello, make([]byte, 10)...), challenge[8:]...)
	p.write(append(hello, "\x00mysql_native_password\x00"...))
	login, err := p.read()
	if err != nil {
		return
	}
	username, rest, _ := bytes.Cut(login[32:], []byte{0})
	proof := rest[1 : 1+rest[0]]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hostile != nil && s.at == "" {
		p.write(s.hostile)
		s.leaked, _ = p.read()
		return
	}
	if string(username) != "admin" && !proves(proof, challenge, s.primary) && !proves(proof, challenge, s.secondary) {
		p.write(refusal(1045))
		return
	}
	p.write(done)
	for {
		command, err := p.read()
		if err != nil || command[0] != 3 { // a query
			return
		}
		statement := string(command[1:])
		if s.hostile != nil && s.at == statement {
			p.write(s.hostile)
			s.leaked, _ = p.read()
			return
		}
		p.write(s.execute(statement))
	}
}

// proves checks a proof of mysql_native_password.
func proves(proof, challenge []byte, verifier string) bool {
	stored := make([]byte, sha1.Size)
	if _, err := fmt.Sscanf(verifier, "*%X", &stored); err != nil || len(proof) != sha1.Size {
		return false
	}
	mask := sha1.Sum(append(bytes.Clone(challenge), stored...))
	for i := range mask {
		mask[i] ^= proof[i]
	}
	twice := sha1.Sum(mask[:])
	return bytes.Equal(twice[:], stored)
}

var (
	retain  = regexp.MustCompile(`^ALTER USER 'app'@'%' IDENTIFIED BY '([A-Za-z0-9]{32})' RETAIN CURRENT PASSWORD$`)
	replace = regexp.MustCompile(`^ALTER USER 'app'@'%' IDENTIFIED WITH mysql_native_password AS '(\*[0-9A-F]{40})'$`)
)

const discard = "ALTER USER 'app'@'%' DISCARD OLD PASSWORD"

func (s *dualServer) execute(statement string) []byte {
	if strings.HasPrefix(statement, "ALTER ") {
		s.statements = append(s.statements, statement)
	}
	switch {
	case statement == discard:
		s.secondary = ""
	case retain.MatchString(statement):
		s.primary, s.secondary = verifierOf(retain.FindStringSubmatch(statement)[1]), s.primary
	case replace.MatchString(statement):
		s.primary = replace.FindStringSubmatch(statement)[1]
	case strings.HasPrefix(statement, "SET ") || statement == "SELECT 1":
	default:
		return refusal(1064)
	}
	return done
}

func (s *dualServer) rotator(t *testing.T, port int, dual bool) rotator.Rotator {
	t.Helper()
	r, err := rotator.Types["mysql"].New(rotator.Settings{
		"host": "127.0.0.1", "port": port, "tls": "disable", "admin_username": "admin", "admin_password": sensitive.New(adminPassword),
		"usernames": []string{"app"}, "user_host": "%", "auth_plugin": "mysql_native_password", "dual_password": dual, "length": 32,
		"template": map[string]string{"value": "{{username}}:{{password}}"},
	}, rotator.Host{Hosts: outbound.Hosts{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// live says which values the account has a password of.
func (s *dualServer) live(values ...sensitive.String) (live []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, value := range values {
		verifier := verifierOf(strings.TrimPrefix(value.Reveal(), "app:"))
		live = append(live, verifier == s.primary || verifier == s.secondary)
	}
	return live
}

func TestDualPassword(t *testing.T) {
	t.Parallel()
	s := startDualServer(t)
	c := newCutter(t, s.port)
	k := &keeper{rotator: s.rotator(t, c.port, true)}
	k.current.Values = map[string]sensitive.String{"URL": sensitive.New("app:" + byHand)}
	for _, cut := range []cutting{0, beforeEffect, afterEffect} {
		for _, promoted := range []bool{true, false} {
			job := k.job()
			if err := k.rotator.Create(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			_ = job.Save(t.Context())
			oldValue, newValue := job.Old.Values["URL"], job.New.Values["URL"]
			c.next.Store(int32(cut))
			if err := k.rotator.Set(t.Context(), job); (err != nil) != (cut != 0) {
				t.Fatalf("%v: %v", cut, err)
			}
			k.resume(job)
			k.step(t, job, k.rotator.Set, k.rotator.Set, k.rotator.Test)
			if live := s.live(oldValue, newValue); !live[0] || !live[1] {
				t.Errorf("%v: while both are in use, the server accepts %v", cut, live)
			}
			k.end(job, promoted)
			c.next.Store(int32(cut))
			if err := k.rotator.Finish(t.Context(), job); (err != nil) != (cut != 0) {
				t.Fatalf("%v: %v", cut, err)
			}
			k.finish(t, job, promoted)
			if live := s.live(oldValue, newValue); live[0] == promoted || live[1] != promoted {
				t.Errorf("%v: at the end, promoted %v, the server accepts %v", cut, promoted, live)
			}
			if live := s.live(sensitive.New("app:" + byHand)); live[0] && k.current.Memo != nil {
				t.Errorf("%v: the password before all is accepted", cut)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secondary != "" || len(s.statements) == 0 {
		t.Errorf("after %d statements, a second password is left: %v", len(s.statements), s.secondary != "")
	}
	for _, statement := range s.statements {
		if statement != discard && !retain.MatchString(statement) && !replace.MatchString(statement) {
			t.Error("there is a statement of another form")
		}
	}
}

// TestHostileMySQL asks the client for what it must not give: a password in
// clear, and a file.
func TestHostileMySQL(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ packet, after string }{
		"a password in clear": {"\xfemysql_clear_password\x00", ""},
		"a file":              {"\xfb/etc/passwd", "SELECT 1"},
	} {
		s := startDualServer(t)
		s.mu.Lock()
		s.hostile, s.at, s.primary = []byte(test.packet), test.after, verifierOf("the-new-password")
		s.mu.Unlock()
		k := &keeper{rotator: s.rotator(t, s.port, false)}
		job := k.job()
		job.New.Values = map[string]sensitive.String{"URL": sensitive.New("app:the-new-password")}
		job.New.Memo = map[string]sensitive.String{"username": sensitive.New("app")}
		if err := k.rotator.Test(t.Context(), job); err == nil {
			t.Errorf("%s: the test passes", name)
		}
		s.mu.Lock()
		if len(s.leaked) > 0 {
			t.Errorf("%s: the client sends %d bytes", name, len(s.leaked))
		}
		s.mu.Unlock()
	}
}
