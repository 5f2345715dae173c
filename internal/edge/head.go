package edge

import (
	"net/http"
	"strconv"

	"freshet/internal/h1"
	"freshet/internal/h2"
)

// head writes the head of a hit, as the protocol of the request has it.
type head struct {
	b  []byte
	h2 bool
}

func newHead(req *h1.Request, res *h1.Response) head { return head{res.Head, req.H2} }

// of begins the head of an answer with what is known of h; length is negative
// for none.
func (w *head) of(h *hot, status int, length int64) {
	fields := &h.h1
	if w.h2 {
		fields = &h.h2
		w.b = h2.AppendStatus(w.b, status)
	} else {
		switch status {
		case http.StatusNotModified:
			w.b = append(w.b, "HTTP/1.1 304 Not Modified\r\n"...)
		case http.StatusPartialContent:
			w.b = append(w.b, "HTTP/1.1 206 Partial Content\r\n"...)
		default:
			w.b = append(w.b, "HTTP/1.1 200 OK\r\n"...)
		}
	}
	w.b = append(w.b, fields.common...)
	if status == http.StatusNotModified {
		return
	}
	w.b = append(w.b, fields.repr...)
	w.number("Content-Length", "content-length", length)
}

// sniffed adds the type that the body shows.
func (w *head) sniffed(h *hot) {
	if w.h2 {
		w.b = append(w.b, h.h2.sniffed...)
	} else {
		w.b = append(w.b, h.h1.sniffed...)
	}
}

// number adds a field with a number; lower is its name in lower case.
func (w *head) number(name, lower string, n int64) {
	if w.h2 {
		w.b = h2.AppendNumber(w.b, lower, n)
		return
	}
	w.b = append(append(w.b, name...), ": "...)
	w.b = append(strconv.AppendInt(w.b, n, 10), "\r\n"...)
}

// field adds a field; lower is its name in lower case.
func (w *head) field(name, lower string, value []byte) {
	if w.h2 {
		w.b = h2.AppendField(w.b, lower, value)
		return
	}
	w.b = append(append(w.b, name...), ": "...)
	w.b = append(append(w.b, value...), "\r\n"...)
}
