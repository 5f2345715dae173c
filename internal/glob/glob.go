// Package glob compares names with the patterns that people write in commands,
// tokens and configurations: for refs, for the ids of applications, for
// architectures and branches.
//
// There is one special character. "*" stands for any characters, slashes too,
// and for none; everything else stands for itself. So every text is a pattern, and
// no rule for files applies: "app/*" is every application in any architecture and
// branch.
package glob

import (
	"slices"
	"strings"
)

// Match tells whether the pattern matches all of name. It takes time
// proportional to the length of name times that of the pattern's longest piece
// between stars.
func Match(pattern, name string) bool {
	piece, more, star := strings.Cut(pattern, "*")
	rest, ok := strings.CutPrefix(name, piece)
	if !ok || !star {
		return ok && rest == ""
	}
	for {
		piece, more, star = strings.Cut(more, "*")
		if !star {
			return strings.HasSuffix(rest, piece)
		}
		// The earliest place leaves most for what follows.
		if _, rest, ok = strings.Cut(rest, piece); !ok {
			return false
		}
	}
}

// MatchAny tells whether one of the patterns matches all of name.
func MatchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return Match(pattern, name) })
}
