// Package outbound is the way from the engine to hosts that are not Vault: only
// those that an operator allowed, and never through what the process inherited.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Hosts are the hosts that may be called: see Check for what an entry is. An
// entry that Check refuses allows nothing.
type Hosts []string

// Check says what is wrong with an entry, which is a host (a name or an
// address), *.suffix (the names below it, not itself), both with or without
// :port, or a CIDR. Without a port it allows all of them. An address or a CIDR
// also allows the names that resolve to it.
func Check(entry string) error {
	_, err := parse(entry)
	return err
}

// CheckURL parses the address of something that is to be called. It must be
// absolute, https (or http to a loopback address), and allowed. When addresses
// are in the list, a name is only known to be allowed when it is dialled.
func (h Hosts) CheckURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, errors.New("it must be an absolute URL, such as https://host/path")
	case u.User != nil:
		return nil, errors.New("a URL must not hold a user name or password")
	case strings.Contains(raw, "#"):
		return nil, errors.New("a URL must not have a fragment")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("a URL must begin with https://")
	}
	name := canonical(u.Hostname())
	addr, err := netip.ParseAddr(name)
	if u.Scheme == "http" && name != localhost && (err != nil || !plain(addr).IsLoopback()) {
		return nil, errors.New("a URL must begin with https://, except to a loopback address")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if err := h.mayDial(name, port); err != nil {
		return nil, err
	}
	return u, nil
}

// Dial connects to an allowed host. It is the addresses that a name resolves to
// that are checked, each before it is dialled. Never allowed are link-local,
// multicast and unspecified ones and those of clouds' metadata; loopback only by
// an address, a CIDR or the name localhost.
func (h Hosts) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.dial(ctx, net.DefaultResolver, network, address)
}

func (h Hosts) dial(ctx context.Context, resolver *net.Resolver, network, address string) (net.Conn, error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil, fmt.Errorf("there is no way out by %s", network)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	name := canonical(host)
	if err := h.mayDial(name, port); err != nil {
		return nil, err
	}
	dialer := net.Dialer{Resolver: resolver, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return h.check(name, to)
	}}
	return dialer.DialContext(ctx, network, address)
}

// Client returns a client that dials by Dial, without a proxy, cookies or
// connections that stay, and that follows no redirects: it returns them. With
// roots, it trusts these instead of the system's.
func (h Hosts) Client(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            h.Dial,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    10 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// metadata is where clouds tell a machine its secrets, beside link-local addresses.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS
	netip.MustParsePrefix("fd20:ce::254/128"),   // Google
}

// localhost is the one name that may stand for loopback addresses: any other can
// be pointed there by whoever owns it.
const localhost = "localhost"

// rule is a parsed entry.
type rule struct {
	prefix netip.Prefix // of an address or a CIDR
	name   string       // else; with a leading dot it stands for the names below
	port   uint16       // 0: any
}

func parse(entry string) (rule, error) {
	if prefix, err := netip.ParsePrefix(entry); err == nil {
		if prefix != prefix.Masked() || prefix.Addr().Is4In6() {
			return rule{}, fmt.Errorf("%s has bits beyond its prefix, or is IPv4 written as IPv6", entry)
		}
		return rule{prefix: prefix}, nil
	}
	host, r := entry, rule{}
	if h, port, err := net.SplitHostPort(entry); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return rule{}, fmt.Errorf("%s has a port that is none", entry)
		}
		host, r.port = h, uint16(n)
	}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		if addr.Is4In6() || addr.Zone() != "" {
			return rule{}, fmt.Errorf("%s has a zone, or is IPv4 written as IPv6", entry)
		}
		r.prefix = netip.PrefixFrom(addr, addr.BitLen())
		return r, nil
	}
	r.name = canonical(strings.TrimPrefix(host, "*."))
	last := r.name[strings.LastIndexByte(r.name, '.')+1:]
	if len(r.name) > 253 || !hostname.MatchString(r.name) || strings.Trim(last, "0123456789") == "" {
		return rule{}, fmt.Errorf("%q is no host, host:port, *.suffix or CIDR", entry)
	}
	if strings.HasPrefix(host, "*.") {
		r.name = "." + r.name
	}
	return r, nil
}

var hostname = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)

// canonical is how a name is compared.
func canonical(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

// plain is how an address is compared: an IPv4 address in IPv6 is an IPv4 address.
func plain(addr netip.Addr) netip.Addr {
	if nat64.Contains(addr) {
		b := addr.As16()
		addr, _ = netip.AddrFromSlice(b[12:])
	}
	return addr.Unmap().WithZone("")
}

var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func (r rule) allows(name string, to netip.AddrPort) bool {
	addr := to.Addr()
	switch {
	case r.port != 0 && r.port != to.Port():
		return false
	case r.prefix.IsValid():
		// 0.0.0.0/0 is not meant for the machine itself.
		return r.prefix.Contains(addr) && (!addr.IsLoopback() || r.prefix.Addr().IsLoopback())
	}
	return r.matches(name) && addr.IsLoopback() == (name == localhost)
}

func (r rule) matches(name string) bool {
	if strings.HasPrefix(r.name, ".") {
		return strings.HasSuffix(name, r.name)
	}
	return name == r.name
}

func (h Hosts) rules() []rule {
	rules := make([]rule, 0, len(h))
	for _, entry := range h {
		if r, err := parse(entry); err == nil {
			rules = append(rules, r)
		}
	}
	return rules
}

// mayDial says why a host must not be called, as far as that is known before its
// name is resolved.
func (h Hosts) mayDial(name, port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is not a port", port)
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return h.check(name, netip.AddrPortFrom(addr, uint16(n)))
	}
	if !hostname.MatchString(name) {
		return fmt.Errorf("%q is not the name of a host", name)
	}
	if !slices.ContainsFunc(h.rules(), func(r rule) bool {
		return (r.port == 0 || r.port == uint16(n)) && (r.prefix.IsValid() || r.matches(name))
	}) {
		return fmt.Errorf("allowed_hosts does not allow %s", net.JoinHostPort(name, port))
	}
	return nil
}

// check says why an address that name resolved to must not be dialled.
func (h Hosts) check(name string, to netip.AddrPort) error {
	addr := plain(to.Addr())
	if addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast() ||
		slices.ContainsFunc(metadata, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return fmt.Errorf("%s is an address that is never called", addr)
	}
	to = netip.AddrPortFrom(addr, to.Port())
	if !slices.ContainsFunc(h.rules(), func(r rule) bool { return r.allows(name, to) }) {
		return fmt.Errorf("allowed_hosts does not allow %s at %s", name, to)
	}
	return nil
}
