package hub

import (
	"fmt"
	"time"

	"freshet/internal/hub/deltas"
)

// DeltasConfig is a table [hub.repos.NAME.deltas]: which static deltas the hub
// makes after each publish. With them, clients fetch a few files instead of one
// for each object, and of an update what has changed. docs/hub-deltas.md tells more.
type DeltasConfig struct {
	// Rules say which refs get how many. The first that matches counts, and refs
	// that none matches get none. Default: no rules; then the hub makes no
	// deltas at all.
	Rules []DeltaRule `toml:"rules"`

	// AppstreamDepth is how many deltas lead to each appstream2 branch, which
	// every client asks for again and again; -1 is none. Default 5.
	AppstreamDepth int `toml:"appstream-depth"`

	// Engine makes the deltas: "native" is the hub itself, with the program xz;
	// "flatpak" is the program flatpak build-update-repo. Default "native".
	Engine string `toml:"engine"`

	// WaitFor are patterns for the ids of applications and runtimes whose publishes wait
	// until their deltas are made, so that nobody has to fetch the new version
	// without: for what many update at once. Other publishes go on meanwhile.
	// Default: none.
	WaitFor []string `toml:"wait-for"`

	// WaitAtMost is how long such a publish waits after it was asked for; then it goes
	// on, and its deltas come later. Default "15m".
	WaitAtMost time.Duration `toml:"wait-at-most"`

	// Grace is how long the files of a delta stay after no client can choose it
	// any more, for those that have chosen already. Default "24h".
	Grace time.Duration `toml:"grace"`
}

// DeltaRule is a table [[hub.repos.NAME.deltas.rules]].
type DeltaRule struct {
	// ID are patterns for the ids of applications and runtimes, in which "*" stands
	// for any characters ("*.Locale", "org.example.*"). Default: all.
	ID []string `toml:"id"`

	// Arch are patterns for architectures. Default: all.
	Arch []string `toml:"arch"`

	// Depth is how many deltas lead to the newest commit: one from nothing, for
	// installing, one from the commit before, one from that before it, and so
	// on. Default 0, none.
	Depth int `toml:"depth"`
}

const (
	defaultDeltaGrace = 24 * time.Hour
	defaultDeltaWait  = 15 * time.Minute
	maxDeltaDepth     = 50
)

// WithDefaults returns c with every setting left zero replaced by its default.
func (c DeltasConfig) WithDefaults() DeltasConfig {
	if c.AppstreamDepth == 0 {
		c.AppstreamDepth = deltas.DefaultAppstreamDepth
	}
	if c.Engine == "" {
		c.Engine = deltas.EngineNative
	}
	if c.WaitAtMost == 0 {
		c.WaitAtMost = defaultDeltaWait
	}
	if c.Grace == 0 {
		c.Grace = defaultDeltaGrace
	}
	return c
}

// rules are those of the configuration; false means that the hub makes no
// deltas.
func (c DeltasConfig) rules() (deltas.Rules, bool) {
	c = c.WithDefaults()
	r := deltas.Rules{Appstream: max(0, c.AppstreamDepth)}
	for _, rule := range c.Rules {
		r.Refs = append(r.Refs, deltas.Rule(rule))
	}
	return r, len(c.Rules) > 0
}

func (v *validation) deltas(key string, c DeltasConfig) {
	depth := func(key string, n, least int) {
		if n < least || n > maxDeltaDepth {
			v.problem(key, "must be between %d and %d", least, maxDeltaDepth)
		}
	}
	depth(key+".appstream-depth", c.AppstreamDepth, -1)
	v.notNegative(key+".grace", int64(c.Grace))
	v.notNegative(key+".wait-at-most", int64(c.WaitAtMost))
	if len(c.WaitFor) > 0 && len(c.Rules) == 0 {
		v.problem(key+".wait-for", "waits for nothing: there are no rules that ask for deltas")
	}
	if c.Engine != "" && c.Engine != deltas.EngineNative && c.Engine != deltas.EngineFlatpak {
		v.problem(key+".engine", "%q is no engine: want %q or %q", c.Engine, deltas.EngineNative, deltas.EngineFlatpak)
	}
	for i, rule := range c.Rules {
		depth(fmt.Sprintf("%s.rules[%d].depth", key, i), rule.Depth, 0)
	}
}
