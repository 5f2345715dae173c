package edge

import (
	"bytes"
	"hash/maphash"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/h2"
	"freshet/internal/layout"
)

// hot is what is needed to answer for a stored 200 response without working
// it out anew: whom a target means, and the fields as they are sent. What every
// hit needs comes first, because there are more of them than a processor keeps
// at hand.
type hot struct {
	entry *diskcache.Entry
	meta  *diskcache.Meta
	set   *set // nil if it belongs to none
	ruled bool // a rule of an ecosystem applies
	fixed bool // as [isFixed]
	// before are the members of Cache-Status of the caches nearer to the
	// origin, with a comma behind.
	before string
	// sniffed is the Content-Type that net/http adds to a body without one.
	sniffed string
	// h1 and h2 are the fields as each protocol has them.
	h1   rendered
	path string // as asked for, decoded, for the record
	call call

	h2     rendered
	weight int64 // bytes of memory, about
}

// rendered are fields as a protocol has them.
type rendered struct {
	// whole is the head of an answer with all of the body, as far as it is the
	// same each time.
	whole []byte
	// common are the fields of every answer, repr those that describe the
	// representation and do not belong into a 304, but for its length. Both are
	// parts of whole.
	common, repr []byte
	// sniffed is the field for [hot.sniffed].
	sniffed []byte
}

const (
	// hotBytes bounds the memory for what is hot.
	hotBytes = 64 << 20
	// hotShards share it: a lock each.
	hotShards = 32
	// hotBody is about the longest body that is kept with its entry.
	hotBody = 64 << 10
	// hotCost is what one costs besides its strings and body.
	hotCost = 1 << 10
)

// hots finds what is hot by host and target. It forgets by halves: when the new
// half is full it becomes the old one, and what is used in the old one goes
// over to the new one. Safe for concurrent use.
type hots struct {
	seed   maphash.Seed
	shards [hotShards]hotShard
}

type hotShard struct {
	mu       sync.RWMutex
	new, old map[string]*hot
	bytes    int64 // of new
}

func newHots() *hots { return &hots{seed: maphash.MakeSeed()} }

func (t *hots) shard(key []byte) *hotShard {
	return &t.shards[maphash.Bytes(t.seed, key)%hotShards]
}

func (t *hots) get(key []byte) *hot {
	s := t.shard(key)
	s.mu.RLock()
	h := s.new[string(key)]
	var old *hot
	if h == nil {
		old = s.old[string(key)]
	}
	s.mu.RUnlock()
	if old != nil {
		t.put(string(key), old)
		return old
	}
	return h
}

// put enters h. A short body is in memory with its entry.
func (t *hots) put(key string, h *hot) {
	cost := int64(hotCost+2*len(key)) + h.weight
	s := &t.shards[maphash.String(t.seed, key)%hotShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+cost > hotBytes/hotShards/2 || s.new == nil {
		s.old, s.new, s.bytes = s.new, make(map[string]*hot), 0
	}
	s.new[key] = h
	s.bytes += cost
}

// heat works out what a GET of the target on the host means. It returns nil if
// the answer is not in the store, or has to be made by [Edge.ServeHTTP].
func (e *Edge) heat(host, target string) *hot {
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
	h := &hot{call: c, path: u.Path, ruled: c.policy.Ruled(), fixed: isFixed(c.policy)}
	if !e.bind(h) || !h.render() {
		return nil
	}
	return h
}

// bind finds what the store has now for h, which is not shared yet. It reports
// false if there is nothing.
func (e *Edge) bind(h *hot) bool {
	c := &h.call
	if !c.policy.Ruled() && e.names.varies(c.id) {
		return false
	}
	id, ok := e.hotID(h)
	if !ok {
		return false
	}
	if h.entry = e.store.Get(id); h.entry == nil || h.entry.Partial() {
		return false
	}
	h.meta = h.entry.Meta()
	return h.meta.Status == http.StatusOK && (c.policy.Ruled() || len(h.meta.Vary) == 0)
}

// look returns the present state of what h is of, if that is what the store has
// now. While a purge of several paths is going on it does not tell: they are to
// change in one step.
func (e *Edge) look(h *hot) (diskcache.State, bool) {
	if !h.ruled && e.names.varies(h.call.id) || !h.fixed && e.purgeMu.held.Load() {
		return diskcache.State{}, false
	}
	if s := h.set; s != nil {
		if g := s.current.Load(); s.gone.Load() || g == nil || g.files[h.call.path] != h.entry.ID() {
			return diskcache.State{}, false
		}
	}
	if h.meta != h.entry.Meta() {
		return diskcache.State{}, false
	}
	return h.entry.Look()
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
	size := h.entry.Size()
	h.h1 = newRendered([]byte(status200), linesOf(fields), linesOf(repr), lineOf(nil, "Content-Length", size), linesOf(sniffed))
	h.h2 = newRendered(h2.AppendStatus(nil, http.StatusOK), h2.AppendHeader(nil, fields), h2.AppendHeader(nil, repr),
		h2.AppendNumber(nil, "content-length", size), h2.AppendHeader(nil, sniffed))
	h.weight = int64(len(h.h1.whole)+len(h.h2.whole)) + min(size, hotBody)
	return true
}

// newRendered puts the fields into one piece of memory.
func newRendered(status, common, repr, length, sniffed []byte) (r rendered) {
	r.whole = slices.Concat(status, common, repr, length)
	r.common = r.whole[len(status):][:len(common)]
	r.repr = r.whole[len(status)+len(common):][:len(repr)]
	r.sniffed = sniffed
	return r
}

// linesOf writes fields as HTTP/1.1 has them.
func linesOf(fields http.Header) []byte {
	var b bytes.Buffer
	_ = fields.Write(&b) // to memory: it does not fail
	return b.Bytes()
}

// sniff works out the Content-Type that net/http gives to a body without one.
func (h *hot) sniff(fields http.Header) bool {
	if _, ok := fields["Content-Type"]; ok || fields.Get("Content-Encoding") != "" || h.entry.Size() == 0 {
		return true
	}
	begin := make([]byte, min(512, h.entry.Size()))
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
