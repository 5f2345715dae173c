package edge

import (
	"bytes"
	"hash/maphash"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"freshet/internal/edge/diskcache"
)

// hot is what is needed to answer for a stored 200 response without working
// it out anew: whom a target means, and the fields as they are sent.
type hot struct {
	call  call
	path  string // as asked for, decoded, for the record
	entry *diskcache.Entry
	meta  *diskcache.Meta
	// common are the field lines of every answer, repr those that describe
	// the representation and do not belong into a 304, but for its length.
	common, repr []byte
	// sniffed is the line of the Content-Type that net/http adds to a body
	// without one.
	sniffed string
	// before are the members of Cache-Status of the caches nearer to the
	// origin, with a comma behind.
	before string
	weight int64 // bytes of memory, about
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
		t.put(key, old)
		return old
	}
	return h
}

// put enters h. A short body is in memory with its entry.
func (t *hots) put(key []byte, h *hot) {
	cost := int64(hotCost+2*len(key)) + h.weight
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+cost > hotBytes/hotShards/2 || s.new == nil {
		s.old, s.new, s.bytes = s.new, make(map[string]*hot), 0
	}
	s.new[string(key)] = h
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
	h := &hot{call: c, path: u.Path}
	if !e.current(h) || !h.render() {
		return nil
	}
	return h
}

// current makes sure that h is of what the store has now, and reports false if
// that cannot be. h is not shared yet, or it is left as it is.
func (e *Edge) current(h *hot) bool {
	c := &h.call
	if !c.policy.Ruled() && e.names.varies(c.id) {
		return false
	}
	if h.entry != nil {
		return h.entry.Current() && h.meta == h.entry.Meta()
	}
	if h.entry = e.store.Get(c.id); h.entry == nil {
		return false
	}
	h.meta = h.entry.Meta()
	return h.meta.Status == http.StatusOK && (c.policy.Ruled() || len(h.meta.Vary) == 0)
}

// varies reports whether answers of the URI depend on request fields.
func (n *names) varies(id diskcache.ID) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	v := n.variants[id]
	return v != nil && len(v.fields) > 0
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
	var common, repr bytes.Buffer
	reprFields := make(http.Header)
	for _, name := range [...]string{"Content-Type", "Content-Encoding", "Content-Language"} {
		if v, ok := fields[name]; ok {
			reprFields[name] = v
		}
	}
	reprFields["Accept-Ranges"] = bytesUnit()
	// Writing to a bytes.Buffer does not fail.
	_ = fields.WriteSubset(&common, map[string]bool{
		"Age": true, "Cache-Status": true, "Content-Length": true, "Content-Type": true, "Content-Encoding": true,
		"Content-Language": true, "Accept-Ranges": true,
	})
	_ = reprFields.Write(&repr)
	h.common, h.repr = common.Bytes(), repr.Bytes()
	h.weight = int64(2*len(h.common)+len(h.repr)) + min(h.entry.Size(), hotBody)
	return true
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
	h.sniffed = "Content-Type: " + http.DetectContentType(begin) + "\r\n"
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

// appendHead writes the head of an answer; length is negative for none.
func (h *hot) appendHead(b []byte, status int, length int64) []byte {
	switch status {
	case http.StatusNotModified:
		return append(append(b, "HTTP/1.1 304 Not Modified\r\n"...), h.common...)
	case http.StatusPartialContent:
		b = append(b, "HTTP/1.1 206 Partial Content\r\n"...)
	default:
		b = append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	b = append(append(b, h.common...), h.repr...)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, length, 10)
	return append(b, "\r\n"...)
}
