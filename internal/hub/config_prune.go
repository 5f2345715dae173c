package hub

import (
	"cmp"
	"fmt"
	"time"

	"freshet/internal/hub/upkeep"
)

// PruneConfig is a table [hub.repos.NAME.prune]: what a prune keeps, and when it
// comes. docs/hub-upkeep.md tells more.
type PruneConfig struct {
	// Every is how often the hub prunes by itself, at least a minute. One that
	// somebody asks for counts. Default 0: only when somebody asks for it.
	Every time.Duration `toml:"every"`

	// Rules say which former commits are kept. The first that matches a ref counts.
	// Refs that none matches keep 3 commits before the head, and what was published
	// or removed in the last 30 days; branches of the catalogue 5 and one day.
	Rules []PruneRule `toml:"rules"`

	// Grace is how long an object stays when nothing needs it any more, for uploads
	// that rely on it and clients that are fetching it. Default "24h".
	Grace time.Duration `toml:"grace"`
}

// PruneRule is a table [[hub.repos.NAME.prune.rules]].
type PruneRule struct {
	// Ref is a pattern of refs, in which each "*" stands for any characters
	// ("app/*/beta"). Required.
	Ref string `toml:"ref"`

	// Depth is how many commits before the head are kept. Default 0.
	Depth int `toml:"depth"`

	// Age is how long a commit is kept after another one took its place or its ref
	// was removed, whatever the depth. Default 0.
	Age time.Duration `toml:"age"`
}

const (
	defaultPruneGrace = 24 * time.Hour // of PruneConfig.Grace
	minPruneEvery     = time.Minute    // of PruneConfig.Every, unless it is 0
)

// WithDefaults returns c with every setting left zero replaced by its default.
func (c PruneConfig) WithDefaults() PruneConfig {
	c.Grace = cmp.Or(c.Grace, defaultPruneGrace)
	return c
}

func (c PruneConfig) rules() upkeep.Rules {
	rules := make(upkeep.Rules, 0, len(c.Rules))
	for _, rule := range c.Rules {
		rules = append(rules, upkeep.Rule(rule))
	}
	return rules
}

func (v *validation) prune(key string, c PruneConfig) {
	v.notNegative(key+".grace", int64(c.Grace))
	if c.Every != 0 && c.Every < minPruneEvery {
		v.problem(key+".every", "%s is too often: at least %s, or 0 for never", c.Every, minPruneEvery)
	}
	for i, rule := range c.rules() {
		if err := rule.Validate(); err != nil {
			v.problem(fmt.Sprintf("%s.rules[%d]", key, i), "%v", err)
		}
	}
}
