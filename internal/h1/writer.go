package h1

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"freshet/internal/cancel"
)

const (
	// bodyHold is how much of a body is held back, so that short ones go out
	// whole and with their length; as much as net/http holds.
	bodyHold = 2 << 10
	// outHold is how much is collected before it is sent.
	outHold = 4 << 10
	// sniffed is how much of a body tells its type.
	sniffed = 512
)

// room is what a writer writes into.
type room struct {
	body [bodyHold]byte
	out  [outHold]byte
}

// writer is the ResponseWriter of an exchange. What it sends is what net/http
// would, but for the sizes of chunks. It belongs to the handler.
type writer struct {
	c      *conn
	ctx    cancel.Context // of the request
	header http.Header
	head   bool // answers a HEAD request
	room   *room

	status   int   // 0: not known yet
	length   int64 // of the body as announced, -1 if it is not
	written  int64 // by the handler
	has      hints
	trailers []string // announced names

	buf     []byte // of the body, not framed yet
	out     []byte // to be sent: the head without its end, from WriteHeader on
	begun   bool   // the head has its end
	chunked bool
	bare    bool // the body ends with the connection
	closing bool // the connection ends with this answer
	ending  bool // the handler has written all
	over    bool // nothing may be written any more
	err     error
}

// hints are the fields of an answer that change what is added to it.
type hints struct{ date, kind, length, coded, transfer, connection, sayClose, trailer bool }

// omitted are the fields that a handler set and that are not sent as they are.
type omitted struct{ length, kind, transfer, connection bool }

func (o omitted) has(name string) bool {
	switch name {
	case "Content-Length":
		return o.length
	case "Content-Type":
		return o.kind
	case "Transfer-Encoding":
		return o.transfer
	case "Connection":
		return o.connection
	}
	return false
}

var errOver = errors.New("the answer is over")

// Header implements [http.ResponseWriter].
func (w *writer) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// SetHeader makes h, which becomes the writer's, the header: with what is in the
// header already and not in h. It spares copying a long one.
func (w *writer) SetHeader(h http.Header) {
	for name, values := range w.header {
		if _, known := h[name]; !known {
			h[name] = values
		}
	}
	w.header = h
}

// WriteHeader implements [http.ResponseWriter]. Those of 1xx are sent at once.
func (w *writer) WriteHeader(status int) {
	if w.status != 0 || w.over {
		return
	}
	if status < 100 || status > 999 {
		panic("h1: invalid status " + strconv.Itoa(status)) // as net/http does
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		w.out = appendStatus(w.out, status)
		w.out = appendFields(w.out, w.header, omitted{length: true, transfer: true})
		w.out = append(w.out, "\r\n"...)
		_ = w.emit(nil) // the client may be gone: writing the answer will tell
		return
	}
	w.status = status
	without := w.judge()
	w.out = appendStatus(w.out, status)
	w.out = appendFields(w.out, w.header, without)
}

// judge looks at the fields of the answer: how long it is, how it is framed, and
// what becomes of the connection. It returns which fields are not sent.
func (w *writer) judge() (without omitted) {
	h := w.header
	if lines := h["Content-Length"]; len(lines) > 0 {
		w.has.length = true
		if n, err := strconv.ParseInt(lines[0], 10, 64); err == nil && n >= 0 {
			w.length = n
		}
	}
	_, w.has.date = h["Date"]
	_, w.has.kind = h["Content-Type"]
	w.has.coded = first(h["Content-Encoding"]) != ""
	transfer := first(h["Transfer-Encoding"])
	w.has.transfer = transfer != ""
	for _, line := range h["Trailer"] {
		w.has.trailer = true
		for name := range strings.SplitSeq(line, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name != "" && httpguts.ValidTrailerHeader(name) {
				w.trailers = append(w.trailers, name)
			}
		}
	}
	for name := range h {
		w.has.trailer = w.has.trailer || isTrailer(name)
	}
	switch {
	case !bodyAllowed(w.status):
		without.length, without.transfer, without.kind = true, true, w.status == http.StatusNotModified
	case w.head:
		without.transfer = true
		without.length = w.length >= 0 && w.has.transfer && transfer != "identity"
	case w.length >= 0 && (!w.has.transfer || transfer == "identity"):
		without.transfer = true
	case transfer == "identity": // as long as the connection
		w.bare, w.closing = true, true
		without.length, without.transfer = true, true
	default: // chunked, if it turns out to be long
		without.length, without.transfer = true, transfer == "chunked"
		w.length = -1
	}
	without.connection = w.judgeConnection()
	return without
}

// judgeConnection sees whether the connection ends with the answer, and reports
// whether what the handler says about it is replaced.
func (w *writer) judgeConnection() bool {
	said := first(w.header["Connection"])
	draining := w.c.s.draining.Load()
	w.closing = w.closing || said == "close" || draining
	w.has.connection = said != ""
	w.has.sayClose = w.closing && (draining || !httpguts.HeaderValuesContainsToken([]string{said}, "close"))
	return w.has.sayClose
}

func first(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return lines[0]
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// endHead completes the head with what the handler did not say; p is the begin
// of the body.
func (w *writer) endHead(p []byte) {
	w.begun = true
	allowed := bodyAllowed(w.status)
	ownLength := w.ending && allowed && !w.has.trailer && !w.has.transfer && !w.has.length && (!w.head || len(p) > 0)
	if ownLength {
		w.length = int64(len(p))
	}
	w.chunked = allowed && !w.head && !w.bare && w.length < 0
	b := w.out
	if !w.has.date {
		b = append(b, "Date: "...)
		b = time.Now().UTC().AppendFormat(b, http.TimeFormat)
		b = append(b, "\r\n"...)
	}
	if ownLength {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, w.length, 10)
		b = append(b, "\r\n"...)
	}
	if allowed && !w.has.coded && !w.has.kind && !w.has.transfer && len(p) > 0 {
		b = append(append(append(b, "Content-Type: "...), http.DetectContentType(p)...), "\r\n"...)
	}
	if !w.closing && w.c.s.draining.Load() { // since the status was set
		w.closing, w.has.sayClose = true, !w.has.connection
	}
	if w.has.sayClose {
		b = append(b, "Connection: close\r\n"...)
	}
	if w.chunked {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	w.out = append(b, "\r\n"...)
}

// Write implements [http.ResponseWriter].
func (w *writer) Write(p []byte) (int, error) {
	switch {
	case w.over:
		return 0, errOver
	case w.err != nil:
		return 0, w.err
	case w.status == 0:
		w.WriteHeader(http.StatusOK)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if w.written += int64(len(p)); w.length >= 0 && w.written > w.length {
		return 0, http.ErrContentLength
	}
	rest := p
	for len(rest) > bodyHold-len(w.buf) {
		part := rest
		if n := len(w.buf); n > 0 {
			w.buf = append(w.buf, rest[:bodyHold-n]...)
			part, rest = w.buf, rest[bodyHold-n:]
		} else {
			rest = nil
		}
		w.buf = w.buf[:0]
		if err := w.push(part); err != nil {
			return 0, err
		}
	}
	w.buf = append(w.buf, rest...)
	return len(p), nil
}

// WriteString implements [io.StringWriter].
func (w *writer) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// Flush implements [http.Flusher].
func (w *writer) Flush() { _ = w.FlushError() } // as its form wants it

// FlushError is Flush for [http.ResponseController].
func (w *writer) FlushError() error {
	if w.over {
		return errOver
	}
	if err := w.unhold(); err != nil {
		return err
	}
	return w.emit(nil)
}

// unhold frames what of the body is held back, and the head before it.
func (w *writer) unhold() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if len(w.buf) > 0 {
		p := w.buf
		w.buf = w.buf[:0]
		if err := w.push(p); err != nil {
			return err
		}
	}
	if !w.begun {
		w.endHead(nil)
	}
	return w.err
}

// ReadFrom implements [io.ReaderFrom]: a file goes out by sendfile.
func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	if w.over {
		return 0, errOver
	}
	var sent int64
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.begun && !w.has.kind && !w.has.coded && bodyAllowed(w.status) {
		n, err := w.copy(io.LimitReader(r, sniffed))
		if sent += n; err != nil || n < sniffed {
			return sent, err
		}
	}
	if n, done, err := w.sendFile(r); done {
		return sent + n, err
	}
	n, err := w.copy(r)
	return sent + n, err
}

// copy writes what r has, with a buffer of the server's.
func (w *writer) copy(r io.Reader) (int64, error) {
	b := w.c.s.buffers.getOut()
	defer w.c.s.buffers.out.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, b[:sendfileFrom])
}

// sendFile sends r if that is a large part of a file. Otherwise it reports
// false, and nothing is done.
func (w *writer) sendFile(r io.Reader) (sent int64, done bool, err error) {
	if w.c.sock == nil || w.head || w.length < 0 {
		return 0, false, nil
	}
	part, ok := filePartOf(r)
	if !ok || w.written+part.limited.N > w.length {
		return 0, false, nil
	}
	if err := w.unhold(); err != nil {
		return 0, true, err
	}
	w.c.w.pace.resume()
	if len(w.out) > 0 {
		_, err = w.c.w.out.writeAll(w.out, nil, true)
		w.out = w.out[:0]
	}
	if err == nil {
		sent, err = part.send(&w.c.w.out)
	}
	w.c.w.pace.pause()
	w.written += sent
	if err != nil {
		w.fail(err)
	}
	return sent, true, err
}

// push frames a part of the body.
func (w *writer) push(p []byte) error {
	if w.err != nil {
		return w.err
	}
	if !w.begun {
		w.endHead(p)
	}
	if w.head {
		return nil
	}
	if w.chunked {
		w.out = strconv.AppendInt(w.out, int64(len(p)), 16)
		w.out = append(w.out, "\r\n"...)
	}
	if len(w.out)+len(p) <= outHold {
		w.out = append(w.out, p...)
	} else if err := w.emit(p); err != nil {
		return err
	}
	if w.chunked {
		w.out = append(w.out, "\r\n"...)
	}
	return nil
}

// emit sends what was collected, and p behind it.
func (w *writer) emit(p []byte) error {
	if w.err != nil {
		return w.err
	}
	if len(w.out) == 0 && len(p) == 0 {
		return nil
	}
	w.c.w.pace.resume()
	_, err := w.c.sendMemory(w.out, p)
	w.c.w.pace.pause()
	w.out = w.out[:0]
	if err != nil {
		w.fail(err)
	}
	return err
}

// fail notes that nothing can be sent any more.
func (w *writer) fail(err error) {
	w.err = err
	w.ctx.Cancel(nil)
}

// end sends what is left. It reports false if the answer is not whole.
func (w *writer) end() bool {
	w.ending = true
	if w.unhold() != nil {
		return false
	}
	if w.chunked {
		w.out = append(w.out, "0\r\n"...)
		w.out = appendFields(w.out, w.after(), omitted{})
		w.out = append(w.out, "\r\n"...)
	}
	if w.emit(nil) != nil {
		return false
	}
	return w.head || w.length < 0 || w.length == w.written || !bodyAllowed(w.status)
}

// after are the fields behind the body: those announced, and those whose names
// begin with [http.TrailerPrefix].
func (w *writer) after() http.Header {
	if !w.has.trailer && !slices.ContainsFunc(slices.Collect(maps.Keys(w.header)), isTrailer) {
		return nil
	}
	after := make(http.Header)
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			after[name] = values
		}
	}
	for _, name := range w.trailers {
		after[name] = append(after[name], w.header[name]...)
	}
	return after
}

func isTrailer(name string) bool { return strings.HasPrefix(name, http.TrailerPrefix) }

// appendStatus adds a status line (RFC 9112 §4).
func appendStatus(b []byte, status int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	if text := http.StatusText(status); text != "" {
		return append(append(append(b, ' '), text...), "\r\n"...)
	}
	b = append(b, " status code "...)
	b = strconv.AppendInt(b, int64(status), 10)
	return append(b, "\r\n"...)
}

// appendFields adds the fields of h by their names, but those omitted, and those
// whose names are none: [http.TrailerPrefix] makes such names.
func appendFields(b []byte, h http.Header, without omitted) []byte {
	var stack [24]string
	names := stack[:0]
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if without.has(name) || !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, value := range h[name] {
			if strings.ContainsAny(value, "\r\n") {
				value = strings.NewReplacer("\r", " ", "\n", " ").Replace(value)
			}
			b = append(append(b, name...), ": "...)
			b = append(append(b, strings.Trim(value, " \t\r\n")...), "\r\n"...)
		}
	}
	return b
}
