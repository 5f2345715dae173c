package deltas

import (
	"strings"
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
	// ID and Arch are patterns; one of each must match the id and the
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
			if matchesAny(rule.ID, part[1]) && matchesAny(rule.Arch, part[2]) {
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

func matchesAny(patterns []string, s string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		if Match(p, s) {
			return true
		}
	}
	return false
}

// Match tells whether a pattern matches all of s: "*" stands for one or more
// characters of any kind, as in flat-manager, and everything else for itself.
func Match(pattern, s string) bool {
	begin, rest, star := strings.Cut(pattern, "*")
	s, ok := strings.CutPrefix(s, begin)
	if !ok || !star {
		return ok && s == ""
	}
	for {
		var next string
		next, rest, star = strings.Cut(rest, "*")
		if !star {
			return len(s) > len(next) && strings.HasSuffix(s, next)
		}
		// The earliest place leaves most for what follows.
		if len(s) == 0 {
			return false
		}
		at := strings.Index(s[1:], next)
		if at < 0 {
			return false
		}
		s = s[1+at+len(next):]
	}
}
