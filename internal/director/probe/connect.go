package probe

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"time"

	"freshet/internal/memnet"
)

// The time that things may take.
const (
	connectLimit = 4 * time.Second  // to connect to one address
	stallLimit   = 10 * time.Second // without a byte
	canaryLimit  = 15 * time.Second // for all of the canary, connection included
	lookLimit    = 30 * time.Second // for a look with pointers
)

// maxAddresses is how many addresses of a server are tried when it does not accept
// connections at the first.
const maxAddresses = 2

// newTransport returns a transport whose connections go the way of w, and are nobody
// else's: each look connects anew.
func (l *look) newTransport() *http.Transport {
	return &http.Transport{
		DialContext:            l.dial,
		DialTLSContext:         l.dialTLS,
		MaxIdleConnsPerHost:    1,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// dial connects to the server over the way's family. Of several addresses, each look
// takes another one first, for there may be different servers behind them.
func (l *look) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, failed(Unresolved, "%w", err)
	}
	network := "tcp4"
	if l.way.Family == IPv6 {
		network = "tcp6"
	}
	if memnet.Handles(host) && l.way.Family == IPv4 { // has no address, and needs none
		return l.connect(ctx, network, address)
	}
	addresses, err := l.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	var first error
	for i := range min(len(addresses), maxAddresses) {
		ip := addresses[(l.way.round+uint64(i))%uint64(len(addresses))]
		conn, err := l.connect(ctx, network, net.JoinHostPort(ip.String(), port))
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// connect connects to one address.
func (l *look) connect(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	conn, err := l.opt.Dial(ctx, network, address)
	if err != nil {
		return nil, dialFailed(err)
	}
	return &stalling{Conn: conn}, nil
}

// addresses are those of the host, of the way's family.
func (l *look) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	network := "ip4"
	if l.way.Family == IPv6 {
		network = "ip6"
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Is4() != (l.way.Family == IPv4) {
			return nil, failed(NoAddress, "%s is not an address of %s", host, l.way.Family)
		}
		return []netip.Addr{ip}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	addresses, err := l.opt.Lookup(ctx, network, host)
	if err != nil {
		return nil, lookupFailed(err)
	}
	if len(addresses) == 0 {
		return nil, failed(NoAddress, "%s has no address of %s", host, l.way.Family)
	}
	return addresses, nil
}

// dialTLS is dial with a handshake, and notes when the certificate ends.
func (l *look) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := l.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(address) // it was split before
	conn := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: l.opt.Roots, MinVersion: tls.VersionTLS12})
	err = conn.HandshakeContext(ctx)
	l.expires = expiryOf(conn.ConnectionState(), err)
	if err != nil {
		_ = raw.Close() // it is of no use
		return nil, handshakeFailed(err)
	}
	return conn, nil
}

// expiryOf is when the chain of certificates ends to be valid. Of several chains, the
// one that is valid longest counts.
func expiryOf(state tls.ConnectionState, err error) (expires time.Time) {
	if err != nil {
		return time.Time{}
	}
	for _, chain := range state.VerifiedChains {
		end := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
		if end.After(expires) {
			expires = end
		}
	}
	return expires
}

// stalling is a connection that fails when no byte moves for stallLimit.
type stalling struct{ net.Conn }

func (c *stalling) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(stallLimit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *stalling) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(stallLimit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
