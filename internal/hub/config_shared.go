package hub

// SharedConfig is the table [hub.shared]: several hubs that share one directory and
// one database. See docs/hub-shared.md.
type SharedConfig struct {
	// Instance is the name of this hub among those that share dir and database; no
	// other may have it. With it the hub runs beside others, which needs database
	// and a dir on a file system that all see alike (not NFS). Default: the hub is
	// alone, and nobody else may open dir.
	Instance string `toml:"instance"`

	// URL is where the others reach this hub, without a slash at the end
	// ("http://10.0.0.1:8080"): they pass on to whoever publishes what only that one
	// can do. Default: "http://" and the listener's address, which only suits hubs on
	// one machine.
	URL string `toml:"url"`
}

func (v *validation) shared(c Config) {
	switch {
	case c.Shared.Instance != "":
		v.name("shared.instance", c.Shared.Instance)
		if c.Database == "" {
			v.problem("shared.instance", "needs database: hubs that share a dir share a PostgreSQL database too")
		}
	case c.Shared.URL != "":
		v.problem("shared.url", "means nothing without shared.instance")
	}
	v.url("shared.url", c.Shared.URL)
}

// isShared tells whether other hubs share the directory.
func (c *Config) isShared() bool { return c.Shared.Instance != "" }
