package h1client

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

const (
	// maxHead is the longest head of a response.
	maxHead = 64 << 10
	// maxFields bounds its field lines.
	maxFields = 512
)

// framing is how a body's end is told.
type framing uint8

const (
	framedNone    framing = iota // there is no body
	framedLength                 // by Content-Length
	framedChunked                // by the last chunk
	framedClose                  // by the end of the connection
)

// head is a parsed head of a response.
type head struct {
	status int
	line   string // "200 OK"
	minor  int    // HTTP/1.minor
	header http.Header
	// length is that of Content-Length, -1 if there is none.
	length  int64
	framing framing
	// closing: the connection is not used again.
	closing bool
	// idle is what the origin says it keeps an idle connection for, 0 if
	// nothing; max how many more requests, -1 if nothing.
	idle time.Duration
	// empty says that there might be a body, and its length is 0.
	empty bool
	max   int
}

// headEnd returns the length of the head at the begin of b, 0 if it is not
// whole yet. The first seen bytes were looked at before and hold no end.
func headEnd(b []byte, seen int) (int, error) {
	for i := seen; ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return 0, nil
		}
		i += j
		switch {
		case i == 0 || b[i-1] != '\r':
			return 0, malformed("line without CR")
		case i == 1:
			return 0, malformed("empty line instead of a status")
		case b[i-2] == '\n':
			return i + 1, nil
		}
		i++
	}
}

// parseHead reads a whole head, as found by headEnd. noBody says that the
// request was HEAD.
func parseHead(b []byte, noBody bool) (head, error) {
	h := head{length: -1, max: -1}
	n := bytes.Count(b, []byte("\n")) - 2 // status line, empty line
	if n > maxFields {
		return h, malformed("more than %d fields", maxFields)
	}
	text := string(b[:len(b)-2]) // the fields are parts of it
	line, rest, _ := strings.Cut(text, "\r\n")
	if err := h.statusLine(line); err != nil {
		return h, err
	}
	h.header = make(http.Header, n)
	values := make([]string, 0, n)
	for len(rest) > 0 {
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, err := fieldLine(line)
		if err != nil {
			return h, err
		}
		if old, again := h.header[name]; again {
			h.header[name] = append(old, value)
			continue
		}
		values = append(values, value)
		h.header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return h, h.frame(noBody)
}

// statusLine reads "HTTP/1.1 200 OK" (RFC 9112 §4). The space before an empty
// reason may be missing.
func (h *head) statusLine(line string) error {
	if err := checkText(line); err != nil {
		return err
	}
	version, status, _ := strings.Cut(line, " ")
	switch version {
	case "HTTP/1.1":
		h.minor = 1
	case "HTTP/1.0":
		h.minor, h.closing = 0, true
	default:
		return malformed("version %.16q", version)
	}
	if len(status) < 3 || len(status) > 3 && status[3] != ' ' {
		return malformed("status %.16q", status)
	}
	for i := range 3 {
		c := status[i]
		if c < '0' || c > '9' {
			return malformed("status %.16q", status)
		}
		h.status = h.status*10 + int(c-'0')
	}
	if h.status < 100 {
		return malformed("status %.16q", status)
	}
	h.line = status
	return nil
}

// fieldLine reads "Name: value" (RFC 9112 §5).
func fieldLine(line string) (name, value string, err error) {
	colon := strings.IndexByte(line, ':')
	if colon <= 0 {
		return "", "", malformed("field line %.32q", line)
	}
	name, value = line[:colon], strings.Trim(line[colon+1:], " \t")
	for i := range len(name) {
		if !isToken(name[i]) { // a folded line begins with a space
			return "", "", malformed("field name %.32q", name)
		}
	}
	return textproto.CanonicalMIMEHeaderKey(name), value, checkText(value)
}

// checkText refuses control characters.
func checkText(s string) error {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return malformed("control character %#x", c)
		}
	}
	return nil
}

func isToken(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// frame works out the body's length and what becomes of the connection
// (RFC 9112 §6.3, §9.3).
func (h *head) frame(noBody bool) error {
	codings, lengths := h.header["Transfer-Encoding"], h.header["Content-Length"]
	// A coding that nobody knows was not asked for, so there is none (RFC 9110
	// §10.1.4): the body goes as it is up to the end of the connection.
	unknown := len(codings) == 1 && isUnknown(codings[0])
	if len(codings) > 0 {
		switch {
		case len(lengths) > 0:
			return malformed("both Content-Length and Transfer-Encoding")
		case h.minor == 0:
			return malformed("Transfer-Encoding in HTTP/1.0")
		case unknown:
		case len(codings) > 1 || !strings.EqualFold(codings[0], "chunked"):
			return malformed("transfer coding %.32q", codings)
		}
	}
	for i, s := range lengths {
		n, ok := contentLength(s)
		if !ok || i > 0 && n != h.length {
			return malformed("Content-Length %.32q", lengths)
		}
		h.length = n
	}
	if len(lengths) > 1 { // the same, several times
		h.header["Content-Length"] = lengths[:1:1]
	}
	h.connection()
	delete(h.header, "Trailer")
	delete(h.header, "Transfer-Encoding")
	switch {
	case h.status < 200 || h.status == http.StatusNoContent || h.status == http.StatusNotModified:
		// What stands in a 204 is wrong, and a body might follow it.
		if h.status != http.StatusNotModified && (len(codings) > 0 || h.length > 0) {
			h.closing = true
		}
		h.length = 0
	case noBody:
	case len(codings) > 0 && !unknown:
		h.framing = framedChunked
	case h.length > 0:
		h.framing = framedLength
	case h.length == 0:
		h.empty = true
	case h.length < 0:
		h.framing, h.closing = framedClose, true
	}
	return nil
}

// isUnknown reports whether a transfer coding is a word, and none that was ever
// registered (RFC 9112 §12.3) or looks like one.
func isUnknown(coding string) bool {
	for i := range len(coding) {
		if !isToken(coding[i]) {
			return false
		}
	}
	coding = strings.ToLower(coding)
	for _, known := range [...]string{"chunked", "compress", "deflate", "gzip", "identity", "trailers"} {
		if strings.Contains(coding, known) {
			return false
		}
	}
	return coding != ""
}

func (h *head) connection() {
	for _, line := range h.header["Connection"] {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.Trim(token, " \t"), "close") {
				h.closing = true
			}
		}
	}
	for _, line := range h.header["Keep-Alive"] {
		for param := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.Trim(param, " \t"), "=")
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				continue
			}
			switch {
			case strings.EqualFold(name, "timeout"):
				h.idle = time.Duration(n) * time.Second
				h.closing = h.closing || n == 0
			case strings.EqualFold(name, "max"):
				h.max = int(n)
				h.closing = h.closing || n == 0
			}
		}
	}
}

// contentLength reads 1*DIGIT, up to 18 of them.
func contentLength(s string) (n int64, ok bool) {
	if len(s) == 0 || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}
