package rotator

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
)

// TestHostilePostgreSQL plays a server that asks for a password in clear, and one
// that lets everybody in, where a login would prove nothing.
func TestHostilePostgreSQL(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"a password in clear": "R\x00\x00\x00\x08\x00\x00\x00\x03",
		"no password":         "R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I",
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		answer := make(chan string, 1)
		go func() {
			defer close(answer)
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			if _, err := conn.Read(make([]byte, 1<<10)); err != nil {
				return
			}
			_, _ = io.WriteString(conn, request)
			text, _ := io.ReadAll(conn)
			answer <- string(text)
		}()
		const password = "the-new-password"
		p := &postgresql{&databaseHost{hosts: outbound.Hosts{"127.0.0.1"}, host: "127.0.0.1", port: listener.Addr().(*net.TCPAddr).Port, name: "postgres"}}
		if err := p.login(t.Context(), "app", password); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%s: the login succeeds, or its error holds the password", name)
		}
		if text, asked := <-answer; !asked || strings.Contains(text, password) {
			t.Errorf("%s: asked %v, or the password was sent", name, asked)
		}
	}
}

func TestBoundedConn(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	go func() {
		for {
			if _, err := server.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	}()
	defer func() { _, _ = client.Close(), server.Close() }()
	n, err := io.Copy(io.Discard, &boundedConn{client, 2500})
	if n != 2500 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%d bytes are read, and then: %v", n, err)
	}
}

func TestQuoting(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ got, want string }{
		{quote(`a"b'c\`, `"`), `"a""b'c\"`},
		{quote(`a"b'c\`, `'`), `'a"b''c\'`},
		{literal(`a"b'c\`), `'a"b''c\\'`},
		{retaining("abc"), `IDENTIFIED BY 'abc' RETAIN CURRENT PASSWORD`},
	} {
		if test.got != test.want {
			t.Errorf("%s, want %s", test.got, test.want)
		}
	}
}
