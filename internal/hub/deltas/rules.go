package deltas

import (
	"strings"

	"freshet/internal/glob"
)

// DefaultAppstreamDepth is how many deltas lead to an appstream2 branch, unless
// the configuration says otherwise.
const DefaultAppstreamDepth = 5

// Rules say how many static deltas lead to the head of a ref.
type Rules struct {
	// Refs are rules for applications and runtimes, of which the first that
	// matches counts. Refs that none matches have no deltas.
	Refs []Rule
	// Appstream is the depth of appstream2 branches. Those for clients of old
	// (appstream) have one from nothing if it is not 0.
	Appstream int
}

// Rule gives a depth to refs.
type Rule struct {
	// ID and Arch are patterns of [glob.Match]; one of each must match the id and the
	// architecture of the ref. None of a kind match all.
	ID, Arch []string
	// Depth is how many deltas lead to the head: one from nothing, one from the
	// commit before, one from that before it, and so on. 0 is none.
	Depth int
}

// Depth returns the depth of a ref.
func (r Rules) Depth(ref string) int {
	part := strings.Split(ref, "/")
	switch {
	case len(part) == 4 && (part[0] == "app" || part[0] == "runtime"):
		for _, rule := range r.Refs {
			if matches(rule.ID, part[1]) && matches(rule.Arch, part[2]) {
				return rule.Depth
			}
		}
	case len(part) == 2 && part[0] == "appstream2":
		return r.Appstream
	case len(part) == 2 && part[0] == "appstream":
		return min(r.Appstream, 1)
	}
	return 0
}

// matches tells whether s is one that the patterns choose; without patterns all are.
func matches(patterns []string, s string) bool {
	return len(patterns) == 0 || glob.MatchAny(patterns, s)
}
