package hub

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

const (
	// maxPollers bounds the long polls that wait at the same time.
	maxPollers = 4096
	// maxPollersOfOne bounds those of one client, so that nobody can take the places
	// of all others.
	maxPollersOfOne = 64
)

// pollers counts the long polls that wait, and the sockets of delta workers. The zero
// value counts none. Its methods may be called concurrently.
type pollers struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by key; only of those that wait
}

// enter takes a place for a client, which is told from others by each of the keys:
// that of its address, see [pollerKey], and what else there is. There is no place
// when ok is false; otherwise leave gives it back.
func (p *pollers) enter(keys ...string) (leave func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	full := func(key string) bool { return p.of[key] >= maxPollersOfOne }
	if p.all >= maxPollers || slices.ContainsFunc(keys, full) {
		return nil, false
	}
	if p.of == nil {
		p.of = make(map[string]int)
	}
	p.all++
	for _, key := range keys {
		p.of[key]++
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.all--
		for _, key := range keys {
			if p.of[key]--; p.of[key] == 0 {
				delete(p.of, key)
			}
		}
	}, true
}

// pollerKey is what clients are told apart by: the address without the port,
// and of IPv6 the network that one client usually has for itself.
func pollerKey(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		network, _ := ip.Prefix(64) // fits every IPv6 address
		return network.String()
	}
	return ip.String()
}
