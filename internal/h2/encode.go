package h2

import (
	"net/http"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// What is sent is encoded without the dynamic table (RFC 7541 §2.3.2): so the
// bytes of a header do not depend on the connection, and may be made once.

// AppendStatus appends the field ":status", which begins each answer.
func AppendStatus(b []byte, status int) []byte {
	switch status {
	case 200:
		return append(b, 0x80|8)
	case 204:
		return append(b, 0x80|9)
	case 206:
		return append(b, 0x80|10)
	case 304:
		return append(b, 0x80|11)
	case 400:
		return append(b, 0x80|12)
	case 404:
		return append(b, 0x80|13)
	case 500:
		return append(b, 0x80|14)
	}
	return strconv.AppendInt(append(b, 8, 3), int64(status), 10) // literal, with the name of entry 8
}

// AppendField appends a field. Its name must be in lower case, and what is
// appended must be a valid field.
func AppendField[V string | []byte](b []byte, name string, value V) []byte {
	b = appendName(b, name)
	return append(appendInt(b, 0, 7, len(value)), value...)
}

// AppendCompact is [AppendField] with fewer bytes and more work, for what is
// sent often.
func AppendCompact(b []byte, name, value string) []byte {
	b = appendName(b, name)
	if n := hpack.HuffmanEncodeLength(value); n < uint64(len(value)) {
		return hpack.AppendHuffmanString(appendInt(b, 0x80, 7, int(n)), value)
	}
	return append(appendInt(b, 0, 7, len(value)), value...)
}

// AppendNumber appends a field whose value is a number that is not negative.
func AppendNumber(b []byte, name string, value int64) []byte {
	b = appendName(b, name)
	at := len(b)
	b = strconv.AppendInt(append(b, 0), value, 10)
	b[at] = byte(len(b) - at - 1) // 19 digits at most
	return b
}

// appendName begins a literal field that is not to be indexed (RFC 7541 §6.2.2).
func appendName(b []byte, name string) []byte {
	if i := staticName(name); i != 0 {
		return appendInt(b, 0, 4, i)
	}
	return append(appendInt(append(b, 0), 0, 7, len(name)), name...)
}

// appendInt appends an integer with a prefix of some bits (RFC 7541 §5.1); the
// bits of first before the prefix are kept.
func appendInt(b []byte, first byte, bits, n int) []byte {
	limit := 1<<bits - 1
	if n < limit {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(limit))
	for n -= limit; n >= 0x80; n >>= 7 {
		b = append(b, 0x80|byte(n))
	}
	return append(b, byte(n))
}

// staticName is the place of a name in the static table (RFC 7541 appendix A),
// 0 if it has none: those that are in answers.
func staticName(name string) int {
	switch name {
	case "accept-ranges":
		return 18
	case "access-control-allow-origin":
		return 20
	case "age":
		return 21
	case "allow":
		return 22
	case "cache-control":
		return 24
	case "content-disposition":
		return 25
	case "content-encoding":
		return 26
	case "content-language":
		return 27
	case "content-length":
		return 28
	case "content-location":
		return 29
	case "content-range":
		return 30
	case "content-type":
		return 31
	case "date":
		return 33
	case "etag":
		return 34
	case "expires":
		return 36
	case "last-modified":
		return 44
	case "link":
		return 45
	case "location":
		return 46
	case "proxy-authenticate":
		return 48
	case "retry-after":
		return 53
	case "server":
		return 54
	case "set-cookie":
		return 55
	case "strict-transport-security":
		return 56
	case "vary":
		return 59
	case "via":
		return 60
	case "www-authenticate":
		return 61
	}
	return 0
}

// AppendHeader appends fields for many answers, in the order of their names:
// those that have no place in HTTP/2, or are none, are left out.
func AppendHeader(b []byte, h http.Header) []byte {
	return appendFields(b, h, nil, AppendCompact)
}
