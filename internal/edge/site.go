package edge

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync/atomic"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/gate"
	"freshet/internal/edge/turns"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
	"freshet/internal/networks"
	"freshet/internal/sign"
)

// site is what is served from some origins, and the host names it is asked by.
type site struct {
	name    string // "" for the default site
	origin  *upstream.Group
	line    turns.Line  // of fetches, which end as soon as the origin can
	passes  turns.Line  // of what is passed on, which ends as soon as the client likes
	loopID  string      // tells requests that come back; see loop.go
	fetch   http.Header // what [site.ownFields] made; it is cloned
	ruled   bool        // path rules apply
	follow  string
	keys    *sign.Verifier // that sign the roots of sets, nil if none are known
	gate    atomic.Pointer[gate.Gate]
	hubURL  string
	report  string // what the hub said of the last report; of the follower alone
	prefill prefill
	// purgeMethod: PURGE is understood; from purgeFrom without a token.
	purgeMethod bool
	purgeFrom   networks.Set
	// news is how the site stands to the hub's event log.
	news atomic.Uint32 // newsState
	lag  atomic.Int64  // events behind, as last known
}

// newsState is how a site stands to the event log.
type newsState uint32

const (
	// newsNone: there is no log to follow. Lifetimes are the plain ones.
	newsNone newsState = iota
	// newsCatchingUp: the hub is there, or not yet asked, and something may
	// have been missed. What may change is not fresh.
	newsCatchingUp
	// newsAway: the hub does not answer. Lifetimes are the plain ones.
	newsAway
	// newsFollowing: every event is applied as it comes.
	newsFollowing
)

func (s newsState) String() string {
	return [...]string{"none", "catching-up", "away", "following"}[s]
}

func (s *site) newsState() newsState { return newsState(s.news.Load()) }

// call is one request on its way to an answer.
type call struct {
	site   *site
	policy layout.Policy
	// uri is path and query as they are sent to the origin and stand in the
	// key; path is the decoded path.
	uri, path string
	id        diskcache.ID         // of site and uri
	req       httpcache.Directives // zero where rules apply: clients do not decide
	head      bool
	hops      int    // caches of ours that it came through
	from      string // on whose behalf, as [http.Request.RemoteAddr]; "" for nobody in particular
	// candidate: the answer is shown only together with others, those of the set
	// with this ID.
	candidate bool
	set       diskcache.ID
}

// among is the key by which one of several origins is chosen. The root files of
// a set have the same: they are to be of one publish.
func (c *call) among() diskcache.ID {
	if c.candidate {
		return c.set
	}
	return c.id
}

// target works out what a request asks for. ok is false for a path that could
// mean one thing to us and another to the origin, and for a query that HTTP/1.1
// cannot carry there, which only other protocols can bring.
func (s *site) target(r *http.Request) (c call, ok bool) {
	c = call{site: s, path: r.URL.Path, head: r.Method == http.MethodHead, from: r.RemoteAddr}
	if !strings.HasPrefix(c.path, "/") || strings.IndexByte(c.path, 0) >= 0 || strings.IndexByte(r.URL.RawQuery, ' ') >= 0 {
		return c, false
	}
	if !s.ruled {
		c.uri = r.URL.RequestURI()
		c.req = httpcache.ParseCacheControl(r.Header)
		if len(r.Header["Cache-Control"]) == 0 && strings.EqualFold(r.Header.Get("Pragma"), "no-cache") {
			c.req.NoCache = true // RFC 9111 §5.4
		}
		c.id = keyID(s.name, c.uri, "")
		return c, true
	}
	if r.URL.RawPath != "" && strings.Contains(strings.ToLower(r.URL.RawPath), "%2f") || !cleanable(c.path) {
		return c, false
	}
	if r.URL.RawPath != "" || !isClean(c.path) {
		slash := strings.HasSuffix(c.path, "/")
		if c.path = path.Clean(c.path); slash && c.path != "/" {
			c.path += "/"
		}
	}
	c.uri = (&url.URL{Path: c.path}).EscapedPath()
	c.policy = layout.PolicyOf(c.path)
	if !c.policy.Ruled() {
		c.req = httpcache.ParseCacheControl(r.Header)
	}
	// What rules keep has no query; a mirrorlist is nothing without one.
	if r.URL.RawQuery != "" && (!c.policy.Ruled() || c.policy.Pass) {
		c.uri += "?" + r.URL.RawQuery
	}
	c.id = keyID(s.name, c.uri, "")
	return c, true
}

// cleanable reports whether the path goes nowhere but down.
func cleanable(p string) bool {
	if strings.IndexByte(p, '\\') >= 0 {
		return false
	}
	for i := strings.Index(p, "/.."); i >= 0; {
		if rest := p[i+3:]; rest == "" || rest[0] == '/' {
			return false
		}
		j := strings.Index(p[i+3:], "/..")
		if j < 0 {
			break
		}
		i += 3 + j
	}
	return true
}

func isClean(p string) bool {
	return !strings.Contains(p, "//") && !strings.Contains(p, "/./") && !strings.HasSuffix(p, "/.")
}

// keyID names what is stored: a digest of site, URI and, for one of several
// variants, the selecting request fields.
func keyID(site, uri, varyKey string) diskcache.ID {
	var stack [512]byte
	b := append(stack[:0], site...)
	b = append(b, 0)
	b = append(b, uri...)
	if varyKey != "" {
		b = append(b, 0)
		b = append(b, varyKey...)
	}
	sum := sha256.Sum256(b)
	return diskcache.ID(sum[:16])
}

// entryFlags are the meaning of [diskcache.State.Flags].
const (
	// flagPurged: must be validated before its next use.
	flagPurged = 1 << iota
	// flagNoCache: the origin wants it validated before each use.
	flagNoCache
	// flagExplicit: Lifetime was said, not guessed.
	flagExplicit
	// flagViaCache: it came through another cache, which events may not have
	// reached yet.
	flagViaCache
	// flagErrorSaid: OnError was said by the origin, so it holds for 5xx too.
	flagErrorSaid
)

// freshness says how a stored response stands at the age it has.
func (c *call) freshness(st diskcache.State, f httpcache.Freshness) httpcache.Freshness {
	p := &c.policy
	switch {
	case !p.Ruled():
		f.Lifetime, f.Revalidate, f.OnError = st.Lifetime, st.Revalidate, st.OnError
		f.NoCache = st.Flags&flagNoCache != 0
	case p.Immutable:
		f.Lifetime, f.OnError = p.Fresh, p.OnError
	default:
		f.Lifetime, f.Revalidate, f.OnError = p.Fresh, p.Revalidate, p.OnError
		if st.Flags&flagExplicit != 0 {
			f.Lifetime = min(f.Lifetime, st.Lifetime)
		}
	}
	if !p.Immutable {
		switch c.site.newsState() {
		case newsFollowing:
			if p.Followed > 0 && st.Flags&flagViaCache == 0 {
				f.Lifetime = p.Followed
			}
		case newsCatchingUp:
			// What would be fresh without the doubt may be used when nobody answers.
			f.OnError += max(0, f.Lifetime)
			f.Lifetime, f.Revalidate = 0, 0
		case newsNone, newsAway:
		}
	}
	if st.Flags&flagPurged != 0 {
		f.Lifetime, f.Revalidate = 0, 0
	}
	return f
}

// personal reports whether a request may have an answer of its own although
// HTTP does not say so: origins forget to mark what depends on a cookie.
func (c *call) personal(h http.Header) bool {
	return c.site.ruled && !c.policy.Ruled() && len(h["Cookie"]) > 0
}

// onStatus reports whether a stale answer may take the place of a 5xx.
func (c *call) onStatus(st diskcache.State) bool {
	return c.policy.Ruled() || st.Flags&flagErrorSaid != 0 || c.site.newsState() == newsCatchingUp
}
