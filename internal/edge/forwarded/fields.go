package forwarded

import (
	"net/http"
	"net/netip"
	"strings"

	"freshet/internal/edge/gate"
)

// maxHops bounds how many addresses of a field are looked at.
const maxHops = 32

// Client returns who made a request that came from the address peer, where the
// fields of the given proxies are believed. If peer is none of these, it is
// peer itself.
func Client(peer netip.Addr, h http.Header, trusted gate.Networks) netip.Addr {
	if !trusted.Has(peer) {
		return peer
	}
	if lines := h["X-Forwarded-For"]; len(lines) > 0 {
		return last(peer, strings.Join(lines, ","), trusted, func(s string) string { return s })
	}
	return last(peer, strings.Join(h["Forwarded"], ","), trusted, forOf)
}

// last walks a list from its end, where the nearest proxy wrote, to the first
// address that is not trusted. What cannot be read ends the walk: whoever wrote
// it is the client as far as can be known.
func last(peer netip.Addr, list string, trusted gate.Networks, node func(string) string) netip.Addr {
	client := peer
	for range maxHops {
		i := strings.LastIndexByte(list, ',')
		addr, ok := parseNode(node(strings.TrimSpace(list[i+1:])))
		if !ok {
			return client
		}
		client = addr
		if !trusted.Has(addr) || i < 0 {
			return client
		}
		list = list[:i]
	}
	return client
}

// forOf is the node in a forwarded-element (RFC 7239 §4), "" if there is none.
func forOf(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if ok && strings.EqualFold(name, "for") {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// parseNode reads an address, with or without brackets and a port (RFC 7239
// §6). Obfuscated names are none.
func parseNode(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return netip.Addr{}, false
	}
	return addr.Unmap().WithZone(""), true
}
