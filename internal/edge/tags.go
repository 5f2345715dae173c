package edge

import (
	"net/http"
	"net/url"
	"strings"

	"freshet/internal/edge/diskcache"
	"freshet/internal/layout"
)

// What a purge may name an answer by, besides the begin of its path. Each is a
// key of its own kind, within its site.
const (
	keyURL   = 'u' // path and query
	keyPath  = 'p' // path, whatever the query
	keySet   = 's' // the set it belongs to
	keyTag   = 't' // a tag that the origin gave it
	keyLoose = 'l' // whatever [isLoose] is true of
)

const (
	// maxTags bounds the tags of an answer that count, maxTag the bytes of one;
	// what is beyond is as if it were not there.
	maxTags = 256
	maxTag  = 1024
)

// banKey makes a key (FNV-1a). Two names that share one are purged together,
// which does no harm.
func banKey(kind byte, site string, parts ...string) diskcache.Key {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	add := func(s string) {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * prime
		}
		h = (h ^ 0xff) * prime // no byte of UTF-8: the end of a part
	}
	h = (h ^ uint64(kind)) * prime
	add(site)
	for _, part := range parts {
		add(part)
	}
	return diskcache.Key(h)
}

// urlKey is for a path and query. Each stands for all ways to write it down.
func urlKey(site, path, query string) diskcache.Key {
	if plain, err := url.PathUnescape(query); err == nil {
		query = plain
	}
	return banKey(keyURL, site, path, query)
}

// setKeyOf is for a set.
func setKeyOf(site string, set layout.Set) diskcache.Key {
	return banKey(keySet, site, set.Kind, set.Root)
}

// keys are those of a call, without tags: they are known before the answer.
func (c *call) keys() []diskcache.Key {
	_, query, _ := strings.Cut(c.uri, "?")
	keys := []diskcache.Key{urlKey(c.site.name, c.path, query), banKey(keyPath, c.site.name, c.path)}
	if c.policy.Set != (layout.Set{}) {
		keys = append(keys, setKeyOf(c.site.name, c.policy.Set))
	}
	if isLoose(c.policy) {
		keys = append(keys, banKey(keyLoose, c.site.name))
	}
	return keys
}

// keysOf are those of a stored answer; see [diskcache.Options].
func (e *Edge) keysOf(m *diskcache.Meta) []diskcache.Key {
	if s := e.named[m.Site]; s != nil {
		return s.keysOf(m)
	}
	return nil // of a site that is not served now
}

func (s *site) keysOf(m *diskcache.Meta) []diskcache.Key {
	c := s.stored(m)
	return append(c.keys(), tagKeys(s.name, m.Header)...)
}

// stored is the call that a stored answer of the site would be for.
func (s *site) stored(m *diskcache.Meta) call {
	c := call{site: s, uri: m.URI, path: m.Path}
	if s.ruled {
		c.policy = layout.PolicyOf(m.Path)
	}
	return c
}

func tagKeys(site string, h http.Header) []diskcache.Key {
	var keys []diskcache.Key
	for _, tag := range tagsOf(h) {
		keys = append(keys, banKey(keyTag, site, tag))
	}
	return keys
}

// tagsOf are the tags that an origin gives to its answer, in the fields of
// Fastly, Varnish's xkey and Cloudflare. An empty field gives none.
func tagsOf(h http.Header) []string {
	var tags []string
	for _, name := range [...]string{"Surrogate-Key", "Xkey", "Cache-Tag"} {
		for _, line := range h[name] {
			tags = appendTags(tags, line)
		}
	}
	return tags
}

// appendTags adds the tags of a field: words with blanks or commas between.
func appendTags(tags []string, line string) []string {
	for tag := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' }) {
		if len(tags) == maxTags {
			break
		}
		if len(tag) <= maxTag {
			tags = append(tags, tag)
		}
	}
	return tags
}
