package node

import (
	"fmt"
	"log/slog"

	"freshet/internal/config"
	"freshet/internal/edge"
	"freshet/internal/hub"
)

// Config is the configuration file of a process. [Config.Validate] checks what
// the tables have to do with each other.
type Config struct {
	// Log says what is logged and how.
	Log LogConfig `toml:"log"`
	// Admin is the listener for operators: health, readiness, metrics and
	// profiles. It is never the public one.
	Admin AdminConfig `toml:"admin"`
	// Hub takes uploads of builds and trees, verifies, signs and publishes them.
	Hub *hub.Config `toml:"hub"`
	// Edge caches what an origin (a hub or any web server) serves.
	Edge *edge.Config `toml:"edge"`
}

// LogConfig says what is logged and how. The log goes to standard error.
type LogConfig struct {
	// Level is the least severe level that is logged: "debug", "info", "warn" or
	// "error". Requests are logged at info, those that failed with 5xx at warn.
	Level slog.Level `toml:"level"`
	// Format is "text" or "json".
	Format string `toml:"format"`
}

// WithDefaults fills in what is not set.
func (c LogConfig) WithDefaults() LogConfig {
	if c.Format == "" {
		c.Format = "text"
	}
	return c
}

// Validate reports an unknown format.
func (c LogConfig) Validate() []config.Problem {
	switch c.Format {
	case "", "text", "json":
		return nil
	}
	return []config.Problem{{Key: "format", Message: fmt.Sprintf(`want "text" or "json", got %q`, c.Format)}}
}

// AdminConfig configures the admin listener.
type AdminConfig struct {
	// Listen is the address of /-/healthy, /-/ready, /metrics and /debug/pprof,
	// for example "127.0.0.1:9600". Empty: there is none. Whoever reaches it can
	// read the process's memory by its profiles, so keep it off public networks.
	Listen string `toml:"listen"`
}

// Validate reports an address that cannot be listened on.
func (c AdminConfig) Validate() []config.Problem {
	if c.Listen == "" {
		return nil
	}
	if err := config.CheckAddress(c.Listen); err != nil {
		return []config.Problem{{Key: "listen", Message: err.Error()}}
	}
	return nil
}
