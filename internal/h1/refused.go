package h1

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"freshet/internal/accesslog"
	"freshet/internal/role"
)

// Refused is a message that never became a request, and the answer that its
// client got before the connection was closed.
type Refused struct {
	At     time.Time
	Client netip.Addr // as in [Request]
	// Method and Target are what it seems to ask for, empty where that cannot
	// be told.
	Method, Target string
	Proto          string // as in [net/http.Request]; empty is HTTP/1.1
	Status         int
	Bytes          int // of the body of the answer
	Why            Rejection
	Text           string // what is wrong
}

// Record is the access record of a message that was refused.
func (r *Refused) Record() *accesslog.Record {
	target := cmp.Or(r.Target, "-")
	return &accesslog.Record{
		Begun: r.At, Client: r.Client, Method: cmp.Or(r.Method, "-"), Path: target, Target: []byte(target), Proto: r.Proto,
		Status: r.Status, Bytes: int64(r.Bytes), FirstByte: 1, Took: 1, Reason: string(r.Why), Detail: r.Text,
	}
}

// refusal tells the refusals of the standard server, which come at once and
// without a Date, from what else it writes while no handler answers. status is 0
// for that.
func refusal(p []byte) (status int, text string) {
	line, rest, ok := bytes.Cut(p, []byte("\r\n"))
	text, isPlain := strings.CutPrefix(string(rest[:min(len(rest), maxRefusal)]), "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")
	code, ok2 := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || !ok2 || !isPlain || len(code) < 3 {
		return 0, ""
	}
	if status, _ = strconv.Atoi(string(code[:3])); status < http.StatusBadRequest { // 0 if it is no number
		return 0, ""
	}
	return status, text
}

// maxRefusal is more than the standard server says to what it refuses.
const maxRefusal = 512

// refuse makes the answer to what is no request, and tells of it.
func (g *given) refuse(status int, text string) []byte {
	why := RejectMessage
	switch bad := g.referee.bad; {
	case bad != nil:
		status, why, text = http.StatusBadRequest, bad.Why, bad.Text
	case status == http.StatusRequestHeaderFieldsTooLarge:
		why = RejectHeaderSize
	}
	if why == RejectHeaderSize {
		status = http.StatusRequestHeaderFieldsTooLarge
	}
	now := time.Now()
	g.c.s.Metrics.Rejected(why)
	text = strings.TrimSpace(text) + "\n"
	if g.c.s.Refused != nil {
		method, target := g.referee.first()
		g.c.s.Refused(&Refused{
			At: now, Client: g.c.client, Method: method, Target: target, Status: status, Bytes: len(text), Why: why, Text: strings.TrimSpace(text),
		})
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\nDate: %s\r\n%s: %s\r\n\r\n%s",
		status, http.StatusText(status), len(text), now.UTC().Format(http.TimeFormat), role.ReasonHeader, why, text)
}
