package h1client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// appendHead appends the head of the request.
func appendHead(b []byte, r *Request) ([]byte, error) {
	if r.Method == "" || strings.ContainsFunc(r.Method, func(c rune) bool { return c >= 0x80 || !isToken(byte(c)) }) {
		return b, &Error{BadRequest, fmt.Errorf("method %q", r.Method)}
	}
	if r.Target == "" || strings.ContainsFunc(r.Target, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return b, &Error{BadRequest, fmt.Errorf("target %q", r.Target)}
	}
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.Host...)
	b = append(b, "\r\n"...)
	for name, values := range r.Header {
		switch name {
		case "Host", "Connection", "Keep-Alive", "Proxy-Connection", "Content-Length", "Transfer-Encoding", "Trailer", "Te", "Upgrade":
			continue // they are about connections, or said otherwise
		case "User-Agent":
			if len(values) == 1 && values[0] == "" {
				continue
			}
		case "Expect":
			if r.Body == nil {
				continue
			}
		}
		for i := range len(name) {
			if !isToken(name[i]) {
				return b, &Error{BadRequest, fmt.Errorf("field name %q", name)}
			}
		}
		for _, value := range values {
			if checkText(value) != nil {
				return b, &Error{BadRequest, fmt.Errorf("value of field %s", name)}
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	switch {
	case r.Body != nil && r.ContentLength >= 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.ContentLength, 10)
		b = append(b, "\r\n"...)
	case r.Body != nil:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		b = append(b, "Content-Length: 0\r\n"...) // RFC 9110 §8.6
	}
	return append(b, "\r\n"...), nil
}

// continueWait is how long a body waits for the 100 it was promised.
const continueWait = time.Second

// upload sends the body of a request beside the reading of its response.
// A nil upload is one that is over.
type upload struct {
	done    chan struct{}
	err     error         // with done
	proceed chan struct{} // closed when the body may be sent; nil: at once
	once    sync.Once
	over    atomic.Bool // the head of the response is there
}

// begin sends the body of r by c in a goroutine.
func begin(c *conn, r *Request) *upload {
	u := &upload{done: make(chan struct{})}
	if slices.ContainsFunc(r.Header["Expect"], func(s string) bool { return strings.EqualFold(s, "100-continue") }) {
		u.proceed = make(chan struct{})
	}
	go func() {
		defer close(u.done)
		defer func() { _ = r.Body.Close() }() // only read
		if u.err = u.send(c, r); u.err != nil {
			// A reason may already stand in the answer; if not, there is no use in
			// waiting for one.
			_ = c.nc.SetReadDeadline(time.Now().Add(time.Second))
			return
		}
		if r.FirstByte > 0 && !u.over.Load() {
			_ = c.nc.SetReadDeadline(time.Now().Add(r.FirstByte)) // fails only when the connection is closed
		}
	}()
	return u
}

// allow lets the body be sent.
func (u *upload) allow() {
	if u != nil && u.proceed != nil {
		u.once.Do(func() { close(u.proceed) })
	}
}

// answered notes that the response has begun. What is not sent by then may
// still be, but a body that waits for leave is not.
func (u *upload) answered() {
	if u != nil {
		u.over.Store(true)
		u.allow()
	}
}

// sent reports whether the whole body is sent.
func (u *upload) sent() bool {
	if u == nil {
		return true
	}
	select {
	case <-u.done:
		return u.err == nil
	default:
		return false
	}
}

var errUnsent = errors.New("body not wanted")

func (u *upload) send(c *conn, r *Request) error {
	if u.proceed != nil {
		timer := time.NewTimer(continueWait)
		defer timer.Stop()
		select {
		case <-u.proceed:
		case <-timer.C:
		}
		if u.over.Load() {
			return errUnsent
		}
	}
	buf := make([]byte, 64<<10)
	w := &patientWriter{c.nc, r.Idle}
	if r.ContentLength >= 0 {
		n, err := io.CopyBuffer(w, struct{ io.Reader }{io.LimitReader(r.Body, r.ContentLength)}, buf)
		if err == nil && n < r.ContentLength {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	for {
		n, err := r.Body.Read(buf[8 : len(buf)-2])
		if n > 0 {
			line := strconv.AppendInt(make([]byte, 0, 8), int64(n), 16)
			from := 8 - len(line) - 2
			copy(buf[from:], line)
			copy(buf[8-2:], "\r\n")
			copy(buf[8+n:], "\r\n")
			if _, err := w.Write(buf[from : 8+n+2]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			_, err = w.Write([]byte("0\r\n\r\n"))
			return err
		}
		if err != nil {
			return err
		}
	}
}

// patientWriter gives each write its own time.
type patientWriter struct {
	nc    net.Conn
	limit time.Duration
}

func (w *patientWriter) Write(p []byte) (int, error) {
	if w.limit > 0 {
		_ = w.nc.SetWriteDeadline(time.Now().Add(w.limit)) // fails only when the connection is closed
	}
	return w.nc.Write(p)
}
