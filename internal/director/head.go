package director

import (
	"bytes"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"freshet/internal/h1"
	"freshet/internal/h2"
	"freshet/internal/role"
)

// beginHead appends the status line and the time of an answer.
func beginHead(b []byte, status int, now time.Time) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(append(b, ' '), http.StatusText(status)...)
	b = append(b, "\r\nDate: "...)
	b = now.UTC().AppendFormat(b, http.TimeFormat)
	return append(b, "\r\n"...)
}

// endHead appends the reason of a failure and the length of the body.
func endHead(b []byte, status int, reason string, length int) []byte {
	if reason != "" {
		b = append(append(append(b, role.ReasonHeader+": "...), reason...), "\r\n"...)
	}
	if status == http.StatusNotModified {
		return b // RFC 9110 §8.6
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(length), 10)
	return append(b, "\r\n"...)
}

// spoken makes of the head of an answer, which is that of HTTP/1.1, one of the protocol
// of the request. It returns the memory that it used, to be given to it again.
func spoken(req *h1.Request, res *h1.Response, memory []byte) []byte {
	if !req.H2 {
		return memory
	}
	memory = append(memory[:0], res.Head...)
	res.Head = h2.AppendStatus(res.Head[:0], res.Status)
	_, fields, _ := bytes.Cut(memory, []byte("\r\n"))
	for line := range bytes.SplitSeq(fields, []byte("\r\n")) {
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok {
			res.Head = h2.AppendField(res.Head, strings.ToLower(string(name)), value)
		}
	}
	return memory
}

// pathOf is the path of a target.
func pathOf(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return path
}

// targetOf is the target of a request as it was sent, without the name of a server
// (RFC 9112 §3.2.2).
func targetOf(req *http.Request) string {
	if strings.HasPrefix(req.RequestURI, "/") {
		return req.RequestURI
	}
	return req.URL.RequestURI()
}

// peerOf is where a connection came from, not valid if that is no address.
func peerOf(req *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return netip.Addr{} // in memory
	}
	return ap.Addr().Unmap()
}
