package edge

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"freshet/internal/edge/upstream"
	"freshet/internal/edge/upstream/h1client"
)

// Origin is one of several servers of a site. In the file it is its URL, or a
// table.
type Origin struct {
	// URL is that of the server; a path in it is put before every path asked
	// for. Required.
	URL string `toml:"url"`

	// Weight is its share of the files, compared with those of the others:
	// 1 to 1000. Default 1.
	Weight int `toml:"weight"`

	// Role is "origin"; "shield" for another edge, which is not asked on behalf
	// of a third one; or "last-resort" for a server that is asked only while no
	// other is well. Default "origin".
	Role string `toml:"role"`
}

// UnmarshalText reads a URL.
func (o *Origin) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("want a URL or a table")
	}
	*o = Origin{URL: string(text)}
	return nil
}

// MarshalText writes the URL, with which the rest is lost.
func (o Origin) MarshalText() ([]byte, error) { return []byte(o.URL), nil }

// Roles of an Origin.
const (
	roleOrigin     = "origin"
	roleShield     = "shield"
	roleLastResort = "last-resort"
)

// UpstreamConfig is the table [edge.upstream]: how origins are asked.
type UpstreamConfig struct {
	// ConnectTimeout bounds the finding of an origin's address and the
	// connecting. Default "3s".
	ConnectTimeout time.Duration `toml:"connect-timeout"`

	// TLSTimeout bounds the TLS handshake. Default "5s".
	TLSTimeout time.Duration `toml:"tls-timeout"`

	// KeepIdle is how long a connection to an origin may be unused. It must be
	// shorter than what the origin allows; if that says so itself (Keep-Alive:
	// timeout=…), the shorter time counts. Default "50s".
	KeepIdle time.Duration `toml:"keep-idle"`

	// MaxAge is how old a connection may be when it is used again.
	// Default "1h".
	MaxAge time.Duration `toml:"max-age"`

	// MaxRequests bounds the requests on one connection. Default 10000.
	MaxRequests int `toml:"max-requests"`

	// HTTP2 allows HTTP/2 to origins with https. Our own client for HTTP/1.1
	// costs less. Default false.
	HTTP2 bool `toml:"http2"`

	// NextOn says when a second origin is asked, if there is one, before
	// anything is sent to the client: "error" (no answer), or "status" (that, or
	// an answer 5xx). Default "status".
	NextOn string `toml:"next-on"`

	// Hedge says when a second origin is asked because the first is silent, and
	// the first to answer wins: "auto" (after a time in which 99 of 100 of its
	// last answers began), a duration ("200ms"), or "off". At most 5 % of the
	// requests are hedged. Default "auto".
	Hedge string `toml:"hedge"`

	// Probe is the path of a small file that every origin has ("/config"): each
	// is asked for it now and then, and left alone while it does not answer
	// 200. Default: none, and an origin that failed is tried again with a
	// client's request.
	Probe string `toml:"probe"`

	// ProbeInterval is the time between two probes. At least "1s".
	// Default "10s".
	ProbeInterval time.Duration `toml:"probe-interval"`
}

// Defaults of UpstreamConfig.
const (
	nextOnError          = "error"
	nextOnStatus         = "status"
	hedgeAuto            = "auto"
	hedgeOff             = "off"
	defaultProbeInterval = 10 * time.Second
)

// WithDefaults returns c with every setting left zero replaced by its default.
func (c UpstreamConfig) WithDefaults() UpstreamConfig {
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, h1client.DefaultConnectTimeout)
	c.TLSTimeout = cmp.Or(c.TLSTimeout, h1client.DefaultTLSTimeout)
	c.KeepIdle = cmp.Or(c.KeepIdle, h1client.DefaultIdle)
	c.MaxAge = cmp.Or(c.MaxAge, h1client.DefaultMaxAge)
	c.MaxRequests = cmp.Or(c.MaxRequests, h1client.DefaultMaxRequests)
	c.NextOn = cmp.Or(c.NextOn, nextOnStatus)
	c.Hedge = cmp.Or(c.Hedge, hedgeAuto)
	c.ProbeInterval = cmp.Or(c.ProbeInterval, defaultProbeInterval)
	return c
}

// hedgeAfter is [upstream.Group.HedgeAfter].
func (c UpstreamConfig) hedgeAfter() (time.Duration, error) {
	switch c.Hedge {
	case "", hedgeAuto:
		return 0, nil
	case hedgeOff:
		return -1, nil
	}
	d, err := time.ParseDuration(c.Hedge)
	if err == nil && d <= 0 {
		err = errors.New("not positive")
	}
	return d, err
}

func (v *validation) upstream(c UpstreamConfig) {
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"connect-timeout", c.ConnectTimeout}, {"tls-timeout", c.TLSTimeout}, {"keep-idle", c.KeepIdle}, {"max-age", c.MaxAge},
	} {
		v.notNegative("upstream."+d.key, d.value)
	}
	if c.MaxRequests < 0 {
		v.problem("upstream.max-requests", "must not be negative")
	}
	switch c.NextOn {
	case "", nextOnError, nextOnStatus:
	default:
		v.problem("upstream.next-on", `want "error" or "status", got %q`, c.NextOn)
	}
	if _, err := c.hedgeAfter(); err != nil {
		v.problem("upstream.hedge", `want "auto", "off" or a duration like "200ms", got %q`, c.Hedge)
	}
	if c.Probe != "" {
		if u, err := url.ParseRequestURI(c.Probe); err != nil || !strings.HasPrefix(c.Probe, "/") || u.Host != "" {
			v.problem("upstream.probe", "%q is no path: want a slash first", c.Probe)
		}
	}
	if c.ProbeInterval != 0 && c.ProbeInterval < time.Second {
		v.problem("upstream.probe-interval", "must be at least 1s")
	}
}

// origins checks that there is an origin, one way or the other.
func (v *validation) origins(prefix, single string, several []Origin, required bool) {
	switch {
	case single != "" && len(several) > 0:
		v.problem(prefix+"origins", "there is %sorigin as well: want one of the two", prefix)
	case single == "" && len(several) == 0 && required:
		v.missing(prefix+"origin", "the URL of the server to cache")
	case single != "":
		v.origin(prefix+"origin", single)
	}
	seen := make(map[string]bool)
	for i, o := range several {
		at := fmt.Sprintf("%sorigins[%d]", prefix, i)
		if o.URL == "" {
			v.missing(at+".url", "the URL of the server")
			continue
		}
		v.origin(at, o.URL)
		if name := strings.TrimSuffix(o.URL, "/"); seen[name] {
			v.problem(at, "%q is there twice", o.URL)
		} else {
			seen[name] = true
		}
		if o.Weight < 0 || o.Weight > 1000 {
			v.problem(at+".weight", "must be from 1 to 1000")
		}
		switch o.Role {
		case "", roleOrigin, roleShield, roleLastResort:
		default:
			v.problem(at+".role", `want "origin", "shield" or "last-resort", got %q`, o.Role)
		}
	}
}

// originsOf returns the origins of a site, at least one.
func originsOf(single string, several []Origin) []Origin {
	if len(several) > 0 {
		return several
	}
	return []Origin{{URL: single}}
}

// originsID stands for the origins of a site in the store: those of one site
// have the same content, so what is stored stays while one of them does.
func originsID(g *upstream.Group) string {
	urls := make([]string, len(g.Origins))
	for i, o := range g.Origins {
		urls[i] = o.Base.String()
	}
	slices.Sort(urls)
	return strings.Join(urls, " ")
}

// sameOrigins reports whether two originsID have an origin in common.
func sameOrigins(a, b string) bool {
	return slices.ContainsFunc(strings.Fields(a), func(url string) bool { return slices.Contains(strings.Fields(b), url) })
}

// newGroup prepares to ask origins.
func (e *Edge) newGroup(list []Origin) (*upstream.Group, error) {
	c := e.cfg.Upstream.WithDefaults()
	after, err := c.hedgeAfter()
	if err != nil {
		return nil, fmt.Errorf("hedge: %w", err)
	}
	g := &upstream.Group{KeepStatus: c.NextOn == nextOnError, HedgeAfter: after}
	for _, cfg := range list {
		base, err := url.Parse(cfg.URL)
		if err != nil {
			return nil, fmt.Errorf("origin %q: %w", cfg.URL, err)
		}
		o := &upstream.Origin{
			Base: base, FirstByte: e.cfg.FirstByteTimeout, Idle: e.cfg.IdleTimeout, Weight: cfg.Weight, HTTP: e.env.HTTP.Transport,
		}
		switch cfg.Role {
		case roleShield:
			o.Role = upstream.Shield
		case roleLastResort:
			o.Role = upstream.LastResort
		}
		o.Client = e.newClient(c, base)
		if o.HTTP == nil {
			o.HTTP = http.DefaultTransport
		}
		g.Origins = append(g.Origins, o)
	}
	return g, nil
}

// newClient returns our own client for an origin, with the environment's way to
// connect; nil if net/http has to ask, because of HTTP/2 or a proxy, or because
// the environment has its own way to send requests.
func (e *Edge) newClient(c UpstreamConfig, base *url.URL) *h1client.Client {
	transport, ok := e.env.HTTP.Transport.(*http.Transport)
	if e.env.HTTP.Transport == nil {
		transport, ok = new(http.Transport), true
	}
	secure := base.Scheme == "https"
	if !ok || transport.Proxy != nil || secure && c.HTTP2 {
		return nil
	}
	port := base.Port()
	client := &h1client.Client{
		Dial:           transport.DialContext,
		ConnectTimeout: c.ConnectTimeout, TLSTimeout: c.TLSTimeout, Idle: c.KeepIdle, MaxAge: c.MaxAge, MaxRequests: c.MaxRequests,
	}
	if secure {
		client.TLS = transport.TLSClientConfig.Clone()
		if client.TLS == nil {
			client.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		client.TLS.ServerName = cmp.Or(client.TLS.ServerName, base.Hostname())
		port = cmp.Or(port, "443")
	}
	client.Addr = net.JoinHostPort(base.Hostname(), cmp.Or(port, "80"))
	return client
}

// watchOrigins makes the metrics of the origins and, if told to, probes them.
func (e *Edge) watchOrigins() {
	m := upstream.NewMetrics(e.env.Metrics)
	for _, s := range e.all {
		m.Watch(s.label(), s.origin)
	}
	if e.cfg.Upstream.Probe == "" {
		return
	}
	interval := e.cfg.Upstream.WithDefaults().ProbeInterval
	for _, s := range e.all {
		e.wg.Go(func() { s.origin.Probe(e.ctx, e.cfg.Upstream.Probe, interval) })
	}
}
