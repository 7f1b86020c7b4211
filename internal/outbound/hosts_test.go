package outbound

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"example.com", "Example.COM", "example.com.", "db1", "localhost", "_srv.example.com", "xn--bcher-kva.example", "example.com:443", "*.example.com", "*.example.com:8443",
		"192.0.2.1", "192.0.2.1:443", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:443", "127.0.0.0/8", "0.0.0.0/0", "2001:db8::/32",
	} {
		if err := Check(entry); err != nil {
			t.Errorf("%q: %v", entry, err)
		}
	}
	for _, entry := range []string{
		"", ".", "*", "*.", "a..b", ".example.com", "*example.com", "a.*.com", "*.*.com", "-a.example", "a-.example", "bücher.example", "a b", "a\n", "user@host",
		"https://example.com", "example.com/path", "example.com:", "example.com:0", "example.com:65536", "example.com:https", ":443", "[example.com]:443:1",
		"10.0.0", "192.0.2.01", "2130706433", "192.0.2.256", "10.0.0.1/8", "10.0.0.0/33", "*.10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "fe80::1%eth0",
		strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a",
	} {
		if Check(entry) == nil {
			t.Errorf("%q is accepted", entry)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	type row struct{ entry, name, address string }
	for _, test := range []row{
		{"example.com", "example.com", "192.0.2.1:443"},
		{"example.com", "example.com", "10.0.0.1:443"}, // a name may be that of a host within
		{"example.com", "example.com", "[2001:db8::1]:1"},
		{"EXAMPLE.com.", "example.com", "192.0.2.1:443"},
		{"example.com:443", "example.com", "192.0.2.1:443"},
		{"*.example.com", "a.example.com", "192.0.2.1:443"},
		{"*.example.com", "a.b.example.com", "192.0.2.1:443"},
		{"*.example.com:443", "a.example.com", "192.0.2.1:443"},
		{"192.0.2.1", "example.com", "192.0.2.1:443"},
		{"192.0.2.0/24", "example.com", "192.0.2.1:443"},
		{"192.0.2.0/24", "192.0.2.1", "[::ffff:192.0.2.1]:443"},
		{"192.0.2.0/24", "192.0.2.1", "[64:ff9b::192.0.2.1]:443"},
		{"[2001:db8::1]:443", "2001:db8::1", "[2001:db8::1]:443"},
		{"localhost", "localhost", "127.0.0.1:80"},
		{"localhost", "localhost", "[::1]:80"},
		{"127.0.0.1", "example.com", "127.0.0.1:80"},
		{"127.0.0.0/8", "127.1.2.3", "127.1.2.3:80"},
		{"::1", "::1", "[::1]:80"},
	} {
		if err := (Hosts{test.entry}).check(test.name, netip.MustParseAddrPort(test.address)); err != nil {
			t.Errorf("%v: %v", test, err)
		}
	}
	for _, test := range []row{
		{"example.com", "example.org", "192.0.2.1:443"},
		{"example.com", "a.example.com", "192.0.2.1:443"},
		{"example.com", "notexample.com", "192.0.2.1:443"},
		{"example.com:443", "example.com", "192.0.2.1:8443"},
		{"*.example.com", "example.com", "192.0.2.1:443"},
		{"*.example.com", "notexample.com", "192.0.2.1:443"},
		{"192.0.2.1:443", "192.0.2.1", "192.0.2.1:80"},
		{"192.0.2.0/24", "example.com", "192.0.3.1:443"},
		{"not a host", "not a host", "192.0.2.1:443"},
		{"192.0.2.1", "", "192.0.2.2:443"},
		// Loopback, by names that are not localhost, and by a CIDR that is not of it.
		{"example.com", "example.com", "127.0.0.1:80"},
		{"example.com", "example.com", "[::1]:80"},
		{"example.com", "example.com", "[::ffff:127.0.0.1]:80"},
		{"*.localhost", "a.localhost", "127.0.0.1:80"},
		{"localhost", "127.0.0.1", "127.0.0.1:80"},
		{"localhost", "localhost", "192.0.2.1:80"},
		{"0.0.0.0/0", "127.0.0.1", "127.0.0.1:80"},
		{"::/0", "::1", "[::1]:80"},
		{"127.0.0.1:80", "127.0.0.1", "127.0.0.1:81"},
	} {
		if (Hosts{test.entry}).check(test.name, netip.MustParseAddrPort(test.address)) == nil {
			t.Errorf("%v is allowed", test)
		}
	}
}

// Whatever is in the list, these are never called.
func TestForbiddenAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192",
		"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:ec2::254%eth0", "fe80::1", "fe80::a9fe:a9fe%eth0",
		"0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "ff05::2", "239.1.1.1",
	} {
		addr := netip.MustParseAddr(address)
		// The address by itself is not in Check's form when it has a zone or is mapped.
		hosts := Hosts{address, plain(addr).String(), "0.0.0.0/0", "::/0", "metadata.example"}
		for _, name := range []string{address, "metadata.example"} {
			if hosts.check(name, netip.AddrPortFrom(addr, 80)) == nil {
				t.Errorf("%s at %s is allowed", name, address)
			}
		}
		if _, err := hosts.Dial(t.Context(), "tcp", net.JoinHostPort(address, "80")); err == nil || !strings.Contains(err.Error(), "never called") {
			t.Errorf("%s is dialled: %v", address, err)
		}
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	hosts := Hosts{"example.com", "*.example.org:8443", "127.0.0.1", "localhost:8200"}
	for _, raw := range []string{
		"https://example.com", "HTTPS://EXAMPLE.com.:444/a?b=c", "https://a.example.org:8443/", "https://127.0.0.1", "http://127.0.0.1:80/a", "http://localhost:8200",
		"http://[::ffff:127.0.0.1]:1/",
		"https://example.net", // it may resolve to an address in the list
	} {
		if u, err := hosts.CheckURL(raw); err != nil || u.Host == "" {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{
		"", "example.com", "//example.com", "https:example.com", "https://", "https://:443", "/path", "ftp://example.com", "http://example.com", "http://127.0.0.1.example.com",
		"http://192.0.2.1", "http://[::1]", "https://127.0.0.2", "https://169.254.169.254", "https://[fd00:ec2::254]/", "https://user@example.com", "https://user:SECRET@example.com",
		"https://example.com/#", "https://example.com/#SECRET", "https://example.com:0/?SECRET", "https://example.com:99999/?SECRET", "https://exa mple.com/?SECRET",
		"https://bücher.example/?SECRET", "https://example.com/%zz?SECRET", "http://example.com/?SECRET", "https://127.0.0.2/?SECRET",
	} {
		_, err := hosts.CheckURL(raw)
		if err == nil {
			t.Errorf("%s is accepted", raw)
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: the error quotes it: %v", raw, err)
		}
	}
	for _, list := range []Hosts{nil, {}, {"https://example.net"}, {"example.com"}} {
		if _, err := list.CheckURL("https://example.net"); err == nil {
			t.Errorf("%v allows example.net", list)
		}
	}
}

// resolver answers every name with one IPv4 address, and tells of each question.
func resolver(address string, asked chan<- struct{}) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(_ context.Context, _, _ string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			// Over a stream each message has its length before it.
			length := make([]byte, 2)
			if _, err := io.ReadFull(server, length); err != nil {
				return
			}
			message := make([]byte, binary.BigEndian.Uint16(length))
			if _, err := io.ReadFull(server, message); err != nil {
				return
			}
			asked <- struct{}{}
			end := 12
			for message[end] != 0 {
				end += 1 + int(message[end])
			}
			end += 5 // of the question
			message = message[:end]
			copy(message[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
			if kind := message[end-3]; kind == 1 {
				message[7] = 1
				addr := netip.MustParseAddr(address).As4()
				message = append(message, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
				message = append(message, addr[:]...)
			}
			_, _ = server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
		}()
		return client, nil
	}}
}

func TestDialByName(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		hosts    Hosts
		resolved string
		refusal  string
	}{
		{Hosts{"127.0.0.0/8"}, "127.0.0.1", ""},
		{Hosts{"rebound.example", "127.0.0.1:" + port}, "127.0.0.1", ""},
		{Hosts{"rebound.example"}, "127.0.0.1", "does not allow"},
		{Hosts{"rebound.example", "127.0.0.1:1"}, "127.0.0.1", "does not allow"},
		{Hosts{"rebound.example", "localhost"}, "127.0.0.1", "does not allow"},
		{Hosts{"rebound.example", "169.254.0.0/16"}, "169.254.169.254", "never called"},
		{Hosts{"192.0.2.0/24"}, "127.0.0.1", "does not allow"},
	} {
		asked := make(chan struct{}, 10)
		conn, err := test.hosts.dial(t.Context(), resolver(test.resolved, asked), "tcp", "Rebound.example.:"+port)
		if test.refusal == "" {
			if err != nil {
				t.Errorf("%v: %v", test, err)
			} else if err := conn.Close(); err != nil {
				t.Error(err)
			}
		} else if err == nil || !strings.Contains(err.Error(), test.refusal) {
			t.Errorf("%v: %v", test, err)
		}
		if len(asked) == 0 {
			t.Errorf("%v: the name was not resolved", test)
		}
	}
	// What cannot be allowed is not even resolved, and nothing goes out otherwise.
	asked := make(chan struct{}, 10)
	for _, test := range [][2]string{{"tcp", "other.example:443"}, {"tcp", ":443"}, {"tcp", "rebound.example:0"}, {"tcp", "rebound.example:https"}, {"udp", "rebound.example:53"}, {"unix", "/run/x.sock"}} {
		if _, err := (Hosts{"rebound.example"}).dial(t.Context(), resolver("192.0.2.1", asked), test[0], test[1]); err == nil {
			t.Errorf("%v is dialled", test)
		}
	}
	if len(asked) != 0 {
		t.Error("a name that is not allowed was resolved")
	}
}

// It is not parallel, because it sets what the process inherits.
func TestClient(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, "http://192.0.2.1:3128")
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "/", http.StatusFound)
		} else if r.Header.Get("Cookie") != "" || !r.Close {
			http.Error(w, "there is a cookie, or the connection stays", http.StatusTeapot)
		}
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := Hosts{"127.0.0.1"}.Client(roots)
	for path, want := range map[string]int{"/": http.StatusOK, "/again": http.StatusOK, "/redirect": http.StatusFound} {
		resp, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	var unknown x509.UnknownAuthorityError
	if _, err := (Hosts{"127.0.0.1"}).Client(nil).Get(server.URL); !errors.As(err, &unknown) {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	if _, err := (Hosts{"example.com"}).Client(roots).Get(server.URL); err == nil || !strings.Contains(err.Error(), "does not allow") {
		t.Errorf("a host that is not in the list: %v", err)
	}
	// Go itself never uses a proxy for a loopback address, so ask the transport.
	if client.Transport.(*http.Transport).Proxy != nil {
		t.Error("the client uses a proxy")
	}
}
