package director

import (
	"net/http"
	"strings"
	"sync/atomic"

	"freshet/internal/certs"
	"freshet/internal/director/lists"
	"freshet/internal/director/redirect"
	"freshet/internal/h1"
)

// answerer answers requests in both ways.
type answerer interface {
	h1.Handler
	http.Handler
}

// respondent is an answerer of requests whose target has become a string already, which
// is made once for each.
type respondent interface {
	answerer
	respond(target string, req *h1.Request, res *h1.Response) bool
}

// split passes each request to who answers it: what is in a project is for files,
// all else for lists, and so are the two names that MirrorManager's clients ask for.
type split struct {
	lists, files respondent
	snapshot     *atomic.Pointer[lists.Data] // nil: there are no lists
	data         *atomic.Pointer[redirect.Data]
}

func (s *split) of(target string) respondent {
	if s.snapshot.Load() == nil {
		return s.files
	}
	path := pathOf(target)
	if path == "/metalink" || path == "/mirrorlist" || !s.data.Load().Has(path) {
		return s.lists
	}
	return s.files
}

// Answer implements [h1.Handler].
func (s *split) Answer(req *h1.Request, res *h1.Response) bool {
	target := string(req.Target)
	return s.of(target).respond(target, req, res)
}

// Sent implements [h1.Handler].
func (s *split) Sent(req *h1.Request, res *h1.Response, sent int64, err error) {
	if _, ok := res.Tag.(*errand); ok {
		s.files.Sent(req, res, sent, err)
		return
	}
	s.lists.Sent(req, res, sent, err)
}

// ServeHTTP implements [http.Handler].
func (s *split) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.of(targetOf(req)).ServeHTTP(w, req)
}

// challenges leaves to the certificates what an authority asks for, without TLS, to see
// that a name is ours (RFC 8555 §8.3).
type challenges struct {
	answerer
	certificates *certs.Store
}

const challengePath = "/.well-known/acme-challenge/"

// Answer implements [h1.Handler].
func (c *challenges) Answer(req *h1.Request, res *h1.Response) bool {
	if req.Clear && len(req.Target) >= len(challengePath) && string(req.Target[:len(challengePath)]) == challengePath {
		return false
	}
	return c.answerer.Answer(req, res)
}

// ServeHTTP implements [http.Handler].
func (c *challenges) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.TLS != nil || !c.certificates.Challenge(w, req) {
		c.answerer.ServeHTTP(w, req)
	}
}

// sitePages passes what is below a path to the pages of the site, and all else on. Pages
// are for the general server.
type sitePages struct {
	answerer
	base  string
	pages http.Handler
}

// Answer implements [h1.Handler].
func (s *sitePages) Answer(req *h1.Request, res *h1.Response) bool {
	if len(req.Target) >= len(s.base) && string(req.Target[:len(s.base)]) == s.base {
		return false
	}
	return s.answerer.Answer(req, res)
}

// ServeHTTP implements [http.Handler].
func (s *sitePages) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if strings.HasPrefix(targetOf(req), s.base) {
		s.pages.ServeHTTP(w, req)
		return
	}
	s.answerer.ServeHTTP(w, req)
}
