package serve

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"freshet/internal/layout"
	"freshet/internal/mirror/generation"
	"freshet/internal/role"
)

// robots keeps search engines from what they have no use for, and of which there are
// terabytes.
const robots = "User-agent: *\nDisallow: /\n"

// ServeHTTP answers any request.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		s.fail(w, r, http.StatusMethodNotAllowed, BadMethod, "Files are only read here.")
		return
	}
	name := clean(r.URL.Path)
	switch {
	case name == "/":
		s.home(w, r, "."+Base+"/status")
		return
	case name == "/robots.txt":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(robots))
		return
	case strings.HasPrefix(name, Base+"/"):
		s.own(w, r, strings.TrimPrefix(name, Base))
		return
	}
	head, rest, slash := strings.Cut(name[1:], "/")
	p := (*s.projects.Load())[head]
	switch {
	case p == nil:
		s.fail(w, r, http.StatusNotFound, NoProject, "This mirror has no project of that name.")
	case p.Current() == nil:
		s.empty(w, r, p)
	case !slash:
		s.toFolder(w, r, name)
	case rest == "" || strings.HasSuffix(rest, "/"):
		s.list(w, r, p, strings.TrimSuffix(rest, "/"))
	default:
		if s.opts.Asked != nil {
			s.opts.Asked(head, rest)
		}
		s.serveFile(w, r, ask(p, name, rest))
	}
}

// empty answers for a project without a generation.
func (s *Site) empty(w http.ResponseWriter, r *http.Request, p *generation.Project) {
	if _, drained := p.Drained(); drained {
		s.fail(w, r, http.StatusServiceUnavailable, Drained, "The project had to make room for others: please use another mirror.")
		return
	}
	s.fail(w, r, http.StatusServiceUnavailable, NotSynced, "The project is being fetched for the first time.")
}

// clean makes a path of a URL one without empty, "." and ".." elements, and keeps the
// slash at its end.
func clean(name string) string {
	cleaned := path.Clean("/" + name)
	if strings.HasSuffix(name, "/") && cleaned != "/" {
		cleaned += "/"
	}
	return cleaned
}

// own answers for what the mirror has below Base.
func (s *Site) own(w http.ResponseWriter, r *http.Request, name string) {
	if hash, ok := strings.CutPrefix(name, "/by-hash/sha256/"); ok {
		s.byHash(w, r, hash)
		return
	}
	if rest, ok := strings.CutPrefix(name, "/generations/"); ok {
		s.generations(w, r, rest)
		return
	}
	if asset, ok := strings.CutPrefix(name, "/assets/"); ok && s.pages.ServeAsset(w, asset) {
		return
	}
	switch name {
	case "/":
		s.home(w, r, "./status")
		return
	case "/status":
		s.statusPage(w, r)
		return
	case "/status.json":
		s.statusJSON(w, r)
		return
	}
	s.fail(w, r, http.StatusNotFound, NotFound, "There is nothing here.")
}

// byHash answers with the file of a content.
func (s *Site) byHash(w http.ResponseWriter, r *http.Request, text string) {
	var sum [32]byte
	if n, err := hex.Decode(sum[:], []byte(text)); len(text) != 64 || n != len(sum) || err != nil || strings.ToLower(text) != text {
		s.fail(w, r, http.StatusBadRequest, BadHash, "A SHA-256 has 64 digits from 0 to 9 and a to f.")
		return
	}
	if s.opts.Object == nil {
		s.failOpen(w, r, fs.ErrNotExist)
		return
	}
	f, err := s.opts.Object(sum)
	if err != nil {
		s.failOpen(w, r, err)
		return
	}
	defer f.Close() //nolint:errcheck // opened for reading
	info, err := f.Stat()
	if err != nil {
		s.failOpen(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Etag", `"`+text+`"`)
	h.Set("Repr-Digest", reprDigest(sum))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", info.ModTime(), f) // siblings keep the upstream's time
}

// toFolder sends the client to the path with a slash. Only the last element is named, so
// that it works behind a proxy that serves the mirror below a path.
func (s *Site) toFolder(w http.ResponseWriter, r *http.Request, name string) {
	to := "./" + url.PathEscape(path.Base(name)) + "/"
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusMovedPermanently)
}

// asked is a file of a project that a client asks for.
type asked struct {
	p    *generation.Project
	name string // the path of the URL
	rest string // that in the project
	// policy is how the path is cached.
	policy layout.Policy
	// pointer says that reading begins with it, settles that it is one of those that go
	// together with others of the same generation.
	pointer, settles bool
}

func ask(p *generation.Project, name, rest string) asked {
	a := asked{p: p, name: name, rest: rest, policy: layout.PolicyOf(name)}
	kind := p.Kind(rest)
	a.pointer = a.policy.Class == layout.Pointer || kind.Class == layout.Pointer
	a.settles = kind.Mutable() && (a.policy.Ruled() || a.pointer)
	return a
}

// serveFile answers with a file of a project.
func (s *Site) serveFile(w http.ResponseWriter, r *http.Request, a asked) {
	if rec := role.RecordOf(r); rec != nil {
		rec.Site = a.p.Name()
	}
	f, from, same, err := s.openFor(r, a)
	if errors.Is(err, fs.ErrNotExist) && s.passOn(w, r, a) {
		return
	}
	if err != nil {
		s.failOpen(w, r, err)
		return
	}
	defer f.Close() //nolint:errcheck // opened for reading
	info, err := f.Stat()
	switch {
	case err != nil:
		s.failOpen(w, r, err)
		return
	case info.IsDir():
		s.toFolder(w, r, a.name)
		return
	case !info.Mode().IsRegular():
		s.failOpen(w, r, fs.ErrNotExist)
		return
	}
	maps.Copy(w.Header(), a.header(info))
	s.digest(w.Header(), r, from, a.rest, info)
	http.ServeContent(w, r, "", info.ModTime(), f)
	if same && from == a.p.Current() && !slices.Contains(from.Info().Stamps, a.rest) {
		s.keepOpen(a, from)
	}
}

// openFor opens what a client is to get, and tells of which generation it is; same says
// that all clients get it.
func (s *Site) openFor(r *http.Request, a asked) (f *os.File, from *generation.Generation, same bool, err error) {
	now := s.opts.Now()
	who := askerOf(r)
	f, _, from, err = a.p.Open(a.rest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, false, err
	}
	var settled *generation.Generation
	switch {
	case a.settles: // who asks for what is not there, or for the rest of a file, does not begin with it
		begins := a.pointer && err == nil && isWhole(r)
		settled = s.settled.choose(who, a.p, a.rest, begins, r.Method == http.MethodGet, now)
	case err != nil || from == a.p.Current() && !replaced(a, f, now):
		return f, from, true, err
	default:
		settled = s.settled.choose(who, a.p, a.rest, false, false, now)
	}
	if settled != nil && settled != from {
		if other, failed := settled.Open(a.rest); failed == nil {
			if f != nil {
				_ = f.Close() // opened for reading
			}
			return other, settled, false, nil
		}
	}
	if err != nil {
		if old, g := lately(a, now); old != nil {
			return old, g, false, nil
		}
	}
	return f, from, false, err
}

// lately opens a file that is gone with a generation which a client may still read from:
// programs of several parts, as flatpak, have several names and connections, and what one
// part has read of it leads another one to the file.
func lately(a asked, now time.Time) (*os.File, *generation.Generation) {
	for _, g := range former(a.p.Generations(), now) {
		f, err := g.Open(a.rest)
		if err != nil {
			continue
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return f, g
		}
		_ = f.Close() // opened for reading
	}
	return nil, nil
}

// former are the generations before the current one that a client may still read from.
func former(all []*generation.Generation, now time.Time) []*generation.Generation {
	for i, g := range all {
		if i > 0 && now.Sub(g.Info().Superseded) > Settling {
			return all[1:i]
		}
	}
	return all[min(1, len(all)):]
}

// isWhole reports whether a request is not for the rest of what was read before.
func isWhole(r *http.Request) bool {
	ranged := r.Header.Get("Range")
	return ranged == "" || strings.HasPrefix(ranged, "bytes=0-")
}

// replaced reports whether a file of the current generation is another one than that of
// the same name in one which a client may still read from. Packages should not change
// under their name; images do.
func replaced(a asked, f *os.File, now time.Time) bool {
	all := a.p.Generations()
	if len(all) == 0 || now.Sub(all[0].Info().Switched) > Settling {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false // it is told when it is served
	}
	for _, g := range former(all, now) {
		old, err := g.Open(a.rest)
		if err != nil {
			continue
		}
		before, err := old.Stat()
		_ = old.Close() // opened for reading
		if err == nil && !os.SameFile(before, info) {
			return true
		}
	}
	return false
}

// keepOpen has a file at hand for the next request. It is opened a second time, since a
// file that is sent to several clients at once has no position of its own.
func (s *Site) keepOpen(a asked, from *generation.Generation) {
	target := (&url.URL{Path: a.name}).EscapedPath()
	if s.open.has(target) {
		return
	}
	f, err := from.Open(a.rest)
	if err != nil {
		return
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		_ = f.Close() // opened for reading
		return
	}
	o := &openFile{project: a.p, current: from, file: f, size: info.Size(), path: a.name, bodies: &s.open.bodies}
	o.render(a.header(info))
	o.uses.Store(1)
	s.open.put(target, o)
}

// header is what is told of the file.
func (a asked) header(info fs.FileInfo) http.Header {
	h := http.Header{
		"Content-Type":           {layout.MediaType(a.name)},
		"Last-Modified":          {info.ModTime().UTC().Format(http.TimeFormat)},
		"Etag":                   {tagOf(info.Size(), info.ModTime())},
		"Accept-Ranges":          {"bytes"},
		"X-Content-Type-Options": {"nosniff"},
	}
	if caching := a.caching(); caching != "" {
		h["Cache-Control"] = []string{caching}
	}
	return h
}

// caching is its Cache-Control. What may be another file after the next switch is asked
// for anew: that costs a 304.
func (a asked) caching() string {
	switch {
	case !a.policy.Ruled() && !a.settles:
		return ""
	case a.policy.Immutable:
		return a.policy.ClientCacheControl()
	default:
		return "no-cache"
	}
}

// tagOf is a strong validator: size and time are the upstream's, so that all generations
// and all mirrors that keep the times tell the same. A file is never written in place.
func tagOf(size int64, modified time.Time) string {
	b := append(make([]byte, 0, 40), '"')
	b = strconv.AppendInt(b, modified.Unix(), 16)
	b = strconv.AppendInt(append(b, '-'), size, 16)
	return string(append(b, '"'))
}
