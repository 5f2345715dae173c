package hub

import (
	"net"
	"net/netip"
	"sync"
)

const (
	// maxPollers bounds the long polls that wait at the same time.
	maxPollers = 4096
	// maxPollersOfOne bounds those of one client address, so that nobody can
	// take the places of all others.
	maxPollersOfOne = 64
)

// pollers counts the long polls that wait. The zero value counts none. Its
// methods may be called concurrently.
type pollers struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by pollerKey; only of those that wait
}

// enter takes a place for a client, given by the address of its connection.
// There is none when ok is false; otherwise leave gives it back.
func (p *pollers) enter(addr string) (leave func(), ok bool) {
	key := pollerKey(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= maxPollers || p.of[key] >= maxPollersOfOne {
		return nil, false
	}
	if p.of == nil {
		p.of = make(map[string]int)
	}
	p.all++
	p.of[key]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.all--
		if p.of[key]--; p.of[key] == 0 {
			delete(p.of, key)
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
