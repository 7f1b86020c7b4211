package rotator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// databaseHost is where a database is, and who may set passwords there.
type databaseHost struct {
	hosts outbound.Hosts
	host  string
	port  int
	name  string      // of the database
	tls   *tls.Config // nil: none
	admin credentials
}

type credentials struct {
	username string
	password sensitive.String
}

func newDatabaseHost(s Settings, h Host) (*databaseHost, error) {
	e := &databaseHost{h.Hosts, Get[string](s, "host"), Get[int](s, "port"), Get[string](s, "database"), nil,
		credentials{Get[string](s, "admin_username"), Get[sensitive.String](s, "admin_password")}}
	if e.port < 1 || e.port > 65535 {
		return nil, errors.New("port must be from 1 to 65535")
	}
	switch Get[string](s, "tls") {
	case "verify-full":
		e.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.host}
		var err error
		if e.tls.RootCAs, err = outbound.Roots(Get[string](s, caField.Name)); err != nil {
			return nil, fmt.Errorf("%s %w", caField.Name, err)
		}
	case "disable":
		if addr, err := netip.ParseAddr(e.host); err != nil || !addr.IsLoopback() {
			return nil, errors.New("tls may be disable only when host is a loopback address")
		}
	default:
		return nil, errors.New("tls must be verify-full or disable")
	}
	return e, nil
}

func (e *databaseHost) address() string { return net.JoinHostPort(e.host, strconv.Itoa(e.port)) }

// url is the template of a database URL, for a user whose name needs no filling in.
func (e *databaseHost) url(scheme, username string) string {
	path := url.URL{Path: "/" + e.name}
	return scheme + "://" + url.User(username).String() + ":{{password}}@" + e.address() + path.EscapedPath()
}

// dial is Dial of the allowed hosts, with a bound on what the server may send.
func (e *databaseHost) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := e.hosts.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &boundedConn{conn, 1 << 20}, nil
}

type boundedConn struct {
	net.Conn
	left int
}

func (b *boundedConn) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errors.New("the server sends too much")
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
