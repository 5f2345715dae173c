package edge

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"freshet/api/edgeapi"
	"freshet/internal/control"
	"freshet/internal/edge/diskcache"
	"freshet/internal/layout"
)

const (
	// maxNamed bounds the names of one purge.
	maxNamed = 50_000
	// maxSample bounds what a dry run lists.
	maxSample = 100
)

// selectFor works out what a purge means, site by site.
func (e *Edge) selectFor(req *edgeapi.PurgeRequest, client *control.Client) ([]selection, error) {
	if n := len(req.URLs) + len(req.Paths) + len(req.Prefixes) + len(req.Tags) + len(req.Sets); n == 0 && !req.Everything {
		return nil, badOrder("nothing is named: want urls, paths, prefixes, tags, sets or everything")
	} else if n > maxNamed {
		return nil, badOrder("%d names are too many: want up to %d", n, maxNamed)
	}
	sites, err := e.sitesFor(req.Site, client)
	if err != nil {
		return nil, err
	}
	list := make([]selection, len(sites))
	named := len(req.Paths)+len(req.Prefixes)+len(req.Tags)+len(req.Sets) > 0 || req.Everything
	used := make([]bool, len(sites)) // URLs may be of some sites only
	for i, s := range sites {
		used[i] = named
		list[i] = selection{site: s, onlyThese: !named, tags: len(req.Tags) > 0}
		if err := list[i].add(req); err != nil {
			return nil, err
		}
	}
	for _, text := range req.URLs {
		u, host, err := parseTarget(text)
		if err != nil {
			return nil, err
		}
		among := sites
		if host != "" {
			s := e.site(host)
			if s == nil {
				return nil, badOrder("%q: no site has this host", text)
			}
			if !slices.Contains(sites, s) {
				return nil, refusal(http.StatusForbidden, "forbidden", "%q is of site %q, which is not among those of this order", text, s.label())
			}
			among = []*site{s}
		}
		for i, s := range sites {
			if !slices.Contains(among, s) {
				continue
			}
			used[i] = true
			if err := list[i].addURL(u); err != nil {
				return nil, err
			}
		}
	}
	kept := list[:0]
	for i := range list {
		if used[i] {
			kept = append(kept, list[i])
		}
	}
	return kept, nil
}

// parseTarget reads a path with query, or a URL.
func parseTarget(text string) (u *url.URL, host string, err error) {
	if !strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "http://") && !strings.HasPrefix(text, "https://") {
		return nil, "", badOrder("%.200q is no URL: want /path?query, or http:// or https:// and a host", text)
	}
	if u, err = url.ParseRequestURI(text); err != nil || strings.HasPrefix(text, "//") && u.Host != "" {
		return nil, "", badOrder("%.200q is no URL", text)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	host = u.Host
	return &url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery, ForceQuery: u.ForceQuery}, host, nil
}

// add takes everything but the URLs in.
func (sel *selection) add(req *edgeapi.PurgeRequest) error {
	s := sel.site
	for _, text := range req.Paths {
		u, _, err := parseTarget(text)
		if err != nil || u.RawQuery != "" {
			return badOrder("%.200q is no path without a query", text)
		}
		c, err := s.callFor(u)
		if err != nil {
			return err
		}
		sel.keys = append(sel.keys, banKey(keyPath, s.name, c.path))
	}
	for _, text := range req.Prefixes {
		prefix, err := url.PathUnescape(text)
		if err != nil || !strings.HasPrefix(prefix, "/") {
			return badOrder("%.200q does not begin a path", text)
		}
		sel.prefixes = append(sel.prefixes, prefix)
	}
	for _, tag := range req.Tags {
		if words := appendTags(nil, tag); len(words) != 1 || words[0] != tag {
			return badOrder("%.200q is no tag: want one word of up to %d bytes", tag, maxTag)
		}
		sel.keys = append(sel.keys, banKey(keyTag, s.name, tag))
	}
	for _, text := range req.Sets {
		set := layout.PolicyOf(text).Set
		if set == (layout.Set{}) {
			return badOrder("%.200q belongs to no set", text)
		}
		sel.keys = append(sel.keys, setKeyOf(s.name, set))
	}
	if req.Everything {
		sel.prefixes = append(sel.prefixes, "")
	}
	return nil
}

// callFor is what a GET of the target would be.
func (s *site) callFor(u *url.URL) (call, error) {
	c, ok := s.target(&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}})
	if !ok {
		return c, badOrder("%.200q: the path is ambiguous", u.RequestURI())
	}
	return c, nil
}

// addURL takes a path with its query in.
func (sel *selection) addURL(u *url.URL) error {
	c, err := sel.site.callFor(u)
	if err != nil {
		return err
	}
	_, query, _ := strings.Cut(c.uri, "?")
	sel.keys = append(sel.keys, urlKey(sel.site.name, c.path, query))
	sel.missing = append(sel.missing, c.id)
	return nil
}

// count says how many stored answers the selections mean, and lists some of
// them.
func (e *Edge) count(ctx context.Context, selections []selection, sample int) (n int, urls []string) {
	wanted := make(map[diskcache.Key]bool)
	for _, sel := range selections {
		for _, key := range sel.keys {
			wanted[key] = true
		}
	}
	for entry := range e.store.All() {
		if ctx.Err() != nil {
			break
		}
		if !e.means(selections, wanted, entry.Meta()) {
			continue
		}
		if n++; len(urls) < sample {
			urls = append(urls, entry.Meta().Key)
		}
	}
	return n, urls
}

func (e *Edge) means(selections []selection, wanted map[diskcache.Key]bool, m *diskcache.Meta) bool {
	for i := range selections {
		if selections[i].site.name != m.Site {
			continue
		}
		for _, prefix := range selections[i].prefixes {
			if strings.HasPrefix(m.Path, prefix) {
				return true
			}
		}
	}
	return slices.ContainsFunc(e.keysOf(m), func(key diskcache.Key) bool { return wanted[key] })
}
