package edge

import (
	"net/http"
	"strconv"
	"time"

	"freshet/internal/h1"
	"freshet/internal/h2"
	"freshet/internal/httpcache"
)

// head writes the head of a hit, as the protocol of the request has it.
type head struct {
	b  []byte
	h2 bool
}

func newHead(req *h1.Request, res *h1.Response) head { return head{res.Head, req.H2} }

// status200 begins the head of most answers.
const status200 = "HTTP/1.1 200 OK\r\n"

// whole begins the head of an answer with the whole body.
func (w *head) whole(h *hot) { w.b = append(w.b, w.fields(h).whole...) }

// partial begins the head of an answer with length bytes of the body.
func (w *head) partial(h *hot, length int64) {
	w.status(http.StatusPartialContent, "HTTP/1.1 206 Partial Content\r\n")
	w.b = append(append(w.b, w.fields(h).commonFields()...), w.fields(h).reprFields()...)
	w.number("Content-Length", "content-length", length)
}

// notModified begins the head of an answer without the body.
func (w *head) notModified(h *hot) {
	w.status(http.StatusNotModified, "HTTP/1.1 304 Not Modified\r\n")
	w.b = append(w.b, w.fields(h).commonFields()...)
}

// fields are those of h as the protocol has them.
func (w *head) fields(h *hot) *rendered {
	if w.h2 {
		return &h.h2
	}
	return &h.h1
}

// status begins the head; line is what HTTP/1.1 has for it.
func (w *head) status(status int, line string) {
	if w.h2 {
		w.b = h2.AppendStatus(w.b, status)
	} else {
		w.b = append(w.b, line...)
	}
}

// sniffed adds the type that the body shows.
func (w *head) sniffed(h *hot) {
	w.b = append(w.b, w.fields(h).sniffed...)
}

// freshness adds the fields by which the cache tells what it did.
func (w *head) freshness(h *hot, fresh httpcache.Freshness) {
	w.number("Age", "age", int64(fresh.Age/time.Second))
	ttl := int64((fresh.Lifetime - fresh.Age) / time.Second)
	w.cacheStatus(h.before, httpcache.CacheStatus{Cache: product, Hit: true, HasTTL: true, TTL: ttl})
}

// number adds a field with a number; lower is its name in lower case.
func (w *head) number(name, lower string, n int64) {
	if w.h2 {
		w.b = h2.AppendNumber(w.b, lower, n)
		return
	}
	w.b = lineOf(w.b, name, n)
}

// cacheStatus adds Cache-Status; before are the members of other caches.
func (w *head) cacheStatus(before string, status httpcache.CacheStatus) {
	const name = "Cache-Status"
	if w.h2 {
		var room [160]byte
		w.field(name, "cache-status", status.Append(append(room[:0], before...)))
		return
	}
	w.b = append(append(w.b, name+": "...), before...)
	w.b = append(status.Append(w.b), "\r\n"...)
}

// lineOf appends a field with a number as HTTP/1.1 has it.
func lineOf(b []byte, name string, n int64) []byte {
	b = append(append(b, name...), ": "...)
	return append(strconv.AppendInt(b, n, 10), "\r\n"...)
}

// field adds a field; lower is its name in lower case.
func (w *head) field(name, lower string, value []byte) {
	if w.h2 {
		w.b = h2.AppendField(w.b, lower, value)
		return
	}
	w.b = append(append(w.b, name...), ": "...)
	w.b = append(append(w.b, value...), "\r\n"...)
}
