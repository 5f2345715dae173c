// Package httpcache is the part of HTTP caching that needs no cache: the
// decisions of RFC 9111 (what may be stored, how old it is, how long it is
// fresh, when it must be validated, how a 304 updates it), the validators,
// conditions and ranges of RFC 9110, and the header fields by which a cache
// explains itself (RFC 9211 Cache-Status, RFC 9209 Proxy-Status).
//
// Everything is a pure function of header fields and times for a shared cache.
// Header fields come from the network: every parser is bounded by its input,
// and what is malformed is treated the way the RFC says, or else ignored.
package httpcache
