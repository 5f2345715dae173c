package h2

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// writer is the ResponseWriter of an exchange. It belongs to the handler.
type writer struct {
	x      *exchange
	header http.Header
	head   bool // answers a HEAD request

	status   int         // 0: not known yet
	kept     http.Header // the fields as they were when the status was set
	length   int64       // that they announce, -1 if they do not
	written  int64       // by the handler
	started  bool        // the header is queued
	buf      []byte      // not queued yet
	ending   bool        // the handler has written all
	finished bool
}

// bufferSize is how much of an answer is held back, so that short ones go out
// whole and with their length.
const bufferSize = 4 << 10

// Header implements [http.ResponseWriter].
func (w *writer) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader implements [http.ResponseWriter]. Those of 1xx are sent at once.
func (w *writer) WriteHeader(status int) {
	if w.status != 0 || w.finished {
		return
	}
	if status < 100 || status > 999 {
		panic("h2: invalid status " + strconv.Itoa(status)) // as net/http does
	}
	if status < 200 {
		if status != http.StatusSwitchingProtocols { // RFC 9113 §8.6: there is none
			b := appendFields(AppendStatus(nil, status), w.Header(), nil, AppendField[string])
			_ = w.x.send(b, nil, false, true) // the client may be gone: writing the answer will tell
		}
		return
	}
	w.status = status
	w.kept = maps.Clone(w.Header())
	if lines := w.kept["Content-Length"]; len(lines) > 0 {
		n, err := strconv.ParseInt(lines[0], 10, 64)
		if err == nil && n >= 0 {
			w.length = n
		} else {
			delete(w.kept, "Content-Length")
		}
	}
}

// Write implements [http.ResponseWriter].
func (w *writer) Write(p []byte) (int, error) {
	if w.finished {
		return 0, errAborted
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if w.written += int64(len(p)); w.length >= 0 && w.written > w.length {
		w.written -= int64(len(p))
		return 0, http.ErrContentLength
	}
	if w.head && w.started {
		return len(p), nil
	}
	if len(w.buf)+len(p) <= bufferSize {
		w.buf = append(w.buf, p...)
		return len(p), nil
	}
	rest := p
	if n := len(w.buf); n > 0 {
		w.buf = append(w.buf, p[:bufferSize-n]...)
		rest = p[bufferSize-n:]
		if err := w.push(w.buf, false, len(rest) > bufferSize); err != nil {
			return 0, err
		}
		w.buf = w.buf[:0]
	}
	if len(rest) <= bufferSize {
		w.buf = append(w.buf, rest...)
		return len(p), nil
	}
	if err := w.push(rest, false, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteString implements [io.StringWriter].
func (w *writer) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// ReadFrom implements [io.ReaderFrom] with a buffer of the server's.
func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	b := w.x.c.s.buffers.getOut()
	defer w.x.c.s.buffers.putOut(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, b[:outFull])
}

// Flush implements [http.Flusher].
func (w *writer) Flush() { _ = w.FlushError() } // as its form wants it

// FlushError is Flush for [http.ResponseController].
func (w *writer) FlushError() error {
	if w.finished {
		return errAborted
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	err := w.push(w.buf, false, false)
	w.buf = w.buf[:0]
	return err
}

// EnableFullDuplex implements what [http.ResponseController] asks for: HTTP/2
// is it always.
func (*writer) EnableFullDuplex() error { return nil }

// push queues the header, if that is to be done, and p, and waits until all is
// queued. Unless more follows at once it is also written.
func (w *writer) push(p []byte, end, more bool) error {
	var head []byte
	if !w.started {
		w.started = true
		head = w.encode(p)
	} else if w.head {
		return nil
	}
	if w.head {
		p, end = nil, true
	}
	return w.x.send(head, p, end, !more)
}

// encode makes the header of the answer; p is the begin of its body.
func (w *writer) encode(p []byte) []byte {
	h := w.kept
	b := AppendStatus(make([]byte, 0, 512), w.status)
	if _, set := h["Date"]; !set {
		b = AppendField(b, "date", time.Now().UTC().Format(http.TimeFormat))
	}
	if bodyAllowed(w.status) {
		if _, set := h["Content-Type"]; !set && h.Get("Content-Encoding") == "" && len(p) > 0 {
			b = AppendField(b, "content-type", http.DetectContentType(p))
		}
		if w.length < 0 && w.ending && (w.written > 0 || !w.head) {
			b = AppendNumber(b, "content-length", w.written)
		}
	}
	return appendFields(b, h, w.declared(), AppendField[string])
}

// end sends what is left. It reports false if the answer is not whole.
func (w *writer) end() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.ending = true
	short := w.length >= 0 && w.written < w.length && !w.head && bodyAllowed(w.status)
	if short {
		_ = w.push(w.buf, false, false) // it is reset anyway
		w.finished = true
		return false
	}
	var trailers []byte
	if !w.head {
		trailers = w.trailers()
	}
	err := w.push(w.buf, len(trailers) == 0, len(trailers) > 0)
	w.finished = true
	if err == nil && len(trailers) > 0 {
		err = w.x.send(trailers, nil, true, true)
	}
	return err == nil
}

// declared are the names of the trailers that the header announces.
func (w *writer) declared() map[string]bool {
	var names map[string]bool
	for _, line := range w.kept["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			if names == nil {
				names = make(map[string]bool)
			}
			names[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return names
}

// trailers encodes the fields after the body: those announced, and those whose
// names begin with [http.TrailerPrefix].
func (w *writer) trailers() []byte {
	after := make(http.Header)
	for name := range w.declared() {
		if values := w.header[name]; len(values) > 0 && httpguts.ValidTrailerHeader(name) {
			after[name] = values
		}
	}
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok && httpguts.ValidTrailerHeader(name) {
			after[http.CanonicalHeaderKey(name)] = values
		}
	}
	return appendFields(nil, after, nil, AppendField[string])
}

// appendFields adds the fields but those in without, those of a connection,
// trailers, and what is no field.
func appendFields(b []byte, h http.Header, without map[string]bool, add func(b []byte, name, value string) []byte) []byte {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		switch name {
		case "Connection", "Proxy-Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade":
			continue
		}
		lower := strings.ToLower(name)
		if without[name] || strings.HasPrefix(name, http.TrailerPrefix) || !validName(lower) {
			continue
		}
		for _, value := range h[name] {
			if value = strings.Trim(value, " \t"); httpguts.ValidHeaderFieldValue(value) {
				b = add(b, lower, value)
			}
		}
	}
	return b
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// send queues a header, if head is not nil, and p; end says that the stream ends
// with it. It waits until the client takes it, and there is room; write says
// that it is to be written then.
func (x *exchange) send(head, p []byte, end, write bool) error {
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := x.roomLocked(); err != nil {
		return err
	}
	ended := false
	if head != nil {
		ended = end && len(p) == 0
		c.queueHeaderLocked(x.id, head, ended)
	}
	for len(p) > 0 {
		n, err := x.windowLocked(len(p))
		if err != nil {
			return err
		}
		flags := byte(0)
		if end && n == len(p) {
			flags, ended = flagEndStream, true
		}
		c.queueFrameLocked(frameData, flags, x.id, n)
		c.out = append(c.out, p[:n]...)
		p = p[n:]
		x.window -= int64(n)
		c.window -= int64(n)
		c.sent += int64(n)
		c.framed++
	}
	if end && !ended {
		c.queueFrameLocked(frameData, flagEndStream, x.id, 0)
	}
	if end && x.ended {
		delete(c.streams, x.id) // whoever writes the end next: from then on the client may take it for closed
	}
	if write {
		c.flushLocked(1)
	}
	return x.err
}

// windowLocked waits until some of n bytes may be queued, and returns how many.
func (x *exchange) windowLocked(n int) (int, error) {
	c := x.c
	for {
		if err := x.roomLocked(); err != nil {
			return 0, err
		}
		if x.window > 0 && c.window > 0 {
			return int(min(int64(n), dataFrame, x.window, c.window)), nil
		}
		if len(c.out) > 0 && !c.writing {
			c.flushLocked(1)
			continue
		}
		x.waitLocked()
	}
}

// roomLocked waits until there is room in the queue.
func (x *exchange) roomLocked() error {
	c := x.c
	for x.err == nil && len(c.out) >= outFull {
		if c.writing {
			x.waitLocked()
		} else {
			c.flushLocked(1)
		}
	}
	return x.err
}

func (x *exchange) waitLocked() {
	c := x.c
	if c.stuckFrom.IsZero() {
		c.stuckFrom, c.stuckSent = time.Now(), c.sent
	}
	c.waiting++
	c.room.Wait()
	c.waiting--
}
