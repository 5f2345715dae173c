package node

import (
	"cmp"
	"slices"
	"time"

	"freshet/internal/config"
	"freshet/internal/director"
	"freshet/internal/edge"
	"freshet/internal/handover"
	"freshet/internal/hub"
	"freshet/internal/mirror"
)

// Config is the configuration file of a process. [Config.Validate] checks what
// the tables have to do with each other.
type Config struct {
	// Log says what is logged and how.
	Log LogConfig `toml:"log"`
	// Admin is the listener for operators: health, readiness, metrics and
	// profiles. It is never the public one.
	Admin AdminConfig `toml:"admin"`
	// Handover says how another process takes over, most often one of a newer version.
	Handover HandoverConfig `toml:"handover"`
	// Hub takes uploads of builds and trees, verifies, signs and publishes them.
	Hub *hub.Config `toml:"hub"`
	// Edge caches what an origin (a hub or any web server) serves.
	Edge *edge.Config `toml:"edge"`
	// Mirror holds whole copies of projects, and serves them.
	Mirror *mirror.Config `toml:"mirror"`
	// Director tells clients which mirrors to download from.
	Director *director.Config `toml:"director"`
}

// HandoverConfig is the table [handover].
type HandoverConfig struct {
	// Start is how long a new process may take to read its configuration, and then to
	// serve, before it is given up. Default "2m".
	Start time.Duration `toml:"start"`

	// Drain is how long transfers may go on in the old process of a mirror or edge when the new
	// one serves. Those of a hub have 20 seconds, and end before the new one
	// begins. Default "1h".
	Drain time.Duration `toml:"drain"`
}

// WithDefaults returns c with every setting left zero replaced by its default.
func (c HandoverConfig) WithDefaults() HandoverConfig {
	return HandoverConfig{Start: cmp.Or(c.Start, handover.DefaultStart), Drain: cmp.Or(c.Drain, handover.DefaultDrain)}
}

// Validate reports times that are none.
func (c HandoverConfig) Validate() []config.Problem {
	return config.CheckNotNegative(
		config.Number{Key: "start", Value: int64(c.Start)}, config.Number{Key: "drain", Value: int64(c.Drain)},
	)
}

// AdminConfig configures the admin listener.
type AdminConfig struct {
	// Listen is the address of /-/healthy, /-/ready, /metrics and /debug/pprof,
	// for example "127.0.0.1:9600". Empty: there is none. Whoever reaches it can
	// read the process's memory by its profiles, so keep it off public networks.
	Listen string `toml:"listen"`

	// Cert and Key are files in PEM with which the admin listener speaks
	// TLS 1.3. They are read anew for each connection. Empty: plain HTTP.
	Cert string `toml:"cert"`

	// Key is the private key of Cert.
	Key string `toml:"key"`

	// ClientCA is a file with the certificates, in PEM, of those who vouch for
	// clients. Then a client may show a certificate instead of a token, and one
	// that is not good is refused; see [edge.control.clients].
	ClientCA string `toml:"client-ca"`
}

// Validate reports an address that cannot be listened on, and files that belong
// together and are not.
func (c AdminConfig) Validate() []config.Problem {
	var problems []config.Problem
	problem := func(key, message string) { problems = append(problems, config.Problem{Key: key, Message: message}) }
	if c.Listen != "" {
		if err := config.CheckAddress(c.Listen); err != nil {
			problem("listen", err.Error())
		}
	}
	switch {
	case c.Cert != "" && c.Key == "":
		problem("key", "is required with cert")
	case c.Cert == "" && c.Key != "":
		problem("cert", "is required with key")
	}
	if c.ClientCA != "" && c.Cert == "" {
		problem("client-ca", "needs cert and key")
	}
	return problems
}

// secrets are the files that the configuration names beside those of the hub and that
// nobody else may read.
func (c Config) secrets() []string {
	paths := []string{c.Admin.Key}
	if c.Edge != nil {
		paths = append(append(paths, c.Edge.HubTokenFile, c.Edge.Gate.Passwords), c.Edge.TLS.Secrets()...)
		for _, site := range c.Edge.Sites {
			paths = append(paths, site.Gate.Passwords)
		}
	}
	if c.Mirror != nil {
		paths = append(paths, c.Mirror.TriggerKey)
		for _, director := range c.Mirror.Directors {
			paths = append(paths, director.TokenFile)
		}
	}
	if c.Director != nil {
		paths = append(paths, c.Director.TLS.Secrets()...)
	}
	return slices.DeleteFunc(paths, func(path string) bool { return path == "" })
}
