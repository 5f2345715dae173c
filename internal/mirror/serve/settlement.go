package serve

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"freshet/internal/mirror/generation"
)

// Settling is for how long after a switch a client that was reading the former generation
// is served the pointers and indexes of that one.
const Settling = 2 * time.Minute

const (
	// idle is for how long at least it is remembered what a client read last.
	idle = 20 * time.Second
	// together is within which time of its last reading another connection of a client
	// counts as the same: programs ask for a file and its signature over two of them,
	// at once or, as zypper does, one after the other.
	together = 10 * time.Second
	// maxSeats bounds what is remembered in that time. More clients than these are served
	// what is current.
	maxSeats = 1 << 16
	// maxRead bounds the pointers that are remembered of one client.
	maxRead = 32
)

// settlement remembers which generation clients read, by connection. The zero value is
// ready.
type settlement struct {
	mu          sync.Mutex
	now, before map[reader]*seat // before: what was used in the time before turned
	turned      time.Time
}

// reader is a connection or, with a zero port, a client, and what it reads. Connections of
// clients behind proxies are not known: they have the port zero too.
type reader struct {
	at      netip.AddrPort
	project *generation.Project
}

// seat is the generation that a client reads from, and the pointers that it has read. One
// that is read a second time begins anew: the client wants what there is now.
type seat struct {
	id   string
	last time.Time // when it was read from
	read []string
}

// choose returns the generation from which a client is served a path that changes over
// generations; pointer says that it is one with which reading begins.
func (t *settlement) choose(at netip.AddrPort, p *generation.Project, path string, pointer bool, now time.Time) *generation.Generation {
	current := p.Current()
	if current == nil || !at.IsValid() {
		return current
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	conn, client, s := t.seat(at, p, now)
	g := settled(p, s, current, now)
	if s == nil || g == nil || pointer && slices.Contains(s.read, path) {
		s, g = &seat{id: current.ID()}, current
		t.keep(client, s)
	}
	if pointer && len(s.read) < maxRead {
		s.read = append(s.read, path)
	}
	s.last = now
	t.keep(conn, s)
	return g
}

// reads returns the generation that a client reads from, the current one if that is not
// known.
func (t *settlement) reads(at netip.AddrPort, p *generation.Project, now time.Time) *generation.Generation {
	current := p.Current()
	if current == nil || !at.IsValid() {
		return current
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	conn, _, s := t.seat(at, p, now)
	g := settled(p, s, current, now)
	if s == nil || g == nil {
		return current
	}
	s.last = now
	t.keep(conn, s)
	return g
}

// seat finds that of a connection, or of another one of the same client.
func (t *settlement) seat(at netip.AddrPort, p *generation.Project, now time.Time) (conn, client reader, s *seat) {
	conn, client = reader{at, p}, reader{netip.AddrPortFrom(at.Addr(), 0), p}
	s = t.find(conn)
	if s == nil || conn == client {
		if s = t.find(client); s != nil && now.Sub(s.last) > together {
			s = nil
		}
	}
	return conn, client, s
}

// settled is the generation of a seat, nil if it is not to be used any more.
func settled(p *generation.Project, s *seat, current *generation.Generation, now time.Time) *generation.Generation {
	if s == nil || s.id == current.ID() {
		return current
	}
	g, err := p.Generation(s.id)
	if err != nil || now.Sub(g.Info().Superseded) > Settling {
		return nil
	}
	return g
}

func (t *settlement) find(r reader) *seat {
	if s := t.now[r]; s != nil {
		return s
	}
	return t.before[r]
}

func (t *settlement) keep(r reader, s *seat) {
	if len(t.now) < maxSeats {
		t.now[r] = s
	}
}

// turn forgets what was not used for idle.
func (t *settlement) turn(now time.Time) {
	switch passed := now.Sub(t.turned); {
	case t.now != nil && passed >= 0 && passed < idle:
		return
	case passed < 2*idle:
		t.before = t.now
	default:
		t.before = nil
	}
	t.now, t.turned = make(map[reader]*seat), now
}
