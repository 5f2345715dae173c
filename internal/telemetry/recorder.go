package telemetry

import (
	"bytes"
	"math/bits"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"freshet/internal/accesslog"
)

const (
	// listRoom is how many transfers wait in one list at most, and listWake how many wake
	// up who counts them.
	listRoom = 8192
	listWake = listRoom / 4
	maxLists = 16
	// maxPath is the length of paths that are looked at.
	maxPath = 512
)

// lists are where transfers wait to be counted: one for each processor.
type lists struct {
	all  []list
	mask uint32
	near sync.Pool // of *list: what a processor puts here it gets again
	lent atomic.Uint32
	wake chan struct{}
}

type list struct {
	mu    sync.Mutex
	now   *page
	spare *page
	// beyond is what found no room: requests and bytes, by project.
	beyond map[string]*cell
	_      [64]byte // the next one is another processor's
}

// page is some transfers, with the names of their programs.
type page struct {
	entries []entry
	text    []byte
}

// entry is a transfer that has ended or, with under set, what went out of one that is under
// way.
type entry struct {
	project, path, reason, outcome, proto string
	client                                netip.Addr
	ended, bytes                          int64 // seconds since 1970
	firstByte                             time.Duration
	agent                                 int32 // where it begins in the text
	agentLen                              uint8
	status                                int16
	tls, under                            bool
}

func newLists() *lists {
	n := 1 << bits.Len(uint(min(runtime.GOMAXPROCS(0), maxLists)-1))
	return &lists{all: make([]list, n), mask: uint32(n - 1), wake: make(chan struct{}, 1)}
}

// note appends what a record tells, which is not kept. under says that the transfer goes
// on.
func (ls *lists) note(r *accesslog.Record, sent int64, under bool) {
	sent = max(0, sent) // counts never fall
	l, ok := ls.near.Get().(*list)
	if !ok {
		l = &ls.all[ls.lent.Add(1)&ls.mask]
	}
	l.mu.Lock()
	if l.now == nil {
		l.now = new(page)
	}
	p := l.now
	if len(p.entries) >= listRoom {
		l.overflow(r, sent, under)
	} else {
		p.entries = append(p.entries, entry{
			project: r.Site, path: r.Path, reason: r.Reason, outcome: r.Outcome, proto: r.Proto, client: r.Client,
			ended: second(r.Begun.Add(r.Took)), bytes: sent, firstByte: r.FirstByte, status: int16(r.Status), tls: r.TLS, under: under,
			agent: int32(len(p.text)), agentLen: uint8(min(len(r.UserAgent), maxAgent)),
		})
		p.text = append(p.text, r.UserAgent[:min(len(r.UserAgent), maxAgent)]...)
		if len(p.entries) == listWake {
			select {
			case ls.wake <- struct{}{}:
			default: // it is awake
			}
		}
	}
	l.mu.Unlock()
	ls.near.Put(l)
}

// overflow counts what finds no room.
func (l *list) overflow(r *accesslog.Record, sent int64, under bool) {
	c := l.beyond[r.Site]
	if c == nil {
		if l.beyond == nil {
			l.beyond = make(map[string]*cell)
		}
		c = new(cell)
		l.beyond[r.Site] = c // sites are those of the configuration
	}
	c.bytes += sent
	if !under {
		c.requests++
	}
}

// drain takes what waits out of all lists.
func (ls *lists) drain(each func(*entry, []byte), beyond func(project string, c cell)) {
	for i := range ls.all {
		l := &ls.all[i]
		l.mu.Lock()
		p, over := l.now, l.beyond
		l.now, l.spare, l.beyond = l.spare, nil, nil
		l.mu.Unlock()
		for project, c := range over {
			beyond(project, *c)
		}
		if p == nil {
			continue
		}
		for j := range p.entries {
			e := &p.entries[j]
			each(e, p.text[e.agent:][:e.agentLen])
		}
		clear(p.entries) // with the addresses
		p.entries, p.text = p.entries[:0], p.text[:0]
		l.mu.Lock()
		l.spare = p
		l.mu.Unlock()
	}
}

// lower makes ASCII letters small, in place.
func lower(b []byte) []byte {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}

// statusClass is the label of a status.
func statusClass(status int16) string {
	switch {
	case status == 499: // the client left before it was told anything
		return "aborted"
	case status >= 100 && status < 600:
		return [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}[status/100-1]
	}
	return other
}

// protoOf is the label of a protocol.
func protoOf(proto string) string {
	switch proto {
	case "", "HTTP/1.1", "HTTP/1.0":
		return "h1"
	case "HTTP/2.0":
		return "h2"
	case "HTTP/3.0":
		return "h3"
	case "rsync":
		return "rsync"
	}
	return other
}

// familyOfAddr is the label of a family of addresses.
func familyOfAddr(addr netip.Addr) string {
	switch {
	case !addr.IsValid():
		return "none"
	case addr.Unmap().Is4():
		return "4"
	}
	return "6"
}

func tlsOf(tls bool) string {
	if tls {
		return "tls"
	}
	return "plain"
}

// cacheOf is the label of an outcome: a mirror has what it serves.
func cacheOf(outcome string, status int16) string {
	switch outcome {
	case "":
		if status >= http.StatusBadRequest {
			return "error"
		}
		return "hit"
	case "hit", "join", "miss", "pass", "own":
		return outcome
	case "hit-stale":
		return "stale"
	}
	if bytes.HasPrefix([]byte(outcome), []byte("error")) {
		return "error"
	}
	return other
}
