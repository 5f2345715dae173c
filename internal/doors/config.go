package doors

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"freshet/internal/certs"
	"freshet/internal/config"
	"freshet/internal/forwarded"
	"freshet/internal/h1"
	"freshet/internal/memnet"
)

// Listeners are the settings of a role that say where it is reached. They are a
// part of its table.
type Listeners struct {
	// Listen is the public address without TLS, or several with commas between
	// them ("192.0.2.1:80, [2001:db8::1]:80"). The default holds where there is
	// no other listener.
	Listen string `toml:"listen"`

	// ListenTLS is the public address with TLS, for HTTP/2 and HTTP/1.1
	// (":443"), or several with commas between them. It needs a certificate, see
	// the table tls. Default: none.
	ListenTLS string `toml:"listen-tls"`

	// TLS says where certificates come from.
	TLS certs.Config `toml:"tls"`

	// ProxyProtocol says from where connections come with a header of the PROXY
	// protocol.
	ProxyProtocol forwarded.Config `toml:"proxy-protocol"`
}

// WithDefaults returns l with every setting left zero replaced by its default,
// but Listen: that is the role's.
func (l Listeners) WithDefaults() Listeners {
	l.TLS = l.TLS.WithDefaults()
	l.ProxyProtocol = l.ProxyProtocol.WithDefaults()
	return l
}

// Problems returns what is wrong with the addresses, and which of them lack a
// certificate. The role's name is that of its table. The tables inside say for
// themselves what is wrong with them.
func (l Listeners) Problems(role string) []config.Problem {
	problems := CheckAddresses("listen", l.Listen)
	problems = append(problems, CheckAddresses("listen-tls", l.ListenTLS)...)
	if l.ListenTLS != "" {
		problems = append(problems, l.CheckCertificate("listen-tls", role)...)
	}
	return problems
}

// CheckCertificate returns the problem of a listener with TLS, that at key, if
// no certificate is configured.
func (l Listeners) CheckCertificate(key, role string) []config.Problem {
	if l.TLS.Any() {
		return nil
	}
	flags := "--tls-cert and --tls-key, or --acme-dir; in a file "
	if role == "mirror" { // whose command has none of them
		flags = ""
	}
	return []config.Problem{{Key: key, Message: fmt.Sprintf("needs a certificate: %s[[%s.tls.certificates]] or [%[2]s.tls.acme]", flags, role)}}
}

// Addresses are those of a list with commas, in which nothing is left out.
func Addresses(list string) []string {
	var addrs []string
	for addr := range strings.SplitSeq(list, ",") {
		if addr = strings.TrimSpace(addr); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// CheckAddresses returns what is wrong with the list of addresses at key.
func CheckAddresses(key, list string) []config.Problem {
	var problems []config.Problem
	problem := func(format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	addrs := Addresses(list)
	if list != "" && len(addrs) == 0 {
		problem("has no address")
	}
	seen := make(map[string]bool)
	for _, addr := range addrs {
		if err := config.CheckAddress(addr); err != nil {
			problem("%v", err)
		} else if seen[addr] {
			problem("%s is there twice", addr)
		}
		seen[addr] = true
	}
	return problems
}

// CheckUDP returns what is wrong with the list of UDP addresses at key.
func CheckUDP(key, list string) []config.Problem {
	problems := CheckAddresses(key, list)
	for _, addr := range Addresses(list) {
		if strings.HasPrefix(addr, memnet.Scheme) {
			problems = append(problems, config.Problem{Key: key, Message: addr + " is no address of UDP"})
		}
	}
	return problems
}

// Limits are the settings that bound what clients may take of the connections
// of a role. They are its table limits, or a part of that.
type Limits struct {
	// Connections is how many connections may be open at once, over all
	// listeners. Default 50000.
	Connections int `toml:"connections"`

	// ConnectionsPerAddress is how many of them may come from one IPv4 address
	// or one IPv6 /64, those of this machine apart. Default 1024.
	ConnectionsPerAddress int `toml:"connections-per-address"`

	// Handshakes is how many handshakes of TLS may be under way at once.
	// Default 512.
	Handshakes int `toml:"handshakes"`

	// HandshakeTime is how long a handshake may take. Default "5s".
	HandshakeTime time.Duration `toml:"handshake-time"`

	// HeaderSize is how long the header of a request may be. At least "4KiB", at
	// most "1MiB". Default "32KiB".
	HeaderSize config.Size `toml:"header-size"`

	// HeaderTime is how long the header of a request may take. Default "10s".
	HeaderTime time.Duration `toml:"header-time"`

	// IdleTime is how long a connection may wait for its next request.
	// Default "2m".
	IdleTime time.Duration `toml:"idle-time"`

	// Stall is how long a client may take no byte of an answer, and send none of
	// the body of a request. Default "2m".
	Stall time.Duration `toml:"stall"`

	// MinRate is how many bytes per second a client must take of an answer, on
	// the average of twice Stall. Default "256B".
	MinRate config.Size `toml:"min-rate"`
}

const (
	defaultHeaderSize = 32 << 10
	minHeaderSize     = 4 << 10
	maxHeaderSize     = 1 << 20
	defaultHeaderTime = 10 * time.Second
	defaultIdleTime   = 2 * time.Minute
	defaultStall      = 2 * time.Minute
)

// WithDefaults returns l with every setting left zero replaced by its default.
func (l Limits) WithDefaults() Limits {
	d := l.conns().WithDefaults()
	return Limits{
		Connections: d.Conns, ConnectionsPerAddress: d.ConnsPerIP,
		Handshakes: d.Handshakes, HandshakeTime: d.HandshakeTime, MinRate: config.Size(d.MinRate),
		HeaderSize: cmp.Or(l.HeaderSize, defaultHeaderSize),
		HeaderTime: cmp.Or(l.HeaderTime, defaultHeaderTime),
		IdleTime:   cmp.Or(l.IdleTime, defaultIdleTime),
		Stall:      cmp.Or(l.Stall, defaultStall),
	}
}

// conns are the limits of the loop of HTTP/1.1.
func (l Limits) conns() h1.Limits {
	return h1.Limits{
		Conns: l.Connections, ConnsPerIP: l.ConnectionsPerAddress,
		Handshakes: l.Handshakes, HandshakeTime: l.HandshakeTime, MinRate: int(l.MinRate),
	}
}

// Validate reports what is wrong; see [config.Validator].
func (l Limits) Validate() []config.Problem {
	problems := config.CheckNotNegative(
		config.Number{Key: "connections", Value: int64(l.Connections)},
		config.Number{Key: "connections-per-address", Value: int64(l.ConnectionsPerAddress)},
		config.Number{Key: "handshakes", Value: int64(l.Handshakes)},
		config.Number{Key: "handshake-time", Value: int64(l.HandshakeTime)},
		config.Number{Key: "header-time", Value: int64(l.HeaderTime)},
		config.Number{Key: "idle-time", Value: int64(l.IdleTime)},
		config.Number{Key: "stall", Value: int64(l.Stall)},
		config.Number{Key: "min-rate", Value: int64(l.MinRate)},
	)
	if l.HeaderSize != 0 && (l.HeaderSize < minHeaderSize || l.HeaderSize > maxHeaderSize) {
		problems = append(problems, config.Problem{Key: "header-size", Message: fmt.Sprintf("must be from 4KiB to 1MiB, got %v", l.HeaderSize)})
	}
	return problems
}
