package h2

import (
	"errors"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"

	"freshet/internal/h1"
)

// header is a decoded header, checked as RFC 9113 §8.2 and §8.3 demand.
type header struct {
	method, scheme, authority, path string
	fields                          []hpack.HeaderField // the others, without Host
	length                          int64               // of the body as announced, -1 if it is not
	odd                             bool                // there are fields that hits know nothing of
}

var (
	errPseudo     = errors.New("pseudo-header fields are wrong")
	errFieldName  = errors.New("a field name is not valid")
	errFieldValue = errors.New("a field value is not valid")
	errConnField  = errors.New("a field is of the connection")
	errLength     = errors.New("lengths contradict each other")
	errHosts      = errors.New("hosts contradict each other")
)

// read checks a header. list is kept.
func (h *header) read(list []hpack.HeaderField) error {
	*h = header{length: -1}
	n := 0
	for n < len(list) && strings.HasPrefix(list[n].Name, ":") {
		var at *string
		switch list[n].Name {
		case ":method":
			at = &h.method
		case ":scheme":
			at = &h.scheme
		case ":authority":
			at = &h.authority
		case ":path":
			at = &h.path
		default:
			return errPseudo
		}
		if *at != "" || list[n].Value == "" && at != &h.authority || !validValue(list[n].Value) {
			return errPseudo
		}
		*at = list[n].Value
		n++
	}
	fields, err := h.readFields(list[n:])
	if err != nil {
		return err
	}
	h.fields = fields
	return h.checkPseudo()
}

// readFields checks the fields after the pseudo-header fields, and takes Host
// out of them.
func (h *header) readFields(list []hpack.HeaderField) ([]hpack.HeaderField, error) {
	kept := 0
	host := ""
	for _, f := range list {
		if !validName(f.Name) {
			return nil, errFieldName
		}
		if !validValue(f.Value) {
			return nil, errFieldValue
		}
		switch f.Name {
		case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings":
			return nil, errConnField
		case "te":
			if f.Value != "trailers" {
				return nil, errConnField
			}
			h.odd = true
		case "expect", "trailer":
			h.odd = true
		case "host":
			if host != "" || f.Value == "" {
				return nil, errHosts
			}
			host = f.Value
			continue
		case "content-length":
			n, err := strconv.ParseUint(f.Value, 10, 63)
			if err != nil || h.length >= 0 && h.length != int64(n) || f.Value[0] == '+' {
				return nil, errLength
			}
			if h.length >= 0 {
				continue
			}
			h.length = int64(n)
		}
		list[kept] = f
		kept++
	}
	switch {
	case h.authority == "":
		h.authority = host
	case host != "" && !strings.EqualFold(host, h.authority):
		return nil, errHosts
	}
	return list[:kept], nil
}

func (h *header) checkPseudo() error {
	if !httpguts.ValidHeaderFieldName(h.method) { // a token as well
		return errPseudo
	}
	if h.method == "CONNECT" {
		if h.scheme != "" || h.path != "" || h.authority == "" {
			return errPseudo
		}
		return nil
	}
	switch {
	case h.scheme != "http" && h.scheme != "https", h.path == "":
		return errPseudo
	case h.path[0] != '/' && (h.path != "*" || h.method != "OPTIONS"):
		return errPseudo
	case !httpguts.ValidHostHeader(h.authority):
		return errHosts
	}
	return nil
}

// readTrailers checks fields that come after a body (RFC 9113 §8.1).
func readTrailers(list []hpack.HeaderField) error {
	for _, f := range list {
		if !validName(f.Name) {
			return errFieldName
		}
		if !validValue(f.Value) {
			return errFieldValue
		}
		if !httpguts.ValidTrailerHeader(f.Name) {
			return errConnField
		}
	}
	return nil
}

// validName reports whether s is a token without upper case letters.
func validName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !httpguts.IsTokenRune(rune(c)) || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return s != ""
}

// validValue reports whether s has no control characters but tabs, and no white
// space at its ends (RFC 9113 §8.2.1, RFC 9110 §5.5).
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == "" || s[0] > ' ' && s[len(s)-1] > ' '
}

// maxFields bounds the fields of a request for a hit.
const maxFields = 64

// hit makes r of the header, and reports whether that can be. r.Fields is
// appended to.
func (h *header) hit(r *h1.Request) bool {
	switch h.method {
	case "GET":
	case "HEAD":
		r.Head = true
	default:
		return false
	}
	if h.odd || h.length >= 0 || len(h.fields) > maxFields {
		return false
	}
	r.Target, r.Host = view(h.path), view(h.authority)
	if !h1.ValidTarget(r.Target) || !h1.ValidHost(r.Host) {
		return false
	}
	for _, f := range h.fields {
		r.Fields = append(r.Fields, h1.Field{Name: view(f.Name), Value: view(f.Value)})
	}
	return true
}

// view is s as bytes, which must not be changed.
func view(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s)) //nolint:gosec // only read, as Request says
}
