package h1

import (
	"cmp"
	"net/netip"
	"time"
)

// Limits bound what clients may take of a server. A field that is zero has its
// default, a negative one sets no limit. How long and how large the header of a
// request may be is said by [Server.HTTP].
type Limits struct {
	// Conns is how many connections may be open at once, with those that
	// [Server.HTTP] has; one more is closed unanswered. Default 50,000.
	Conns int
	// ConnsPerIP is how many of them may come from one IPv4 address or one
	// IPv6 /64. Those of this machine, and those without an IP address, are
	// not counted. Default 1,024.
	ConnsPerIP int
	// Handshakes is how many handshakes of TLS may be under way at once; others
	// wait for their turn, within their time. Default 512.
	Handshakes int
	// HandshakeTime is how long a handshake may take. Default 5 s.
	HandshakeTime time.Duration
	// MinRate is how many bytes of an answer a client must take per second, on
	// the average of twice [Server.Stall], lest it is cut. Default 256.
	MinRate int
}

// WithDefaults returns l with every zero field replaced by its default.
func (l Limits) WithDefaults() Limits {
	return Limits{
		Conns:         cmp.Or(l.Conns, 50_000),
		ConnsPerIP:    cmp.Or(l.ConnsPerIP, 1024),
		Handshakes:    cmp.Or(l.Handshakes, 512),
		HandshakeTime: cmp.Or(l.HandshakeTime, 5*time.Second),
		MinRate:       cmp.Or(l.MinRate, 256),
	}
}

// Rejection is why a connection was refused or cut. Its text is the word in
// metrics and log.
type Rejection string

// Reasons for which connections end before their time.
const (
	RejectConns      Rejection = "conns"          // too many are open
	RejectConnsPerIP Rejection = "conns_per_ip"   // too many are open from there
	RejectHandshake  Rejection = "tls_handshake"  // TLS was not agreed on
	RejectHandshakeT Rejection = "tls_timeout"    // nor in time
	RejectSlow       Rejection = "slow_client"    // it takes its answers too slowly
	RejectHeaderTime Rejection = "header_timeout" // a header took too long
	RejectDrain      Rejection = "drain"          // it did not end when serving did
	RejectMessage    Rejection = "bad_message"    // what was sent is no request
	RejectHeaderSize Rejection = "header_size"    // a header is too large

	// What was sent is no request of HTTP/1.1, or where it ends can be read in
	// two ways; see [Malformed].
	RejectLength  Rejection = "ambiguous_length" // two lengths, or one that is none
	RejectLineEnd Rejection = "bad_line_end"     // a bare CR or LF
	RejectField   Rejection = "bad_field"        // folded, or no field
	RejectChunk   Rejection = "bad_chunk"        // the chunks of a body
)

func rejections() [13]Rejection {
	return [...]Rejection{
		RejectConns, RejectConnsPerIP, RejectHandshake, RejectHandshakeT, RejectSlow, RejectHeaderTime, RejectDrain, RejectMessage, RejectHeaderSize,
		RejectLength, RejectLineEnd, RejectField, RejectChunk,
	}
}

// Source is what a client is counted by: an IPv4 address, or an IPv6 /64. The
// zero value, for this machine and for what is no address, is not counted.
func Source(ip netip.Addr) netip.Prefix {
	if ip = ip.Unmap(); !ip.IsValid() || ip.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	source, _ := ip.WithZone("").Prefix(bits) // bits fit
	return source
}

// admit counts a connection of a client, and reports false if there are too
// many from there.
func (s *Server) admit(client netip.Addr) bool {
	source := Source(client)
	if !source.IsValid() || s.Limits.ConnsPerIP <= 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sources[source] >= s.Limits.ConnsPerIP {
		return false
	}
	s.sources[source]++
	return true
}

// leftLocked counts a connection out.
func (s *Server) leftLocked(client netip.Addr) {
	source := Source(client)
	if n := s.sources[source]; n > 1 {
		s.sources[source] = n - 1
	} else if n == 1 {
		delete(s.sources, source)
	}
}
