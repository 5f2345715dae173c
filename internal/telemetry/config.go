package telemetry

import (
	"cmp"
	"fmt"
	"net/url"
	"time"

	"freshet/internal/config"
)

// Config is the table watch of a role, such as [mirror.watch].
type Config struct {
	// URL is that of the watch. Default: none, and nothing is counted for one.
	URL string `toml:"url"`

	// TokenFile is a file with the token of this node at the watch. Required with url.
	TokenFile string `toml:"token-file"`

	// Spool is the folder in which batches wait until the watch has them. Default: a folder
	// of the role's own.
	Spool string `toml:"spool"`

	// SpoolSize is how much of the disk they may take. Before that much is there, batches
	// are merged; then minutes become hours; then the oldest are dropped, which the watch is
	// told. Default "1GiB".
	SpoolSize config.Size `toml:"spool-size"`

	// SpoolTime is how long a batch waits before it is dropped. Default "168h".
	SpoolTime time.Duration `toml:"spool-time"`

	// Every is how often a batch is made. What a process has counted since is lost when it
	// is killed. Default "5s".
	Every time.Duration `toml:"every"`

	// GeoIP is a MaxMind database by which transfers are counted by country
	// ("GeoLite2-Country.mmdb"). Default: none.
	GeoIP string `toml:"geoip"`

	// GeoIPASN is one by which they are counted by autonomous system
	// ("GeoLite2-ASN.mmdb"). Default: none.
	GeoIPASN string `toml:"geoip-asn"`
}

// Defaults of Config.
const (
	defaultSpoolSize = 1 << 30
	defaultSpoolTime = 7 * 24 * time.Hour
	defaultEvery     = 5 * time.Second
	minEvery         = 100 * time.Millisecond
	maxEvery         = time.Minute
)

// WithDefaults returns c with every setting left zero replaced by its default, but Spool:
// that is the role's.
func (c Config) WithDefaults() Config {
	c.SpoolSize = cmp.Or(c.SpoolSize, defaultSpoolSize)
	c.SpoolTime = cmp.Or(c.SpoolTime, defaultSpoolTime)
	c.Every = cmp.Or(c.Every, defaultEvery)
	return c
}

// Validate returns every problem of the table; see [config.Validator].
func (c Config) Validate() []config.Problem {
	problems := config.CheckNotNegative(
		config.Number{Key: "spool-size", Value: int64(c.SpoolSize)},
		config.Number{Key: "spool-time", Value: int64(c.SpoolTime)},
	)
	problem := func(key, format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	if c.Every != 0 && (c.Every < minEvery || c.Every > maxEvery) {
		problem("every", "want from %v to %v, got %v", minEvery, maxEvery, c.Every)
	}
	if c.URL == "" {
		if c.TokenFile != "" {
			problem("token-file", "needs url")
		}
		return problems
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		problem("url", "want http://host:port or https://host:port, got %q", c.URL)
	}
	if c.TokenFile == "" {
		problems = append(problems, config.Missing("token-file", "the token of this node at the watch"))
	}
	return problems
}

// CheckFiles returns the files that are named and cannot be read; see
// [config.FileChecker].
func (c Config) CheckFiles() []config.Problem {
	var problems []config.Problem
	for _, f := range []struct{ key, path string }{{"token-file", c.TokenFile}, {"geoip", c.GeoIP}, {"geoip-asn", c.GeoIPASN}} {
		if f.path == "" {
			continue
		}
		if err := config.CheckReadable(f.path); err != nil {
			problems = append(problems, config.Problem{Key: f.key, Message: f.path + ": " + err.Error()})
		}
	}
	return problems
}
