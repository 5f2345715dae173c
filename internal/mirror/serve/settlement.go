package serve

import (
	"hash/fnv"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"freshet/internal/mirror/generation"
)

// Settling is for how long after a switch a client that was reading the former generation
// is served the pointers and indexes of that one.
const Settling = 2 * time.Minute

const (
	// idle is for how long at least it is remembered what a client read last.
	idle = Settling
	// together is within which time what an address asks for is likely for one reading: a
	// program that looks at several repositories does so at once.
	together = 10 * time.Second
	// maxReaders bounds the connections that are remembered, and the clients too. More than
	// these are served what is current.
	maxReaders = 1 << 16
	// maxRead bounds the pointers that are remembered of one of them.
	maxRead = 32
)

// settlement remembers which generation clients read. Clients ask for a pointer, such as
// repomd.xml, and for what belongs to it, such as its signature, in either order, and
// some of them over two connections. Those of two generations do not go together, and so
// whoever has one of them gets the other one of the same generation:
//
//   - A connection reads one generation, until it asks for a pointer that it has read: it
//     wants what there is now.
//   - Another connection of the same client reads what that one does, as long as something
//     is missing there: a signature was asked for less often than its pointer, or the
//     other way round. Else it begins with what is current.
//   - As long as somebody at an address is likely between a pointer and its signature, so
//     shortly after a switch, nobody there begins with what is new: of two clients behind
//     one address, nobody could say who asks for the signature.
//
// The zero value is ready, and notes nothing.
type settlement struct {
	noted *readers // what clients read, for the time after a kill; nil: nothing is noted

	mu      sync.Mutex
	conns   recent[connection, *seat]
	clients recent[client, *round]
}

// connection is one, by the client's address and port and our own end, and what it reads.
type connection struct {
	at      netip.AddrPort
	end     *net.TCPAddr
	project string
}

// client is a program at an address, and what it reads.
type client struct {
	at      netip.Addr
	agent   uint64
	project string
}

// asker is who asks. Connections of clients behind proxies are not known: their port is
// zero.
type asker struct {
	at    netip.AddrPort
	agent uint64
	// end is our end of the connection, by its pointer: each one has its own, also when a
	// client uses its port again. It is nil if nobody tells.
	end *net.TCPAddr
}

func askerOf(r *http.Request) asker {
	at, _ := netip.ParseAddrPort(r.RemoteAddr) // no address: what is current
	agent := fnv.New64a()
	_, _ = agent.Write([]byte(r.UserAgent())) // never fails
	end, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return asker{netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), agent.Sum64(), end}
}

// seat is the generation that a connection reads from, and the pointers that it has read.
type seat struct {
	id   string
	read []string
}

// round is the generation that a client was served last, and how often it was served which
// pointers of it.
type round struct {
	id   string
	last time.Time
	read []reading
}

type reading struct {
	path, stem string
	times      int
}

// choose returns the generation from which a client is served a path that changes over
// generations. Begins says that it is all of a pointer, which is there; note, that the
// client gets it now.
func (t *settlement) choose(who asker, p *generation.Project, path string, begins, note bool, now time.Time) *generation.Generation {
	g, written := t.chooseNoted(who, p, path, begins, note, now)
	await(written)
	return g
}

// chooseNoted is choose, and tells when it is noted, if that is worth waiting for.
func (t *settlement) chooseNoted(who asker, p *generation.Project, path string, begins, note bool, now time.Time) (*generation.Generation, <-chan struct{}) {
	current := p.Current()
	if current == nil || !who.at.IsValid() {
		return current, nil
	}
	// Of what changed just now somebody may have read a part.
	fresh := begins && now.Sub(current.Info().Switched) <= together && hasCompanion(current, path)
	t.mu.Lock()
	defer t.mu.Unlock()
	conn, from := connection{who.at, who.end, p.Name()}, client{who.at.Addr(), who.agent, p.Name()}
	s := t.conns.find(conn, now)
	r := t.clients.find(from, now)
	g := current
	if there := settled(p, s.generation(), current, now); there != nil {
		if !begins || !slices.Contains(s.read, path) {
			g = there
		}
	} else if there := settled(p, r.generation(), current, now); there != nil {
		if !begins || r.lacks(path, now) || fresh && r.isOpen(path, now) {
			g = there
		}
	}
	if !note {
		return g, nil
	}
	var written <-chan struct{}
	if who.at.Port() != 0 {
		t.conns.keep(conn, s.after(g, path, begins), now)
	}
	if r == nil || r.id == g.ID() || g == current {
		if t.noted != nil {
			written = t.noted.note(readNote{client: from, generation: g.ID(), path: path, begins: begins, when: now}, r.generation() != g.ID())
		}
		t.clients.keep(from, r.after(g.ID(), path, begins, now), now)
	}
	return g, written
}

// settled is the generation of this id, nil if it is not to be used any more.
func settled(p *generation.Project, id string, current *generation.Generation, now time.Time) *generation.Generation {
	switch id {
	case "":
		return nil
	case current.ID():
		return current
	}
	g, err := p.Generation(id)
	if err != nil || now.Sub(g.Info().Superseded) > Settling {
		return nil
	}
	return g
}

// generation is the id of the one that is read, "" if it is not known. So it is of a nil
// seat.
func (s *seat) generation() string {
	if s == nil {
		return ""
	}
	return s.id
}

// after is s when a path was served of a generation.
func (s *seat) after(g *generation.Generation, path string, begins bool) *seat {
	if s == nil || s.id != g.ID() {
		s = &seat{id: g.ID()}
	}
	if begins && len(s.read) < maxRead && !slices.Contains(s.read, path) {
		s.read = append(s.read, path)
	}
	return s
}

func (r *round) generation() string {
	if r == nil {
		return ""
	}
	return r.id
}

// after is r when a path was served of a generation.
func (r *round) after(id, path string, begins bool, now time.Time) *round {
	if r == nil || r.id != id {
		r = &round{id: id}
	}
	r.last = now
	if !begins {
		return r
	}
	i := slices.IndexFunc(r.read, func(x reading) bool { return x.path == path })
	switch {
	case i >= 0:
		r.read[i].times++
	case len(r.read) < maxRead:
		r.read = append(r.read, reading{path, stem(path), 1})
	}
	return r
}

// times is how often a pointer was served, and how often at most one of those that belong
// to it.
func (r *round) times(path string) (own, others int) {
	stem := stem(path)
	for _, x := range r.read {
		switch {
		case x.path == path:
			own = x.times
		case x.stem == stem:
			others = max(others, x.times)
		}
	}
	return own, others
}

// lacks reports whether a pointer is missing to what the client has of the generation, or
// is one of another repository that it looks at in one go.
func (r *round) lacks(path string, now time.Time) bool {
	own, others := r.times(path)
	return own < others || own == 0 && now.Sub(r.last) <= together
}

// isOpen reports whether somebody has just read a pointer and not yet what belongs to it.
func (r *round) isOpen(path string, now time.Time) bool {
	own, others := r.times(path)
	return own > others && now.Sub(r.last) <= together
}

// companions are the ends of the names of what belongs to a pointer: signatures and keys.
func companions() []string { return []string{".asc", ".key", ".sig", ".gpg", ".sign"} }

// stem is the pointer that a path belongs to.
func stem(path string) string {
	for _, end := range companions() {
		if s, ok := strings.CutSuffix(path, end); ok {
			return s
		}
	}
	return path
}

// hasCompanion reports whether a generation has what belongs to a pointer.
func hasCompanion(g *generation.Generation, path string) bool {
	if stem(path) != path {
		return true
	}
	return slices.ContainsFunc(companions(), func(end string) bool {
		f, err := g.Open(path + end)
		if err == nil {
			_ = f.Close() // opened for reading
		}
		return err == nil
	})
}

// recent remembers what was used within [idle], of [maxReaders] at most. The zero value is
// ready.
type recent[K comparable, V any] struct {
	now, before map[K]V // before: what was used in the time before turned
	turned      time.Time
}

func (m *recent[K, V]) find(k K, now time.Time) (v V) {
	m.turn(now)
	if v, ok := m.now[k]; ok {
		return v
	}
	return m.before[k]
}

func (m *recent[K, V]) keep(k K, v V, now time.Time) {
	m.turn(now)
	if _, known := m.now[k]; known || len(m.now) < maxReaders {
		m.now[k] = v
	}
}

// turn forgets what was not used for idle.
func (m *recent[K, V]) turn(now time.Time) {
	switch passed := now.Sub(m.turned); {
	case m.now != nil && passed >= 0 && passed < idle:
		return
	case passed < 2*idle:
		m.before = m.now
	default:
		m.before = nil
	}
	m.now, m.turned = make(map[K]V), now
}
