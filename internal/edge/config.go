package edge

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"freshet/api/hubapi"
	"freshet/internal/config"
	"freshet/internal/doors"
	"freshet/internal/edge/gate"
)

// Config is the table [edge]. With only Origin and Store set, the edge caches
// one origin for every host name it is asked by.
type Config struct {
	// Origin is the URL of the server to cache, a hub or any web server
	// ("https://hub.example.org"). A path in it is put before every path asked
	// for. Requests for host names that no site lists go there. Required unless
	// there are sites; without it such requests are answered 421.
	Origin string `toml:"origin"`

	// Origins are several servers with the same content, in the place of Origin:
	// URLs, or tables { url = "…", weight = 1, role = "origin" }. Each file is
	// asked of one of them, the same for every edge, and of another while that
	// one fails. Role is "origin", "shield" for another edge, which is not asked
	// on behalf of a third one, or "last-resort" for a server that is asked only
	// while no other is well. Weight, from 1 to 1000, is the share of the files.
	Origins []Origin `toml:"origins"`

	// Upstream says how origins are asked, those of all sites.
	Upstream UpstreamConfig `toml:"upstream"`

	doors.Listeners

	// ListenH3 is the UDP address for HTTP/3 (":443"), or several with commas
	// between them. Answers over TLS tell clients of it. Default: none.
	ListenH3 string `toml:"listen-h3"`

	// TrustedProxies are networks whose X-Forwarded-For or, without one,
	// Forwarded is believed: the last address in it that is not theirs is the
	// client, for the log, the rules and what the origin is told. It is read
	// anew on SIGHUP. Default: none.
	TrustedProxies []string `toml:"trusted-proxies"`

	// Limits bound what clients may take.
	Limits LimitsConfig `toml:"limits"`

	// Gate is what stands before the cache: access rules, robots.txt, a health
	// page, the way to HTTPS.
	Gate gate.Config `toml:"gate"`

	// Store is the folder in which answers are kept. It must lie on one local
	// file system and belong to this edge alone. Required.
	Store string `toml:"store"`

	// Size bounds what the store takes on disk. At least "1MiB". Default "10GB".
	Size config.Size `toml:"size"`

	// Rules says what decides how long an answer is kept. "auto": what is known
	// of OSTree, rpm, apt, pacman and apk repositories, by path, and HTTP for
	// everything else. "none": HTTP alone (RFC 9111). Default "auto".
	Rules string `toml:"rules"`

	// Follow says whether the edge follows the hub's event log, so that a
	// publish shows within a second. "auto": if the origin has one, which is
	// not asked for with rules = "none"; "on": warn while it cannot be read;
	// "off"; or the URL of the hub, if the origin is not the hub itself but
	// serves its paths. Default "auto".
	Follow string `toml:"follow"`

	// FirstByteTimeout is how long the origin may take until its answer begins,
	// connecting included. If a site has several origins, the first that is asked
	// has two thirds of it.
	// Package managers give up after 30 seconds: stay well below.
	// Default "15s".
	FirstByteTimeout time.Duration `toml:"first-byte-timeout"`

	// IdleTimeout is how long the origin may pause within an answer. There is no
	// limit on the whole. Default "15s".
	IdleTimeout time.Duration `toml:"idle-timeout"`

	// Prefill are patterns of OSTree refs ("app/org.example.*/x86_64/stable"; "*"
	// stands for any characters). When a publish brings new content of one
	// of them, that is fetched before the new summary is shown: by the static
	// delta from the commit before if there is one, else by objects. Default:
	// none.
	Prefill []string `toml:"prefill"`

	// PrefillRate is how many bytes per second that may take.
	// Default "0B", no limit.
	PrefillRate config.Size `toml:"prefill-rate"`

	// PrefillWithin is how long a publish may be held back for it; clients have
	// what was before until then. Default "30s".
	PrefillWithin time.Duration `toml:"prefill-within"`

	// PurgeMethod says that the method PURGE is understood on the public
	// listener, as Varnish and Fastly do: from PurgeFrom, and with the token of
	// a client that may purge. Otherwise PURGE is answered 405; it never goes to
	// the origin. Default false.
	PurgeMethod bool `toml:"purge-method"`

	// PurgeFrom are the networks that need no token for PURGE ("10.1.0.0/16",
	// "192.0.2.7"). Default: none.
	PurgeFrom []string `toml:"purge-from"`

	// Control says who may purge and warm, on the admin listener or by PURGE.
	Control ControlConfig `toml:"control"`

	// Node is the name under which this edge reports to its hubs how far it has
	// applied their events. Default: the name of the host.
	Node string `toml:"node"`

	// HubTokenFile holds a token of the hub with the scope "node", with which
	// the edge reports. Without one it follows the events all the same and
	// reports nothing. The hubs of all sites are sent the same token, once they
	// have answered as hubs.
	HubTokenFile string `toml:"hub-token-file"`

	// Keys are files with OpenPGP public keys, armored or binary. With them, a new
	// summary, summary.idx, repomd.xml, InRelease, Release or database of pacman
	// is shown to clients only when one of the keys has signed it, and none at
	// all if it has no signature. Default: none, and signatures are compared with
	// what they sign as far as that goes without a key.
	Keys []string `toml:"keys"`

	// Sites are further origins by name, each with the host names it answers
	// for.
	Sites map[string]SiteConfig `toml:"sites"`
}

// SiteConfig is a table [edge.sites.NAME]. The name is part of what identifies
// a stored answer: under a new name the site begins empty.
type SiteConfig struct {
	// Hosts are the host names of the site, without port, lower case.
	Hosts []string `toml:"hosts"`

	// Origin is the URL of the server to cache. Required, unless there are
	// Origins.
	Origin string `toml:"origin"`

	// Origins is as in [edge].
	Origins []Origin `toml:"origins"`

	// Rules is as in [edge]. Default: that of [edge].
	Rules string `toml:"rules"`

	// Follow is as in [edge]. Default: that of [edge] if it is a word, else
	// "auto".
	Follow string `toml:"follow"`

	// Keys is as in [edge]. Default: that of [edge].
	Keys []string `toml:"keys"`

	// Prefill is as in [edge]. Default: that of [edge].
	Prefill []string `toml:"prefill"`

	// PurgeMethod is as in [edge], for this site alone. Default false.
	PurgeMethod bool `toml:"purge-method"`

	// PurgeFrom is as in [edge]. Default: that of [edge].
	PurgeFrom []string `toml:"purge-from"`

	// Gate is as in [edge]. Default, if nothing of it is set: that of [edge].
	Gate gate.Config `toml:"gate"`
}

// Defaults of Config.
const (
	defaultListen        = ":8081"
	defaultSize          = 10e9
	defaultFirstByte     = 15 * time.Second
	defaultIdle          = 15 * time.Second
	defaultPrefillWithin = 30 * time.Second
	rulesAuto            = "auto"
	rulesNone            = "none"
	followAuto           = "auto"
	followOn             = "on"
	followOff            = "off"
	// minSize is what the smallest useful store takes.
	minSize = 1 << 20
)

// WithDefaults returns c with every setting left zero replaced by its default.
func (c Config) WithDefaults() Config {
	if c.ListenTLS == "" && c.ListenH3 == "" {
		c.Listen = cmp.Or(c.Listen, defaultListen)
	}
	c.Listeners = c.Listeners.WithDefaults()
	c.Limits = c.Limits.WithDefaults()
	c.Gate = c.Gate.WithDefaults()
	c.Size = cmp.Or(c.Size, defaultSize)
	c.Rules = cmp.Or(c.Rules, rulesAuto)
	c.Follow = cmp.Or(c.Follow, followAuto)
	if c.Node == "" {
		c.Node, _ = os.Hostname() // the empty name reports nothing
	}
	c.FirstByteTimeout = cmp.Or(c.FirstByteTimeout, defaultFirstByte)
	c.PrefillWithin = cmp.Or(c.PrefillWithin, defaultPrefillWithin)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, defaultIdle)
	c.Upstream = c.Upstream.WithDefaults()
	sites := maps.Clone(c.Sites)
	for name, site := range sites {
		site.Rules = cmp.Or(site.Rules, c.Rules)
		site.Gate = site.Gate.Or(c.Gate).WithDefaults()
		if len(site.Prefill) == 0 {
			site.Prefill = c.Prefill
		}
		if len(site.Keys) == 0 {
			site.Keys = c.Keys
		}
		if len(site.PurgeFrom) == 0 {
			site.PurgeFrom = c.PurgeFrom
		}
		if site.Follow == "" {
			site.Follow = followAuto
			if !isURL(c.Follow) {
				site.Follow = c.Follow
			}
		}
		sites[name] = site
	}
	c.Sites = sites
	return c
}

// Validate returns every problem of the table; see [config.Validator].
func (c Config) Validate() []config.Problem {
	var v validation
	if c.Store == "" {
		v.missing("store", "the folder in which answers are kept")
	}
	v.origins("", c.Origin, c.Origins, len(c.Sites) == 0)
	v.upstream(c.Upstream)
	v.listeners(c)
	if c.Size != 0 && c.Size < minSize {
		v.problem("size", "must be at least %v, got %v", config.Size(minSize), c.Size)
	}
	v.rules("rules", c.Rules)
	v.follow("follow", c.Follow)
	v.networks("purge-from", c.PurgeFrom)
	if len(c.Node) > hubapi.MaxNodeName || strings.ContainsFunc(c.Node, unicode.IsControl) {
		v.problem("node", "want a name of up to %d bytes", hubapi.MaxNodeName)
	}
	v.files("keys", c.Keys)
	v.patterns("prefill", c.Prefill)
	v.notNegative("prefill-within", c.PrefillWithin)
	if c.PrefillRate < 0 {
		v.problem("prefill-rate", "must not be negative")
	}
	v.clientSites(c)
	v.notNegative("first-byte-timeout", c.FirstByteTimeout)
	v.notNegative("idle-timeout", c.IdleTimeout)
	owner := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(c.Sites)) {
		v.site(name, c.Sites[name], owner)
	}
	return v.problems
}

// validation collects problems.
type validation struct{ problems []config.Problem }

func (v *validation) problem(key, format string, args ...any) {
	v.problems = append(v.problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

func (v *validation) missing(key, what string) {
	v.problems = append(v.problems, config.Missing(key, what))
}

func (v *validation) site(name string, site SiteConfig, owner map[string]string) {
	key := "sites." + name
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`).MatchString(name) {
		v.problem(key, `%q is no name: want up to 64 of a-z, 0-9, ".", "_" and "-", beginning with a letter or digit`, name)
	}
	if name == "default" {
		v.problem(key, "is the name of the site without hosts")
	}
	v.origins(key+".", site.Origin, site.Origins, true)
	if len(site.Hosts) == 0 {
		v.missing(key+".hosts", "the host names of the site")
	}
	for i, host := range site.Hosts {
		at := fmt.Sprintf("%s.hosts[%d]", key, i)
		switch {
		case host == "" || host != strings.ToLower(host) || strings.ContainsAny(host, "/ \t") || hostName(host) != host:
			v.problem(at, "%q is no host name: want lower case, without port", host)
		case owner[host] != "":
			v.problem(at, "%q is already a host of site %q", host, owner[host])
		default:
			owner[host] = name
		}
	}
	v.rules(key+".rules", site.Rules)
	v.follow(key+".follow", site.Follow)
	v.networks(key+".purge-from", site.PurgeFrom)
	v.files(key+".keys", site.Keys)
	v.patterns(key+".prefill", site.Prefill)
}

// networks checks a list of networks and addresses.
func (v *validation) networks(key string, list []string) {
	v.problems = append(v.problems, config.CheckNetworks(key, list)...)
}

// patterns checks a list of patterns of refs.
func (v *validation) patterns(key string, list []string) {
	for i, pattern := range list {
		if pattern == "" {
			v.problem(fmt.Sprintf("%s[%d]", key, i), "is empty: want a pattern of refs like \"app/org.example.*/x86_64/stable\"")
		}
	}
}

// files checks a list of file names.
func (v *validation) files(key string, list []string) {
	for i, name := range list {
		if name == "" {
			v.problem(fmt.Sprintf("%s[%d]", key, i), "is no file name")
		}
	}
}

// clientSites checks that clients are granted sites that there are.
func (v *validation) clientSites(c Config) {
	for _, name := range slices.Sorted(maps.Keys(c.Control.Clients)) {
		for i, site := range c.Control.Clients[name].Sites {
			if _, known := c.Sites[site]; !known && (site != "default" || c.Origin == "" && len(c.Origins) == 0) {
				v.problem(fmt.Sprintf("control.clients.%s.sites[%d]", name, i), "there is no site %q", site)
			}
		}
	}
}

func (v *validation) origin(key, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		v.problem(key, "%q is no URL: want http:// or https:// and a host", s)
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		v.problem(key, "must have no user, query or fragment")
	}
}

func (v *validation) rules(key, s string) {
	switch s {
	case "", rulesAuto, rulesNone:
	default:
		v.problem(key, `want "auto" or "none", got %q`, s)
	}
}

func (v *validation) follow(key, s string) {
	switch {
	case s == "", s == followAuto, s == followOn, s == followOff:
	case isURL(s):
		v.origin(key, s)
	default:
		v.problem(key, `want "auto", "on", "off" or a URL, got %q`, s)
	}
}

func (v *validation) notNegative(key string, d time.Duration) {
	if d < 0 {
		v.problem(key, "must not be negative")
	}
}

func isURL(s string) bool { return strings.Contains(s, "://") }

// hostName is the host of a Host field, without port, lower case.
func hostName(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}
