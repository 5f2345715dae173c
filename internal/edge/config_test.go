package edge

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	good := Config{Origin: "https://hub.example.org/path", Store: "/x"}
	site := func(name string, s SiteConfig) Config {
		c := good
		c.Sites = map[string]SiteConfig{name: s}
		return c
	}
	with := func(change func(*Config)) Config { c := good; change(&c); return c }
	for _, c := range []struct {
		name string
		cfg  Config
		keys string
	}{
		{"good", good, ""},
		{"good sites only", Config{Store: "/x", Sites: map[string]SiteConfig{"a": {Hosts: []string{"a.example"}, Origin: "http://b"}}}, ""},
		{"everything missing", Config{}, "store origin"},
		{"origin", with(func(c *Config) { c.Origin = "hub.example.org" }), "origin"},
		{"origin with query", with(func(c *Config) { c.Origin = "http://a/?b" }), "origin"},
		{"listen", with(func(c *Config) { c.Listen = "8081" }), "listen"},
		{"memory", with(func(c *Config) { c.Listen = "mem:edge" }), ""},
		{"size too small", with(func(c *Config) { c.Size = 10 }), "size"},
		{"several", with(func(c *Config) { c.Rules, c.Follow, c.IdleTimeout = "x", "y", -1 }), "rules follow idle-timeout"},
		{"follow URL", with(func(c *Config) { c.Follow = "https://hub" }), ""},
		{"site", site("a", SiteConfig{}), "sites.a.origin sites.a.hosts"},
		{"site names", site("A B", SiteConfig{Hosts: []string{"x"}, Origin: "http://y"}), "sites.A B"},
		{"reserved name", site("default", SiteConfig{Hosts: []string{"x"}, Origin: "http://y"}), "sites.default"},
		{"hosts", site("a", SiteConfig{Hosts: []string{"ok", "Up", "p:80", "ok"}, Origin: "http://y"}), "sites.a.hosts[1] sites.a.hosts[2] sites.a.hosts[3]"},
	} {
		var keys []string
		for _, p := range c.cfg.Validate() {
			keys = append(keys, p.Key)
		}
		if got := strings.Join(keys, " "); got != c.keys {
			t.Errorf("%s: problems with %q, want %q", c.name, got, c.keys)
		}
	}
}
