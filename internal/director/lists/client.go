package lists

import (
	"net/netip"
	"strings"
)

// identify finds out who is to be given mirrors, and in which country that is: who the
// parameter ip names, else the last one in X-Forwarded-For, else the peer. It reports
// false if that is no address.
func (a *Answer) identify(d *Data, r *Request, ip string) (client, bool) {
	addr, ok := d.address(r, ip)
	if !ok {
		return client{}, false
	}
	who := client{addr: addr}
	if !d.opt.Strict {
		who.addr = addr.Unmap()
	}
	if code, ok := d.Snapshot.NetblockCountry(who.addr); ok && code != "" {
		who.country = code
	} else {
		who.country = d.Countries.Country(who.addr)
	}
	a.Client, a.Country = addr, who.country
	return who, true
}

// address is the address of the client, as it was written.
func (d *Data) address(r *Request, ip string) (netip.Addr, bool) {
	if ip == "" {
		return d.sender(r)
	}
	if addr, ok := parseAddress(ip); ok || d.opt.Strict {
		return addr, ok
	}
	return parseAddress(decoded(ip))
}

// sender is the address that the request came from, before the last proxy.
func (d *Data) sender(r *Request) (netip.Addr, bool) {
	switch {
	case !r.HasForwarded, r.Forwarded == "" && !d.opt.Strict:
		return r.Peer, r.Peer.IsValid()
	case d.opt.Strict:
		last := r.Forwarded
		if i := strings.LastIndex(last, ", "); i >= 0 {
			last = last[i+2:]
		}
		return parseAddress(last)
	}
	return parseAddress(strings.TrimSpace(r.Forwarded[strings.LastIndexByte(r.Forwarded, ',')+1:]))
}

// parseAddress reads an address without anything around it.
func parseAddress(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	return addr, err == nil && addr.Zone() == ""
}
