package edge

import (
	"maps"
	"net/http"
	"sync"

	"freshet/internal/httpcache"
)

// interim is an answer before the final one (RFC 9110 §15.2).
type interim struct {
	status int
	header http.Header
}

// maxInterims bounds the interim answers of one request that are passed on.
const maxInterims = 16

// passesOn reports whether an interim answer is for the client. 100 and 101 are
// between neighbours.
func passesOn(status int) bool {
	return status > http.StatusSwitchingProtocols && status < http.StatusOK
}

// interims are the interim answers of a flight: written as they come, read by
// all who wait for the final one. The zero value is empty; safe for concurrent
// use.
type interims struct {
	mu   sync.Mutex
	list []interim
	more chan struct{} // closed with the next one; nil if nobody waits
}

// add takes an interim answer of the origin. h becomes the list's.
func (l *interims) add(status int, h http.Header) {
	if !passesOn(status) {
		return
	}
	httpcache.RemoveHopByHop(h)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) == maxInterims {
		return
	}
	l.list = append(l.list, interim{status, h})
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

// from returns those after the first n, and what tells of a further one.
func (l *interims) from(n int) ([]interim, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more == nil {
		l.more = make(chan struct{})
	}
	return l.list[n:], l.more
}

// interim sends an interim answer to the client, if he speaks a version of HTTP
// that has them.
func (rp *reply) interim(in interim) {
	if !rp.r.ProtoAtLeast(1, 1) {
		return
	}
	h := rp.w.Header()
	final := maps.Clone(h)
	clear(h)
	maps.Copy(h, in.header)
	rp.w.WriteHeader(in.status)
	clear(h)
	maps.Copy(h, final)
}

// await waits for the verdict of a flight, and passes on what comes before it.
// It reports false if the client leaves first.
func (rp *reply) await(f *flight) bool {
	gone := rp.r.Context().Done()
	sent := 0
	for {
		// Looked at before the rest: what came before the verdict goes before it.
		list, more := f.interims.from(sent)
		for _, in := range list {
			rp.interim(in)
		}
		sent += len(list)
		select {
		case <-f.ready:
			if list, _ := f.interims.from(sent); len(list) > 0 {
				continue
			}
			return true
		case <-more:
		case <-gone:
			return false
		}
	}
}

// direct passes interim answers on while the request's goroutine waits for the
// final one. After end, it does so no more.
type direct struct {
	rp    *reply
	mu    sync.Mutex
	n     int
	ended bool
}

func (d *direct) add(status int, h http.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || d.n == maxInterims || !passesOn(status) {
		return
	}
	d.n++
	httpcache.RemoveHopByHop(h)
	d.rp.interim(interim{status, h})
}

func (d *direct) end() {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
}
