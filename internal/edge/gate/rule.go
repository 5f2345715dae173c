package gate

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"freshet/internal/networks"
)

// rule is a [Rule] ready for use.
type rule struct {
	action  string
	from    networks.Set
	methods []string
	paths   []string
}

func newRule(r Rule) (rule, error) {
	r = r.WithDefaults()
	from, err := networks.ParseAll(r.From)
	if err != nil {
		return rule{}, err
	}
	return rule{action: r.Action, from: from, methods: r.Methods, paths: r.Paths}, nil
}

func (r *rule) fits(client netip.Addr, method, path string) bool {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return (len(r.from) == 0 || r.from.Has(client)) &&
		(len(r.methods) == 0 || slices.Contains(r.methods, method)) &&
		(len(r.paths) == 0 || slices.ContainsFunc(r.paths, func(p string) bool { return matchPath(p, path) }))
}

// matchPath reports whether the path fits the pattern of [Rule.Paths].
func matchPath(pattern, path string) bool {
	below := strings.HasSuffix(pattern, "/")
	switch {
	case strings.Contains(pattern, "*"):
		if below {
			pattern += "**"
		}
		return glob(pattern, path)
	case below:
		return strings.HasPrefix(path, pattern)
	}
	return path == pattern
}

// glob compares in time proportional to the product of the lengths, however
// many stars there are. A "*" takes no slash, a "**" anything.
func glob(pattern, s string) bool {
	// can[i] says that what was read of the pattern fits s[:i].
	can := make([]bool, len(s)+1)
	can[0] = true
	for len(pattern) > 0 {
		switch {
		case strings.HasPrefix(pattern, "**"):
			pattern = strings.TrimLeft(pattern, "*")
			for i := range len(s) {
				can[i+1] = can[i+1] || can[i]
			}
		case pattern[0] == '*':
			pattern = pattern[1:]
			for i := range len(s) {
				can[i+1] = can[i+1] || can[i] && s[i] != '/'
			}
		default:
			for i := len(s); i > 0; i-- {
				can[i] = can[i-1] && s[i-1] == pattern[0]
			}
			can[0] = false
			pattern = pattern[1:]
		}
	}
	return can[len(s)]
}
