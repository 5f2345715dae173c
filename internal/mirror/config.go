package mirror

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"freshet/internal/config"
	"freshet/internal/doors"
	"freshet/internal/mirror/presets"
	"freshet/internal/mirror/project"
	"freshet/internal/mirror/rsyncd"
	"freshet/internal/rsync"
	"freshet/internal/telemetry"
)

// Config is the table [mirror].
type Config struct {
	// Directory is where the mirror keeps its projects: one file system, which nobody
	// else writes to. It is made when it is not there, and belongs to one mirror.
	// Required.
	Directory string `toml:"directory"`

	doors.Listeners

	// TrustedProxies are networks whose X-Forwarded-For or, without one, Forwarded is
	// believed: the last address that is not theirs is the client, in records and for what
	// it is served after a switch. Bounds of connections hold for the proxies themselves.
	// Default: none.
	TrustedProxies []string `toml:"trusted-proxies"`

	// Node is the name that the mirror tells directors and others. Default: the name of
	// the machine.
	Node string `toml:"node"`

	// URL is where siblings reach this mirror, as they have it in their lists:
	// "https://mirror.example". With it a fleet shares a change: each mirror fetches its
	// share of the files from upstream, and waits a while for what the others fetch.
	// Default: siblings are asked only for what they have already.
	URL string `toml:"url"`

	// HideStatus keeps from the public what /.freshet/status tells: how fresh projects are, what
	// fails, how full the disk is. What is held is seen in any case. Default false.
	HideStatus bool `toml:"hide-status"`

	// TriggerKey is the file with the private key that signs triggers for downstream
	// mirrors, as "freshet mirror trigger-key" makes it. Required when a project
	// has downstream.
	TriggerKey string `toml:"trigger-key"`

	// Rsync is the program that speaks with upstreams by rsync.
	Rsync rsync.Options `toml:"rsync"`

	// Limits are those of all projects together.
	Limits LimitsConfig `toml:"limits"`

	// Clients bounds what those who download may take of the connections.
	Clients doors.Limits `toml:"clients"`

	// Rsyncd serves the projects by rsync.
	Rsyncd rsyncd.Config `toml:"rsyncd"`

	// Capacity is how much the mirror can send: "1Gbit/s". Directors are told how busy it is,
	// and send fewer clients when it is. Default "0bit/s": they are not told.
	Capacity config.Rate `toml:"capacity"`

	// Watch is told what the mirror serves and holds.
	Watch telemetry.Config `toml:"watch"`

	// Trace is what the mirror tells of itself in project/trace of projects of kind deb.
	Trace TraceConfig `toml:"trace"`

	// Keys are public keys by name, as text: armored OpenPGP keys, or those of Alpine. A
	// project whose keys have such a name need no file. Default: none.
	Keys map[string]string `toml:"keys"`

	// Desired says whose settings the mirror follows besides those of this file, which go
	// before them.
	Desired DesiredConfig `toml:"desired"`

	// Control says who may give orders on the admin listener.
	Control ControlConfig `toml:"control"`

	// Directors are told what the mirror has, by name.
	Directors map[string]DirectorConfig `toml:"directors"`

	// Projects are what is mirrored, by name.
	Projects map[string]project.Config `toml:"projects"`
}

// LimitsConfig is the table [mirror.limits].
type LimitsConfig struct {
	// Bandwidth bounds what is received for all projects together. Serving is not
	// bounded. Default "0bit/s": no bound.
	Bandwidth config.Rate `toml:"bandwidth"`

	// IO bounds what syncs write to the disk, and what they and checks read of it to hash it.
	// Old files are removed at a pace of their own. Default "0bit/s": no bound.
	IO config.Rate `toml:"io"`

	// Syncs is how many projects are synced at once. Default 2.
	Syncs int `toml:"syncs"`

	// Connections is how many connections one sync has to an upstream at most. Default 4.
	Connections int `toml:"connections"`

	// DSCP marks the packets of syncs for routers: a number from 0 to 63, or a name like
	// "CS1" or "LE". Default: none.
	DSCP DSCP `toml:"dscp"`

	// Reserve is how much of the disk stays free, in percent or as a size. When there is
	// less, old generations go before their grace time, and nothing new is fetched
	// that does not fit. Default "8%".
	Reserve Reserve `toml:"reserve"`
}

// TraceConfig is the table [mirror.trace]: fields of the file by which Debian and those who do as
// it does judge mirrors. Each is left out by default.
type TraceConfig struct {
	// Host is the name by which clients know the mirror, and that of the file. Default:
	// node.
	Host string `toml:"host"`

	// Maintainer says who looks after the mirror: "Admins <admins@mirror.example>".
	Maintainer string `toml:"maintainer"`

	// Sponsor says who pays for it: "Example <https://example.com>".
	Sponsor string `toml:"sponsor"`

	// Country is where it is, in two letters: "DE".
	Country string `toml:"country"`

	// Location is where in the country: "Berlin".
	Location string `toml:"location"`

	// Throughput is what it can send: "10Gb".
	Throughput string `toml:"throughput"`
}

// DirectorConfig is a table [mirror.directors.NAME].
type DirectorConfig struct {
	// URL is that of the director's admin listener. Required.
	URL string `toml:"url"`

	// TokenFile is a file with the token of this mirror in the director's catalogue.
	// Required.
	TokenFile string `toml:"token-file"`

	// CA is a file with the certificates that vouch for that of the director, in PEM.
	// Default: those of the system.
	CA string `toml:"ca"`

	// Mirror is the name of this mirror in the catalogue. Default: node.
	Mirror string `toml:"mirror"`
}

// Defaults of Config.
const (
	defaultListen      = ":8083"
	defaultSyncs       = 2
	defaultConnections = 4
)

// WithDefaults returns c with every setting left zero replaced by its default, and the
// projects with what their presets say.
func (c Config) WithDefaults() Config {
	if c.ListenTLS == "" {
		c.Listen = cmp.Or(c.Listen, defaultListen)
	}
	c.Listeners = c.Listeners.WithDefaults()
	c.Clients = c.Clients.WithDefaults()
	c.Limits = c.Limits.WithDefaults()
	c.Watch = c.Watch.WithDefaults()
	projects := make(map[string]project.Config, len(c.Projects))
	for name, p := range c.Projects {
		preset, _ := presets.Find(p.Preset) // Validate tells
		projects[name] = p.Over(preset.Config).WithDefaults()
	}
	c.Projects = projects
	return c
}

// WithDefaults returns c with every setting left zero replaced by its default.
func (c LimitsConfig) WithDefaults() LimitsConfig {
	c.Syncs = cmp.Or(c.Syncs, defaultSyncs)
	c.Connections = cmp.Or(c.Connections, defaultConnections)
	c.Reserve = cmp.Or(c.Reserve, defaultReserve())
	return c
}

// Validate returns every problem of the table; see [config.Validator].
func (c Config) Validate() []config.Problem {
	var problems []config.Problem
	problem := func(key, format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	if c.Directory == "" {
		problems = append(problems, config.Missing("directory", "the folder for the projects"))
	}
	if c.URL != "" {
		if err := project.CheckURL(c.URL, "https", "http"); err != nil {
			problem("url", "%v", err)
		}
	}
	problems = append(problems, c.Problems("mirror")...)
	problems = append(problems, config.CheckNetworks("trusted-proxies", c.TrustedProxies)...)
	for _, name := range slices.Sorted(maps.Keys(c.Directors)) {
		for _, found := range c.Directors[name].Validate() {
			found.Key = "directors." + name + "." + found.Key
			problems = append(problems, found)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Projects)) {
		p, key := c.Projects[name], "projects."+name
		if c.Desired.URL != "" && p.Partial() {
			continue // it has settings of one that is desired
		}
		if err := project.CheckName(name); err != nil {
			problem(key, "%v", err)
		}
		if p.Preset != "" {
			if _, err := presets.Find(p.Preset); err != nil {
				problem(key+".preset", "%v", err)
				continue
			}
		}
		if len(p.Downstream) > 0 && c.TriggerKey == "" {
			problem("trigger-key", "is required: it signs what is told to the downstream mirrors of project %q", name)
		}
		for i, d := range p.Directors {
			if _, known := c.Directors[d]; !known {
				problem(fmt.Sprintf("%s.directors[%d]", key, i), "there is no [mirror.directors.%s]", d)
			}
		}
		preset, _ := presets.Find(p.Preset) // known
		for _, found := range p.Over(preset.Config).Validate() {
			found.Key = key + "." + found.Key
			problems = append(problems, found)
		}
	}
	return problems
}

// Validate returns every problem of the table; see [config.Validator].
func (c LimitsConfig) Validate() []config.Problem {
	var problems []config.Problem
	if c.Syncs < 0 {
		problems = append(problems, config.Problem{Key: "syncs", Message: fmt.Sprintf("want how many at once, got %d", c.Syncs)})
	}
	if c.Connections < 0 || c.Connections > maxConnections {
		problems = append(problems, config.Problem{Key: "connections", Message: fmt.Sprintf("want 1 to %d, got %d", maxConnections, c.Connections)})
	}
	return problems
}

// maxConnections keeps a mirror from being a burden to its upstreams.
const maxConnections = 32

// Validate returns every problem of the table; see [config.Validator].
func (c DirectorConfig) Validate() []config.Problem {
	var problems []config.Problem
	switch u, err := url.Parse(c.URL); {
	case c.URL == "":
		problems = append(problems, config.Missing("url", "the director's admin listener"))
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		problems = append(problems, config.Problem{Key: "url", Message: fmt.Sprintf("want http://host:port or https://host:port, got %q", c.URL)})
	}
	if c.TokenFile == "" {
		problems = append(problems, config.Missing("token-file", "the token of this mirror in the director's catalogue"))
	}
	return problems
}

// CheckFiles returns the files that are named and cannot be read; see
// [config.FileChecker].
func (c Config) CheckFiles() []config.Problem {
	var problems []config.Problem
	check := func(key, path string) {
		if path == "" {
			return
		}
		if err := config.CheckReadable(path); err != nil {
			problems = append(problems, config.Problem{Key: key, Message: path + ": " + err.Error()})
		}
	}
	check("trigger-key", c.TriggerKey)
	check("desired.token-file", c.Desired.TokenFile)
	check("desired.ca", c.Desired.CA)
	for name, d := range c.Directors {
		check("directors."+name+".token-file", d.TokenFile)
		check("directors."+name+".ca", d.CA)
	}
	for name, p := range c.Projects {
		preset, _ := presets.Find(p.Preset) // or Validate tells
		for _, found := range p.Over(preset.Config).CheckFiles(c.Keys) {
			found.Key = "projects." + name + "." + found.Key
			problems = append(problems, found)
		}
	}
	return problems
}
