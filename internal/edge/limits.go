package edge

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"freshet/internal/config"
	"freshet/internal/h1"
)

// LimitsConfig is the table [edge.limits]: what clients may take of the edge.
type LimitsConfig struct {
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

	// Streams is how many requests of one connection of HTTP/3 may be answered at
	// the same time; HTTP/2 has 128. Default 128.
	Streams int `toml:"streams"`

	// Fetches is how many requests to the origins of one site may be under way
	// at once for the store, each until the end of its body. Default 2048.
	Fetches int `toml:"fetches"`

	// FetchesPerAddress is how many of them may be made for one IPv4 address or
	// one IPv6 /64, this machine apart, while enough are left for others: the fewer
	// of Fetches are left, the fewer it may have (docs/edge.md). What is stored, or
	// on its way for somebody else, is not counted. More, if other caches ask this
	// one; as many as Fetches, and there is no share. Default 512.
	FetchesPerAddress int `toml:"fetches-per-address"`

	// Passes is how many answers and uploads of one site may be passed on at once
	// because they are not for the store, each until its client has the end.
	// Default 2048.
	Passes int `toml:"passes"`

	// PassesPerAddress is to Passes what FetchesPerAddress is to Fetches.
	// Default 512.
	PassesPerAddress int `toml:"passes-per-address"`

	// FetchesWaiting is how many more of a site may wait for their turn, and as
	// many again of what is passed on, of one address as many as there are places
	// left; what is above is answered 503. Default 4096.
	FetchesWaiting int `toml:"fetches-waiting"`

	// FetchWait is how long they wait before they are answered 503.
	// Default "10s".
	FetchWait time.Duration `toml:"fetch-wait"`
}

const (
	defaultHeaderSize = 32 << 10
	defaultStreams    = 128

	defaultFetches           = 2048
	defaultFetchesPerAddress = 512
	defaultPasses            = 2048
	defaultPassesPerAddress  = 512
	defaultFetchesWaiting    = 4096
	defaultFetchWait         = 10 * time.Second
)

// WithDefaults returns l with every setting left zero replaced by its default.
func (l LimitsConfig) WithDefaults() LimitsConfig {
	d := h1.Limits{
		Conns: l.Connections, ConnsPerIP: l.ConnectionsPerAddress,
		Handshakes: l.Handshakes, HandshakeTime: l.HandshakeTime, MinRate: int(l.MinRate),
	}.WithDefaults()
	return LimitsConfig{
		Connections: d.Conns, ConnectionsPerAddress: d.ConnsPerIP,
		Handshakes: d.Handshakes, HandshakeTime: d.HandshakeTime, MinRate: config.Size(d.MinRate),
		HeaderSize: cmp.Or(l.HeaderSize, defaultHeaderSize),
		HeaderTime: cmp.Or(l.HeaderTime, 10*time.Second),
		IdleTime:   cmp.Or(l.IdleTime, 2*time.Minute),
		Stall:      cmp.Or(l.Stall, 2*time.Minute),
		Streams:    cmp.Or(l.Streams, defaultStreams),

		Fetches:           cmp.Or(l.Fetches, defaultFetches),
		FetchesPerAddress: cmp.Or(l.FetchesPerAddress, defaultFetchesPerAddress),
		Passes:            cmp.Or(l.Passes, defaultPasses),
		PassesPerAddress:  cmp.Or(l.PassesPerAddress, defaultPassesPerAddress),
		FetchesWaiting:    cmp.Or(l.FetchesWaiting, defaultFetchesWaiting),
		FetchWait:         cmp.Or(l.FetchWait, defaultFetchWait),
	}
}

// Validate reports what is wrong; see [config.Validator].
func (l LimitsConfig) Validate() []config.Problem {
	var v validation
	for _, n := range []struct {
		key   string
		value int64
	}{
		{"connections", int64(l.Connections)},
		{"connections-per-address", int64(l.ConnectionsPerAddress)},
		{"handshakes", int64(l.Handshakes)},
		{"handshake-time", int64(l.HandshakeTime)},
		{"header-time", int64(l.HeaderTime)},
		{"idle-time", int64(l.IdleTime)},
		{"stall", int64(l.Stall)},
		{"min-rate", int64(l.MinRate)},
		{"streams", int64(l.Streams)},
		{"fetches", int64(l.Fetches)},
		{"fetches-per-address", int64(l.FetchesPerAddress)},
		{"passes", int64(l.Passes)},
		{"passes-per-address", int64(l.PassesPerAddress)},
		{"fetches-waiting", int64(l.FetchesWaiting)},
		{"fetch-wait", int64(l.FetchWait)},
	} {
		if n.value < 0 {
			v.problem(n.key, "must not be negative")
		}
	}
	if l.HeaderSize != 0 && (l.HeaderSize < 4<<10 || l.HeaderSize > 1<<20) {
		v.problem("header-size", "must be from 4KiB to 1MiB, got %v", l.HeaderSize)
	}
	return v.problems
}

// addresses are those of a list with commas, in which nothing is left out.
func addresses(list string) []string {
	var addrs []string
	for addr := range strings.SplitSeq(list, ",") {
		if addr = strings.TrimSpace(addr); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// listeners checks the addresses, and that there are certificates for those
// that need them.
func (v *validation) listeners(c Config) {
	for _, list := range []struct{ key, value string }{
		{"listen", c.Listen}, {"listen-tls", c.ListenTLS}, {"listen-h3", c.ListenH3},
	} {
		seen := make(map[string]bool)
		for _, addr := range addresses(list.value) {
			err := config.CheckAddress(addr)
			switch {
			case err != nil:
				v.problem(list.key, "%v", err)
			case seen[addr]:
				v.problem(list.key, "%s is there twice", addr)
			case list.key == "listen-h3" && strings.HasPrefix(addr, "mem:"):
				v.problem(list.key, "%s is no address of UDP", addr)
			}
			seen[addr] = true
		}
		if list.value != "" && len(addresses(list.value)) == 0 {
			v.problem(list.key, "has no address")
		}
		if list.key != "listen" && list.value != "" && !c.TLS.Any() {
			v.problem(list.key, "needs a certificate: --tls-cert and --tls-key, or --acme-dir; in a file [[edge.tls.certificates]] or [edge.tls.acme]")
		}
	}
	v.networks("trusted-proxies", c.TrustedProxies)
	if c.TLS.ACME.Dir != "" && len(c.acmeHosts()) == 0 {
		v.missing("tls.acme.hosts", "the names to get certificates for, since no site has any")
	}
}

// acmeHosts are the names that certificates are got for.
func (c Config) acmeHosts() []string {
	if len(c.TLS.ACME.Hosts) > 0 {
		return c.TLS.ACME.Hosts
	}
	var hosts []string
	for _, site := range c.Sites {
		hosts = append(hosts, site.Hosts...)
	}
	slices.Sort(hosts)
	return hosts
}
