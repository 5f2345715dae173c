package node

import (
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
