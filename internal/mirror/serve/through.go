package serve

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"freshet/internal/layout"
	"freshet/internal/role"
)

// UpstreamFailed is the reason when a file that is not held could not be passed on.
const UpstreamFailed Reason = "upstream-failed"

// newThrough passes requests on to where a project is whole, such as an edge, for files
// that this mirror does not hold. Nothing is kept of them here: that is the work of the
// cache that is asked.
func (s *Site) newThrough(project string, to *url.URL, rt http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Transport: rt,
		Rewrite: func(r *httputil.ProxyRequest) {
			rest := r.In.URL.Path[len("/"+project):]
			// The path is a decoded one: "%" is a sign like any other.
			r.Out.URL = &url.URL{Scheme: to.Scheme, User: to.User, Host: to.Host, Path: strings.TrimSuffix(to.Path, "/") + rest}
			r.Out.Host = to.Host
			// What is passed on is a file that is the same for everybody.
			kept := make(http.Header)
			for _, name := range []string{"Accept", "Range", "If-Range", "If-None-Match", "If-Modified-Since", "User-Agent"} {
				if values := r.In.Header.Values(name); values != nil {
					kept[name] = values
				}
			}
			r.Out.Header = kept
			r.Out.Body = nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				role.SetReason(w, r, string(ClientGone), err.Error())
				w.WriteHeader(role.StatusClientGone)
				return
			}
			s.opts.Log.WarnContext(r.Context(), "a file that is not held could not be passed on", slog.String("path", r.URL.Path), slog.Any("error", err))
			s.fail(w, r, http.StatusBadGateway, UpstreamFailed, "The mirror does not hold the file, and where it asks for it nobody answers.")
		},
	}
}

// signsOther reports whether the file has the signatures of a commit that is not held: they come
// from where the commit does, and clients trust them by their keys alone.
func (a asked) signsOther() bool {
	commit, ok := strings.CutSuffix(a.rest, ".commitmeta")
	now := a.p.Current()
	if !ok || a.policy.Ecosystem != layout.EcoOSTree || now == nil {
		return false
	}
	f, err := now.Open(commit + ".commit")
	if err == nil {
		_ = f.Close() // opened for reading
	}
	return errors.Is(err, fs.ErrNotExist)
}

// passOn answers for a file that is not held by one that is whole, if the project has such
// a place and the file is one that never changes, or has the signatures of one. It reports whether it did.
func (s *Site) passOn(w http.ResponseWriter, r *http.Request, a asked) bool {
	through := (*s.through.Load())[a.p.Name()]
	if through == nil || !a.policy.Ruled() || a.policy.Class != layout.Payload && !a.signsOther() {
		return false // pointers and indexes are those that were checked here
	}
	if rec := role.RecordOf(r); rec != nil {
		rec.Outcome = "pass"
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = a.name, ""
	through.ServeHTTP(w, r)
	return true
}
