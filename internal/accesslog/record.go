// Package accesslog writes one line for each request that a server answered,
// and costs a busy server little: a line is appended to a buffer without any
// allocation, buffers go to the disk many lines at once by a goroutine of
// their own, and a disk that is slow or full costs lines, which are counted,
// but never makes a request wait.
//
// # Formats
//
//   - combined: the format of nginx and Apache of that name, with name="value"
//     fields behind it, of which the tools that read combined logs know
//     nothing and need know nothing. Bytes that could end a field or a line
//     stand as \xHH.
//   - json, text: what log/slog writes for the same attributes, byte for byte.
//
// docs/formats/access-log.md describes the fields.
package accesslog

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// Message is the message of an access record, where a format has one.
const Message = "request"

// Record is a request that was answered, or given up. A field left zero is not
// known, or does not apply, and is not written.
type Record struct {
	// Begun is when the request's header was there.
	Begun time.Time
	// Client is the address the request came from. What is written of it is
	// for [Options.Addresses] to say.
	Client netip.Addr
	Method string
	// Path is the path, decoded; Target what was sent, with the query.
	Path   string
	Target []byte
	// Proto is the protocol; zero is "HTTP/1.1".
	Proto string
	// Status is what the client was told; 499 if it left before it was told
	// anything.
	Status int
	// Bytes is the length of the body, as far as it was sent.
	Bytes int64
	// Told is how much of Bytes was counted while the answer was under way; TLS says that the
	// connection is encrypted. Neither is written.
	Told int64
	TLS  bool
	// Took is the time from the request's header to the end of the answer,
	// FirstByte that to the answer's header; zero if there was none.
	Took, FirstByte time.Duration

	// Host is the one that was asked for, as it was sent.
	Host []byte

	Referer, UserAgent []byte

	// Reason is the word for a failure, Detail free text about it.
	Reason, Detail string
	// Outcome is how a cache answered: hit, hit-stale, join, miss, pass, error.
	// Because is the reason why a stale answer was used, Site whose it is, Key
	// the begin of what the cache knows it by.
	Outcome, Because, Site string
	Key                    uint64
	// Upstream tells of the request that was made to an origin for this one.
	Upstream Upstream
	// More are further attributes.
	More []slog.Attr
}

// Upstream is how long the phases of a request to an origin took. Connect and
// TLS are zero when a connection was there, all when no origin was asked.
// FirstByte and Total are from the begin of the request, connecting included,
// to the header of the answer and to the end of its body.
type Upstream struct {
	Origin                         string // who was asked
	Connect, TLS, FirstByte, Total time.Duration
}

// Level is the level of the record where a format has one.
func (r *Record) Level() slog.Level {
	if r.Status >= http.StatusInternalServerError {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// end is when the line is written.
func (r *Record) end() time.Time { return r.Begun.Add(r.Took) }

// Addresses says what is written of clients' addresses.
type Addresses uint8

// What is written of addresses.
const (
	// AddressPrefix: the network, /24 of IPv4 and /48 of IPv6; all of a loopback
	// address, which tells of nobody.
	AddressPrefix Addresses = iota
	// AddressFull: all of it.
	AddressFull
	// AddressNone: nothing.
	AddressNone
)

const (
	prefix4 = 24
	prefix6 = 48
)

// shown is what may be written of an address.
func (a Addresses) shown(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	switch {
	case !addr.IsValid() || a == AddressNone:
		return netip.Addr{}
	case a == AddressFull, addr.IsLoopback():
		return addr
	}
	bits := prefix6
	if addr.Is4() {
		bits = prefix4
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}

// Attrs appends the record as attributes, in the order of the text format.
func (r *Record) Attrs(to []slog.Attr, a Addresses) []slog.Attr {
	to = append(to,
		slog.String("method", r.Method), slog.String("path", r.Path), slog.Int("status", r.Status),
		slog.Int64("bytes", r.Bytes), slog.Duration("took", r.Took))
	text := func(name, value string) {
		if value != "" {
			to = append(to, slog.String(name, value))
		}
	}
	span := func(name string, d time.Duration) {
		if d != 0 {
			to = append(to, slog.Duration(name, d))
		}
	}
	text("reason", r.Reason)
	text("error", r.Detail)
	text("outcome", r.Outcome)
	text("host", string(r.Host))
	text("site", r.Site)
	text("because", r.Because)
	span("ttfb", r.FirstByte)
	if addr := a.shown(r.Client); addr.IsValid() {
		text("client", addr.String())
	}
	text("proto", r.Proto)
	if r.Key != 0 {
		var b [keyDigits]byte
		to = append(to, slog.String("key", string(appendKey(b[:0], r.Key))))
	}
	text("upstream", r.Upstream.Origin)
	span("upstream_connect", r.Upstream.Connect)
	span("upstream_tls", r.Upstream.TLS)
	span("upstream_ttfb", r.Upstream.FirstByte)
	span("upstream_took", r.Upstream.Total)
	return append(to, r.More...)
}
