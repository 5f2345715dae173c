package director

import (
	"cmp"
	"fmt"
	"time"

	"freshet/internal/config"
	"freshet/internal/director/lists"
	"freshet/internal/director/orders"
	"freshet/internal/doors"
	"freshet/internal/rsync"
)

// Config is the table [director]. There are two kinds of director, and one may be
// both: with Snapshot it answers as MirrorManager's mirrorlist-server does, with
// State it sends each client that asks for a file to a mirror that has it.
//
// The files are looked at now and then, and read anew when they have changed, or
// at SIGHUP. One that cannot be used is told of in the log, and the one that was
// read before stays in use.
type Config struct {
	doors.Listeners

	// TrustedProxies are networks whose X-Forwarded-For or, without one, Forwarded is
	// believed, and whose X-Forwarded-Proto: the last address that is not theirs is
	// the client. It is read anew on SIGHUP. Default: none are named, and whoever
	// connects is believed, the last address in the first X-Forwarded-For, as
	// mirrorlist-server does it. With ["127.0.0.1"] this machine alone is.
	TrustedProxies []string `toml:"trusted-proxies"`

	// Limits bound what clients may take.
	Limits doors.Limits `toml:"limits"`

	// Snapshot is the file that says which mirror has what, in the format of
	// MirrorManager ("mirrorlist_cache.proto"). "freshet director snapshot" makes
	// it. Required, unless there is State.
	Snapshot string `toml:"snapshot"`

	// State is the folder in which the redirector keeps what it knows: the catalogue
	// of mirrors, who has which file, and how mirrors have been. It is made when it
	// is not there, and belongs to one director. Default: none, and files are not
	// answered for.
	State string `toml:"state"`

	// Catalogue says where the catalogue of mirrors is, if not in State: a DSN
	// "postgres://…", which directors may share; the URL of another director's, or
	// of a copy of it ("https://…"), which is followed; or a file in JSON.
	Catalogue string `toml:"catalogue"`

	// CatalogueToken is the token by which another director's catalogue is read.
	CatalogueToken string `toml:"catalogue-token"`

	// Inventory says where it is known which mirror has which file, if that is not found
	// out here: the URL of another director ("https://director.example.org:9600"), or
	// of a copy of its file inventory, which is followed; or the path of such a file.
	// Mirrors are probed nevertheless.
	Inventory string `toml:"inventory"`

	// InventoryToken is the token by which another director's inventory is read.
	InventoryToken string `toml:"inventory-token"`

	// InventoryOnce takes over Inventory only if State has none, to begin with, and
	// finds out itself what changes from then on. Default false.
	InventoryOnce bool `toml:"inventory-once"`

	// DesiredKey is the file with the private key that signs the desired states of mirrors:
	// Ed25519 in PEM. Directors that share a catalogue must have the same. Default: one of its
	// own in State ("desired.key"), which is made at the first start.
	DesiredKey string `toml:"desired-key"`

	// Control says who may change the catalogue and tell what mirrors have.
	Control orders.Config `toml:"control"`

	// NoProbes takes all mirrors to work, instead of looking at them. Which version of
	// a repository they have is then known by their manifests and listings alone.
	// Default false.
	NoProbes bool `toml:"no-probes"`

	// NoScans reads no listings of mirrors and origins: what they have is known by
	// what they push, alone. Default false.
	NoScans bool `toml:"no-scans"`

	// ScansAtOnce is how many mirrors and origins are listed at the same time.
	// Default 8.
	ScansAtOnce int `toml:"scans-at-once"`

	// ScanRate is how many requests a second one web server is asked while its folders
	// are listed. Default 50.
	ScanRate int `toml:"scan-rate"`

	// Rsync is the program that lists mirrors and origins by rsync.
	Rsync rsync.Options `toml:"rsync"`

	// ScanAge is for how long what is known of a mirror's files is used after the
	// last time that they could be listed, or were pushed. Default "24h".
	ScanAge time.Duration `toml:"scan-age"`

	// GeoIP is a MaxMind database that tells the countries of addresses
	// ("GeoLite2-Country.mmdb"). Default: none, and no country is known.
	GeoIP string `toml:"geoip"`

	// GeoIPCity is a MaxMind database that tells the places of addresses, by which
	// the redirector chooses the nearest mirrors ("GeoLite2-City.mmdb"). Default:
	// none, and only countries are known.
	GeoIPCity string `toml:"geoip-city"`

	// GeoIPASN is a MaxMind database of autonomous systems ("GeoLite2-ASN.mmdb"),
	// for addresses that are not in Netblocks. Default: none.
	GeoIPASN string `toml:"geoip-asn"`

	// Netblocks is a table of the routes of the Internet, a netblock and the
	// number of its autonomous system on each line ("global_netblocks.txt").
	// Default: none, and no client is known to be in the network of a mirror by
	// its number.
	Netblocks string `toml:"netblocks"`

	// Continents is a table of countries and their continents
	// ("country_continent.csv"). Default: none, and mirrors of other countries
	// count as equally far away.
	Continents string `toml:"continents"`

	// CheckEvery is how often it is looked whether files have changed. A file is
	// read when two looks in a row have found it the same. Default "5s".
	CheckEvery time.Duration `toml:"check-every"`

	// Minimum is how many mirrors an answer has, if there are as many: when fewer
	// are near the client, those of the whole world are added. -1: they never
	// are. Default 5.
	Minimum int `toml:"minimum"`

	// Prefer says which URL of a mirror is given to clients who get but one.
	// "https": that with https, if there is one; "first": the first that the
	// snapshot has. Default "https".
	Prefer string `toml:"prefer"`

	// Strict answers as mirrorlist-server does also where that is odd: parameters
	// are never decoded, and mirrors that are for clients in certain countries
	// only are also given to others that are near. Default false.
	Strict bool `toml:"strict"`

	// RequestLog is a file to which a line is appended for each request for a
	// repository, as mirrorlist-server writes it, with the whole address of the
	// client. MirrorManager makes statistics of it. It may be moved away or cut
	// short at any time; SIGHUP opens it anew. Default: none.
	RequestLog string `toml:"request-log"`
}

// Defaults of Config.
const (
	defaultListen     = ":8082"
	defaultCheckEvery = 5 * time.Second
	defaultMinimum    = 5
	defaultScanAge    = 24 * time.Hour
	defaultScans      = 8
	defaultScanRate   = 50
	preferHTTPS       = "https"
	preferFirst       = "first"
)

// WithDefaults returns c with every setting left zero replaced by its default.
func (c Config) WithDefaults() Config {
	if c.ListenTLS == "" {
		c.Listen = cmp.Or(c.Listen, defaultListen)
	}
	c.Listeners = c.Listeners.WithDefaults()
	c.Limits = c.Limits.WithDefaults()
	c.CheckEvery = cmp.Or(c.CheckEvery, defaultCheckEvery)
	c.Minimum = cmp.Or(c.Minimum, defaultMinimum)
	c.Prefer = cmp.Or(c.Prefer, preferHTTPS)
	c.ScanAge = cmp.Or(c.ScanAge, defaultScanAge)
	c.ScansAtOnce = cmp.Or(c.ScansAtOnce, defaultScans)
	c.ScanRate = cmp.Or(c.ScanRate, defaultScanRate)
	return c
}

// Validate returns every problem of the table; see [config.Validator].
func (c Config) Validate() []config.Problem {
	problems := append(c.Problems("director"), config.CheckNetworks("trusted-proxies", c.TrustedProxies)...)
	problem := func(key, format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	problems = append(problems, config.CheckNotNegative(
		config.Number{Key: "scans-at-once", Value: int64(c.ScansAtOnce)},
		config.Number{Key: "scan-rate", Value: int64(c.ScanRate)},
	)...)
	if c.TLS.ACME.Dir != "" && len(c.TLS.ACME.Hosts) == 0 {
		problems = append(problems, config.Missing("tls.acme.hosts", "the names to get certificates for"))
	}
	if c.Snapshot == "" && c.State == "" {
		problems = append(problems, config.Missing("state", "the folder for what is known of mirrors; or else the snapshot, MirrorManager's file of who has what"))
	}
	if c.State == "" {
		c.checkStateless(problem)
	}
	if c.Inventory == "" && c.InventoryToken != "" {
		problem("inventory-token", "has no effect without inventory, which it is for")
	}
	if c.Inventory == "" && c.InventoryOnce {
		problem("inventory-once", "has no effect without inventory, where it is taken from")
	}
	switch {
	case c.ScanAge < 0:
		problem("scan-age", "must not be negative")
	case c.ScanAge > 0 && c.ScanAge < minScanAge:
		problem("scan-age", "must be at least %v, got %v", minScanAge, c.ScanAge)
	}
	switch {
	case c.CheckEvery < 0:
		problem("check-every", "must not be negative")
	case c.CheckEvery > 0 && c.CheckEvery < minCheckEvery:
		problem("check-every", "must be at least %v, got %v", minCheckEvery, c.CheckEvery)
	}
	if c.Minimum < -1 {
		problem("minimum", "want a number of mirrors, or -1, got %d", c.Minimum)
	}
	switch c.Prefer {
	case "", preferHTTPS, preferFirst:
	default:
		problem("prefer", `want "https" or "first", got %q`, c.Prefer)
	}
	return problems
}

// checkStateless finds what does nothing without a redirector.
func (c Config) checkStateless(problem func(key, format string, args ...any)) {
	for _, s := range []struct {
		key string
		set bool
	}{
		{"catalogue", c.Catalogue != ""},
		{"catalogue-token", c.CatalogueToken != ""},
		{"inventory", c.Inventory != ""},
		{"geoip-city", c.GeoIPCity != ""},
		{"geoip-asn", c.GeoIPASN != ""},
		{"no-probes", c.NoProbes},
		{"no-scans", c.NoScans},
		{"scans-at-once", c.ScansAtOnce != 0},
		{"scan-rate", c.ScanRate != 0},
		{"rsync", c.Rsync != rsync.Options{}},
	} {
		if s.set {
			problem(s.key, "has no effect without state, the folder of the redirector")
		}
	}
}

// minScanAge is more than mirrors are scanned apart.
const minScanAge = 10 * time.Minute

// minCheckEvery keeps the looks from being work.
const minCheckEvery = 100 * time.Millisecond

// CheckFiles returns the files that are named and cannot be read; see
// [config.FileChecker].
func (c Config) CheckFiles() []config.Problem {
	var problems []config.Problem
	for _, f := range []struct{ key, path string }{
		{"snapshot", c.Snapshot},
		{"geoip", c.GeoIP},
		{"geoip-city", c.GeoIPCity},
		{"geoip-asn", c.GeoIPASN},
		{"netblocks", c.Netblocks},
		{"continents", c.Continents},
		{"desired-key", c.DesiredKey},
	} {
		if f.path == "" {
			continue
		}
		if err := config.CheckReadable(f.path); err != nil {
			problems = append(problems, config.Problem{Key: f.key, Message: f.path + ": " + err.Error()})
		}
	}
	return problems
}

// options are those of answers.
func (c Config) options() lists.Options {
	return lists.Options{Minimum: max(c.Minimum, 0), PreferHTTPS: c.Prefer == preferHTTPS, Strict: c.Strict}
}
