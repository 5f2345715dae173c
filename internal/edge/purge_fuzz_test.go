package edge

import (
	"net/http"
	"slices"
	"testing"

	"freshet/internal/edge/diskcache"
)

// Whatever a client may ask for by a URL, a purge of the same URL means, and
// whatever a purge takes as a URL is a path on the edge.
func FuzzPurgeMeansWhatIsAsked(f *testing.F) {
	for _, seed := range []string{
		"/", "/a?b", "/a%20b", "/a b", "/a%2fb", "/%41?%42", "/a//b/./c", "/a/../b", "http://x/a", "https://x", "//x/y", "/repo/summary?x",
		"/a?%zz", "/a?", "/\x00", "/%00", "/repo/stable/objects/aa/bb.filez", "/a;b", "/?/..", "/ä?ö",
	} {
		f.Add(seed, "tag one, two")
	}
	f.Fuzz(func(t *testing.T, text, tags string) {
		if words := appendTags(nil, tags); len(words) > maxTags || slices.ContainsFunc(words, func(w string) bool { return w == "" || len(w) > maxTag }) {
			t.Errorf("tags %q", words)
		}
		u, _, err := parseTarget(text)
		if err != nil {
			return
		}
		if u.Host != "" || u.Scheme != "" || u.Path == "" || u.Path[0] != '/' {
			t.Fatalf("%q is taken as %+v", text, u)
		}
		for _, ruled := range []bool{false, true} {
			s := &site{name: "s", ruled: ruled}
			e := &Edge{named: map[string]*site{"s": s}}
			sel := selection{site: s}
			c, ok := s.target(&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}})
			if err := sel.addURL(u); (err == nil) != ok {
				t.Fatalf("%q: a purge says %v, a request %v", text, err, ok)
			}
			if !ok {
				continue
			}
			stored := e.keysOf(&diskcache.Meta{Site: "s", URI: c.uri, Path: c.path})
			if !slices.Contains(stored, sel.keys[0]) || !slices.Contains(stored, banKey(keyPath, "s", c.path)) {
				t.Errorf("%q, stored as %q with path %q, is not what is purged", text, c.uri, c.path)
			}
		}
	})
}
