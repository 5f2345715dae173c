package forwarded

import (
	"net/http"
	"net/netip"
	"strings"

	"freshet/internal/h1"
	"freshet/internal/networks"
	"freshet/internal/role"
)

// Resolve returns who makes a request, and whether it is without TLS on its way
// here. Where a trusted proxy says who it is, the RemoteAddr of the request and
// its record are changed to it; where another says whether TLS was used, that
// is taken out of the request.
func Resolve(r *http.Request, trusted networks.Set) (client netip.Addr, clear bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	client, clear = peer.Addr().Unmap(), r.TLS == nil
	if err != nil || !trusted.Has(client) {
		delete(r.Header, Proto) // anybody may write it
		return client, clear
	}
	client = Client(client, r.Header, trusted)
	clear = clear && !strings.EqualFold(r.Header.Get(Proto), "https")
	r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
	if rec := role.RecordOf(r); rec != nil {
		rec.Client = client
	}
	return client, clear
}

// ResolveReady is [Resolve] for what is answered by an [h1.Handler]: Client,
// Remote and Clear of a request that came from a trusted proxy are changed to
// what it says.
func ResolveReady(req *h1.Request, trusted networks.Set) {
	if !trusted.Has(req.Client) {
		return
	}
	fields := make(http.Header)
	for _, field := range req.Fields {
		switch {
		case field.Is("x-forwarded-for"):
			fields.Add("X-Forwarded-For", string(field.Value))
		case field.Is("forwarded"):
			fields.Add("Forwarded", string(field.Value))
		case field.Is("x-forwarded-proto"):
			if req.Clear && strings.EqualFold(string(field.Value), "https") {
				req.Clear = false
			}
		}
	}
	req.Client = Client(req.Client, fields, trusted)
	req.Remote = netip.AddrPortFrom(req.Client, 0).String() // one client's requests are known by it
}
