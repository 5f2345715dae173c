package edge

import (
	"net/http"
	"sync/atomic"
	"time"

	"freshet/internal/h1"
	"freshet/internal/httpcache"
)

const (
	// readyAfter is how many hits there are before an answer is put together.
	readyAfter = 3
	// readyBody is the longest body that is copied for it.
	readyBody = 32 << 10
	// readyRoom is for what changes: a status line, Age, and Cache-Status without
	// the members of other caches.
	readyRoom = 160
)

// readymade is a whole answer in one piece of memory, head and body, so that neither
// is copied for a hit: it is sent as it is. What changes from one second to the
// next, the age, stands at its begin. One connection at a time has it; others
// put their answers together.
type readymade struct {
	held atomic.Bool
	hits uint8
	at   uint16 // where the answer begins; 0: nowhere
	age  int64  // of the answer, and the time it was fresh then
	ttl  int64
	b    []byte
}

// whole makes an answer with all of the body in one piece, if it can be had.
func (f *front) whole(h *hot, req *h1.Request, res *h1.Response, fresh httpcache.Freshness) bool {
	p := &h.ready
	if h.body == nil || len(h.body) > readyBody || req.H2 || req.Head || !req.Clear || res.Closing || !p.held.CompareAndSwap(false, true) {
		return false
	}
	if p.b == nil && !f.join(h) {
		p.held.Store(false)
		return false
	}
	if age, ttl := int64(fresh.Age/time.Second), int64((fresh.Lifetime-fresh.Age)/time.Second); p.at == 0 || p.age != age || p.ttl != ttl {
		head := head{b: append(res.Head, status200...)}
		head.freshness(h, fresh)
		room := readyRoom + len(h.before)
		if len(head.b) > room {
			p.held.Store(false)
			return false
		}
		p.age, p.ttl, p.at = age, ttl, uint16(room-len(head.b))
		copy(p.b[p.at:], head.b)
	}
	res.Status, res.Whole, res.Body, res.Tag = http.StatusOK, p.b[p.at:], h.body, h
	return true
}

// join puts the answer together, but for what changes, unless it was wanted too
// seldom.
func (f *front) join(h *hot) bool {
	p := &h.ready
	if p.hits++; p.hits < readyAfter || len(h.before) > readyRoom {
		return false
	}
	room := readyRoom + len(h.before)
	same := h.h1.whole[h.h1.status:]
	p.b = make([]byte, room, room+len(same)+len(h.h1.sniffed)+2+len(h.body))
	p.b = append(append(append(append(p.b, same...), h.h1.sniffed...), "\r\n"...), h.body...)
	f.hots.entered.Add(1) // there is more for huge pages
	return true
}

// release gives it back if it was the answer.
func (p *readymade) release(res *h1.Response) {
	if res.Whole != nil {
		p.held.Store(false)
	}
}

// memory is what it takes, nil while it is being sent.
func (p *readymade) memory() []byte {
	if !p.held.CompareAndSwap(false, true) {
		return nil
	}
	defer p.held.Store(false)
	return p.b
}
