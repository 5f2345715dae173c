// Package networks has sets of addresses, by the networks that they lie in.
package networks

import (
	"fmt"
	"net/netip"
	"slices"
)

// Set is a set of addresses. The zero value is empty.
type Set []netip.Prefix

// Parse reads a network ("10.1.0.0/16"), or an address ("192.0.2.7") as the
// network of it alone.
func Parse(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Unmap().Prefix(addr.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("network %q: %w", s, err)
	}
	return p.Masked(), nil
}

// ParseAll reads a list of what [Parse] reads.
func ParseAll(list []string) (Set, error) {
	var set Set
	for _, s := range list {
		p, err := Parse(s)
		if err != nil {
			return nil, err
		}
		set = append(set, p)
	}
	return set, nil
}

// Has reports whether addr is in one of the networks. An invalid address is in
// none; an IPv4 address mapped to IPv6 is what it stands for, and zones do not
// count.
func (s Set) Has(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(s, func(p netip.Prefix) bool { return p.Contains(addr) })
}
