package director

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"

	"freshet/internal/forwarded"
	"freshet/internal/h1"
	"freshet/internal/networks"
)

// sender is who asks.
type sender struct {
	peer netip.Addr // who connected, or whom a trusted proxy names
	// forwarded is the first X-Forwarded-For, where anybody is believed.
	forwarded    string
	hasForwarded bool
	https        bool // TLS was used on the way here
}

// client is the address of the sender: the last one in X-Forwarded-For, if that is one.
func (s *sender) client() netip.Addr {
	addr, err := netip.ParseAddr(strings.TrimSpace(s.forwarded[strings.LastIndexByte(s.forwarded, ',')+1:]))
	if err != nil || addr.Zone() != "" {
		return s.peer
	}
	return addr.Unmap()
}

// senders finds out who asks. The zero value believes what anybody says of that, as
// mirrorlist-server does.
type senders struct {
	trusted atomic.Pointer[networks.Set] // nil: everybody
}

// trust sets who is believed: nobody else from now on, or everybody if the list is empty.
func (s *senders) trust(proxies []string) error {
	if len(proxies) == 0 {
		s.trusted.Store(nil)
		return nil
	}
	set, err := networks.ParseAll(proxies)
	if err != nil {
		return fmt.Errorf("trusted-proxies: %w", err)
	}
	s.trusted.Store(&set)
	return nil
}

// ready returns who makes a request that the loop answers.
func (s *senders) ready(req *h1.Request) sender {
	if trusted := s.trusted.Load(); trusted != nil {
		forwarded.ResolveReady(req, *trusted)
		return sender{peer: req.Client, https: !req.Clear}
	}
	from := sender{peer: req.Client, https: !req.Clear}
	for _, field := range req.Fields {
		switch {
		case field.Is("x-forwarded-for"):
			if !from.hasForwarded {
				from.forwarded, from.hasForwarded = string(field.Value), true
			}
		case field.Is("x-forwarded-proto"):
			from.https = from.https || strings.EqualFold(string(field.Value), "https")
		}
	}
	return from
}

// of returns who makes a request of the general server.
func (s *senders) of(req *http.Request) sender {
	if trusted := s.trusted.Load(); trusted != nil {
		client, clear := forwarded.Resolve(req, *trusted)
		return sender{peer: client, https: !clear}
	}
	from := sender{peer: peerOf(req), https: req.TLS != nil || strings.EqualFold(req.Header.Get(forwarded.Proto), "https")}
	if lines := req.Header["X-Forwarded-For"]; len(lines) > 0 {
		from.forwarded, from.hasForwarded = lines[0], true
	}
	return from
}
