package rsyncd

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// nameWithin is how long a client may take to name a module. rsync does so at once;
	// whoever looks whether a port is open does not.
	nameWithin = 30 * time.Second
	// yieldsAfter is for how long a client that has named none keeps its place though
	// another one wants it.
	yieldsAfter = 3 * time.Second
)

// places bound how many clients are served at once, in all and from one address. Whoever
// names no module yields its place.
type places struct {
	most, perAddress int
	within, yields   time.Duration // nameWithin and yieldsAfter
	active           prometheus.Gauge

	mu     sync.Mutex
	all    int
	from   map[netip.Prefix]int
	silent []*client // that have named no module, the oldest first
}

// client is one that is served.
type client struct {
	from netip.Prefix // invalid: of this machine
	cut  func()       // ends it; it may be called at any time

	// These are of the places.
	asked time.Time
	timer *time.Timer
	over  bool // its place was given to another one, or its time was over
}

// enter gives a client a place, or says why not. It is to be asked for a module then.
func (p *places) enter(c *client, now time.Time) (reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.from.IsValid() && p.from[c.from] >= p.perAddress && !p.clear(now, func(other *client) bool { return other.from == c.from }) {
		return reasonConnsPerIP
	}
	if p.all >= p.most && !p.clear(now, func(*client) bool { return true }) {
		return reasonConns
	}
	p.count(c, 1)
	return ""
}

// ask notes that a client is asked for a module from now on.
func (p *places) ask(c *client, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.asked = now
	c.timer = time.AfterFunc(p.within, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if slices.Contains(p.silent, c) {
			p.end(c)
		}
	})
	p.silent = append(p.silent, c)
}

// clear takes the place of a client that has been silent for long enough, if there is one.
func (p *places) clear(now time.Time, which func(*client) bool) bool {
	i := slices.IndexFunc(p.silent, func(c *client) bool { return now.Sub(c.asked) >= p.yields && which(c) })
	if i < 0 {
		return false
	}
	p.end(p.silent[i])
	return true
}

// end cuts a client that is silent.
func (p *places) end(c *client) {
	c.over = true
	p.listen(c)
	p.count(c, -1)
	c.cut()
}

// named notes that a client has named a module, and keeps its place.
func (p *places) named(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listen(c)
}

// leave gives a place back. It reports whether the client was cut because it was silent.
func (p *places) leave(c *client) (silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.over {
		return true
	}
	p.listen(c)
	p.count(c, -1)
	return false
}

// listen takes a client off the silent ones.
func (p *places) listen(c *client) {
	c.timer.Stop()
	p.silent = slices.DeleteFunc(p.silent, func(other *client) bool { return other == c })
}

func (p *places) count(c *client, n int) {
	p.all += n
	p.active.Set(float64(p.all))
	if !c.from.IsValid() {
		return
	}
	if p.from == nil {
		p.from = make(map[netip.Prefix]int)
	}
	if p.from[c.from] += n; p.from[c.from] == 0 {
		delete(p.from, c.from)
	}
}
