package upkeep

import (
	"fmt"
	"time"

	"freshet/internal/glob"
)

// Rule says which former commits of refs are kept. The heads always are.
type Rule struct {
	// Ref is a pattern of refs, of [glob.Match].
	Ref string
	// Depth is how many commits before the head are kept.
	Depth int
	// Age is how long a commit is kept after another one has taken its place or
	// its ref was removed, whatever the depth.
	Age time.Duration
}

// Rules are tried in their order; the first one that matches a ref counts.
// DefaultRules come after them.
type Rules []Rule

// DefaultRules keep what rollbacks need, and of the catalogue what clients may be
// downloading.
func DefaultRules() Rules {
	const day = 24 * time.Hour
	return Rules{{"appstream*", 5, day}, {"*", 3, 30 * day}}
}

// Validate tells what is wrong with a rule.
func (r Rule) Validate() error {
	switch {
	case r.Ref == "":
		return fmt.Errorf(`ref is missing: a pattern like "app/*/beta"`)
	case r.Depth < 0:
		return fmt.Errorf("depth must not be negative, is %d", r.Depth)
	case r.Age < 0:
		return fmt.Errorf("age must not be negative, is %v", r.Age)
	}
	return nil
}

// of returns the rule of a ref.
func (rules Rules) of(ref string) Rule {
	for _, all := range []Rules{rules, DefaultRules()} {
		for _, rule := range all {
			if glob.Match(rule.Ref, ref) {
				return rule
			}
		}
	}
	return Rule{} // the last of the defaults matches all
}
