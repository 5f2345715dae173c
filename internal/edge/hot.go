package edge

import (
	"bytes"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/h2"
	"freshet/internal/layout"
)

// hot is what is needed to answer for a stored 200 response without working
// it out anew: whom a target means, and the fields as they are sent.
//
// There are more of them than a processor keeps at hand, and to fetch a cache
// line costs a hundredth of a hit. So what every hit needs comes first, in the
// order of its use, three lines of 64 bytes, and is all there is to fetch but the
// state, the key and the answer: the entry and its fields are left alone.
type hot struct {
	sum uint64 // hash of key
	// key is that in [hots]. What h1 holds is the same piece of text, and path
	// most of the time.
	key  string
	seen atomic.Pointer[diskcache.Sight] // the last one; nil: none
	body []byte                          // nil if it is in a file
	size int64                           // of the body

	set   *set      // nil if it belongs to none
	ruled bool      // a rule of an ecosystem applies
	fixed bool      // as [isFixed]
	ready readymade // the whole answer, once it is asked for often

	path string // as asked for, decoded, for the record
	// before are the members of Cache-Status of the caches nearer to the
	// origin, with a comma behind.
	before string
	short  uint64 // the key of the record
	h1     rendered
	call   call

	// gate is the path as rules of access see it.
	gate  string
	entry *diskcache.Entry
	meta  *diskcache.Meta
	// sniffed is the Content-Type that net/http adds to a body without one.
	sniffed string
	h2      rendered
	weight  int64 // bytes of memory, about
}

// rendered are fields as a protocol has them.
type rendered struct {
	// whole is the head of an answer with all of the body, as far as it is the
	// same each time: the status, the fields of every answer, those that describe
	// the representation and do not belong into a 304, and its length.
	whole string
	// sniffed is the field for [hot.sniffed].
	sniffed string
	// status, common and repr are where these parts of whole end.
	status, common, repr uint32
}

// commonFields are the fields of every answer.
func (r *rendered) commonFields() string { return r.whole[r.status:r.common] }

// reprFields are those that describe the representation, but for its length.
func (r *rendered) reprFields() string { return r.whole[r.common:r.repr] }

// heat works out what a GET of the target, with which the key ends, on the host
// means. It returns nil if the answer is not in the store, or has to be made by
// [Edge.ServeHTTP].
func (e *Edge) heat(key, host, target string) *hot {
	u, err := url.ParseRequestURI(target) // as net/http does
	if err != nil {
		return nil
	}
	s := e.site(host)
	if s == nil {
		return nil
	}
	c, ok := s.target(&http.Request{Method: http.MethodGet, URL: u, Host: host, Header: http.Header{}})
	if !ok || c.policy.Pass {
		return nil
	}
	h := &hot{
		key: key, path: u.Path, gate: gatePath(c.path), ruled: c.policy.Ruled(), fixed: isFixed(c.policy), short: c.id.Short(), call: c,
	}
	if !e.bind(h) || !h.render() {
		return nil
	}
	if asked := h.key[len(key)-len(target):]; strings.HasPrefix(asked, h.path) {
		h.path = asked[:len(h.path)]
	}
	return h
}

// bind finds what the store has now for h, which is not shared yet. It reports
// false if there is nothing.
func (e *Edge) bind(h *hot) bool {
	c := &h.call
	if !c.policy.Ruled() && e.names.varies(&c.id) {
		return false
	}
	id, ok := e.hotID(h)
	if !ok {
		return false
	}
	if h.entry = e.store.Get(id); h.entry == nil || h.entry.Partial() {
		return false
	}
	h.meta, h.body, h.size = h.entry.Meta(), h.entry.Bytes(), h.entry.Size()
	return h.meta.Status == http.StatusOK && (c.policy.Ruled() || len(h.meta.Vary) == 0)
}

// look returns what h is of as it is now, if that is what the store has now;
// else nil. While a purge of several paths is going on it does not tell: they are
// to change in one step.
func (e *Edge) look(h *hot) *diskcache.Sight {
	if !h.ruled && e.names.varies(&h.call.id) || !h.fixed && e.purgeMu.held.Load() {
		return nil
	}
	if s := h.set; s != nil {
		if g := s.current.Load(); s.gone.Load() || g == nil || g.files[h.call.path] != h.entry.ID() {
			return nil
		}
	}
	if seen := h.seen.Load(); e.store.Unchanged(seen) {
		return seen
	}
	seen := h.entry.Look()
	if seen == nil || h.meta != h.entry.Meta() { // in this order: new fields come before a new state
		return nil
	}
	h.seen.Store(seen)
	return seen
}

// hotID is the ID of what a hot call means now. It reports false for files of a
// set that are none of its roots.
func (e *Edge) hotID(h *hot) (diskcache.ID, bool) {
	c := &h.call
	if c.policy.Set == (layout.Set{}) {
		return c.id, true
	}
	s := e.setOf(c.site, c.policy.Set)
	g := s.current.Load()
	if g == nil || s.isPlain(time.Now()) {
		return c.id, false
	}
	h.set = s
	id, ok := g.files[c.path]
	return id, ok
}

// render writes the fields the way net/http does. It reports false for fields
// that net/http treats specially.
func (h *hot) render() bool {
	fields := maps.Clone(h.meta.Header)
	for _, name := range [...]string{"Connection", "Transfer-Encoding", "Trailer", "Content-Range"} {
		if len(fields[name]) > 0 {
			return false
		}
	}
	if len(fields["Date"]) == 0 || !h.sniff(fields) {
		return false
	}
	if value := h.call.policy.ClientCacheControl(); value != "" {
		fields["Cache-Control"] = []string{value}
		delete(fields, "Expires")
		delete(fields, "Pragma")
	}
	if before := fields["Cache-Status"]; len(before) > 0 {
		h.before = strings.Join(before, ", ") + ", "
	}
	for _, name := range [...]string{"Age", "Cache-Status", "Content-Length"} {
		delete(fields, name)
	}
	repr := http.Header{"Accept-Ranges": bytesUnit()}
	for _, name := range [...]string{"Content-Type", "Content-Encoding", "Content-Language"} {
		if v, ok := fields[name]; ok {
			repr[name] = v
		}
		delete(fields, name)
	}
	delete(fields, "Accept-Ranges")
	sniffed := make(http.Header)
	if h.sniffed != "" {
		sniffed.Set("Content-Type", h.sniffed)
	}
	var text string
	h.h1, text = newRendered(h.key, []byte(status200), linesOf(fields), linesOf(repr), lineOf(nil, "Content-Length", h.size), linesOf(sniffed))
	h.key = text[:len(h.key)]
	h.h2, _ = newRendered("", h2.AppendStatus(nil, http.StatusOK), h2.AppendHeader(nil, fields), h2.AppendHeader(nil, repr),
		h2.AppendNumber(nil, "content-length", h.size), h2.AppendHeader(nil, sniffed))
	h.weight = int64(len(h.h1.whole)+len(h.h2.whole)) + min(h.size, hotBody)
	if h.size <= readyBody {
		h.weight += int64(readyRoom+len(h.before)+len(h.h1.whole)) + h.size // again, in h.ready
	}
	return true
}

// newRendered puts the fields into one piece of text, behind another.
func newRendered(before string, status, common, repr, length, sniffed []byte) (r rendered, text string) {
	text = string(slices.Concat([]byte(before), status, common, repr, length))
	r.whole, r.sniffed = text[len(before):], string(sniffed)
	r.status = uint32(len(status))
	r.common = r.status + uint32(len(common))
	r.repr = r.common + uint32(len(repr))
	return r, text
}

// linesOf writes fields as HTTP/1.1 has them.
func linesOf(fields http.Header) []byte {
	var b bytes.Buffer
	_ = fields.Write(&b) // to memory: it does not fail
	return b.Bytes()
}

// sniff works out the Content-Type that net/http gives to a body without one.
func (h *hot) sniff(fields http.Header) bool {
	if _, ok := fields["Content-Type"]; ok || fields.Get("Content-Encoding") != "" || h.size == 0 {
		return true
	}
	begin := make([]byte, min(512, h.size))
	if !h.read(begin) {
		return false
	}
	h.sniffed = http.DetectContentType(begin)
	return true
}

// read reads the begin of the body.
func (h *hot) read(p []byte) bool {
	body, err := h.entry.Open()
	if err != nil {
		return false
	}
	defer body.Close()
	n, _ := body.ReadAt(p, 0) // what counts is whether it is all
	return n == len(p)
}
