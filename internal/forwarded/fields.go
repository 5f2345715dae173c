package forwarded

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"freshet/internal/networks"
)

// maxHops bounds how many addresses of a field are looked at.
const maxHops = 32

// Client returns who made a request that came from the address peer, where the
// fields of the given proxies are believed. If peer is none of these, it is
// peer itself.
func Client(peer netip.Addr, h http.Header, trusted networks.Set) netip.Addr {
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
func last(peer netip.Addr, list string, trusted networks.Set, node func(string) string) netip.Addr {
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

// Proto is the field by which a proxy says whether the client used TLS.
const Proto = "X-Forwarded-Proto"

// Tell says in h, which goes to an origin, who made the request r, by its
// RemoteAddr; which host it asked for; and whether it used TLS. Its field
// [Proto] is believed: it is to be taken from requests of others before.
func Tell(h http.Header, r *http.Request) {
	if addr, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		h["X-Forwarded-For"] = []string{addr}
	}
	if r.Host != "" {
		h["X-Forwarded-Host"] = []string{r.Host}
	}
	scheme := "http"
	if r.TLS != nil || strings.EqualFold(r.Header.Get(Proto), "https") {
		scheme = "https"
	}
	h[Proto] = []string{scheme}
}

// Strip takes out of h what only proxies have good reasons to say: who the
// client is, and that the request is for another host, path or method than it
// says. It is no part of what answers are stored by, and it would pass by the
// rules of access.
func Strip(h http.Header) {
	for name := range h {
		if strips(name) {
			delete(h, name)
		}
	}
}

func strips(name string) bool {
	switch name {
	case "Forwarded", "X-Forwarded", "X-Host", "X-Scheme", "X-Url-Scheme", "Front-End-Https",
		"X-Real-Ip", "True-Client-Ip", "X-Client-Ip", "Client-Ip", "X-Cluster-Client-Ip", "X-Remote-Ip", "X-Remote-Addr",
		"X-Originating-Ip", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Fastly-Client-Ip":
		return true
	}
	for _, prefix := range [...]string{"X-Forwarded-", "X-Original-", "X-Rewrite-", "X-Http-Method", "X-Method-", "X-Envoy-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
