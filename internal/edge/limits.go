package edge

import (
	"cmp"
	"slices"
	"time"

	"freshet/internal/config"
	"freshet/internal/doors"
)

// LimitsConfig is the table [edge.limits]: what clients may take of the edge.
type LimitsConfig struct {
	doors.Limits

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
	defaultStreams = 128

	defaultFetches           = 2048
	defaultFetchesPerAddress = 512
	defaultPasses            = 2048
	defaultPassesPerAddress  = 512
	defaultFetchesWaiting    = 4096
	defaultFetchWait         = 10 * time.Second
)

// WithDefaults returns l with every setting left zero replaced by its default.
func (l LimitsConfig) WithDefaults() LimitsConfig {
	return LimitsConfig{
		Limits:  l.Limits.WithDefaults(),
		Streams: cmp.Or(l.Streams, defaultStreams),

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
	return append(l.Limits.Validate(), config.CheckNotNegative(
		config.Number{Key: "streams", Value: int64(l.Streams)},
		config.Number{Key: "fetches", Value: int64(l.Fetches)},
		config.Number{Key: "fetches-per-address", Value: int64(l.FetchesPerAddress)},
		config.Number{Key: "passes", Value: int64(l.Passes)},
		config.Number{Key: "passes-per-address", Value: int64(l.PassesPerAddress)},
		config.Number{Key: "fetches-waiting", Value: int64(l.FetchesWaiting)},
		config.Number{Key: "fetch-wait", Value: int64(l.FetchWait)},
	)...)
}

// listeners checks the addresses, and that there are certificates for those
// that need them.
func (v *validation) listeners(c Config) {
	v.problems = append(v.problems, c.Problems("edge")...)
	v.problems = append(v.problems, doors.CheckUDP("listen-h3", c.ListenH3)...)
	if c.ListenH3 != "" {
		v.problems = append(v.problems, c.CheckCertificate("listen-h3", "edge")...)
	}
	v.networks("trusted-proxies", c.TrustedProxies)
	if c.TLS.ACME.Dir != "" && len(c.TLS.ACME.Hosts) == 0 && len(c.hosts()) == 0 {
		v.missing("tls.acme.hosts", "the names to get certificates for, since no site has any")
	}
}

// hosts are the names of all sites.
func (c Config) hosts() []string {
	var hosts []string
	for _, site := range c.Sites {
		hosts = append(hosts, site.Hosts...)
	}
	slices.Sort(hosts)
	return hosts
}
