package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
)

// A piece of a body is sent as it is, also when it begins like what net/http
// says to what it refuses.
func TestBodyLikeARefusal(t *testing.T) {
	t.Parallel()
	const piece = 128 << 10
	body := bytes.Repeat([]byte("x"), 2*piece)
	copy(body[piece:], "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request")
	w := newWorldOf(t, false, nil, func(s *Server) {
		s.HTTP.Handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header()["Content-Length"] = []string{"262144"}
			_, _ = rw.Write(body[:piece])
			_, _ = rw.Write(body[piece:])
		})
	})
	c := w.dial()
	br := bufio.NewReader(c)
	for range 2 { // the second one is asked on a connection that was answered
		w.send(c, "GET /p HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d bytes, %v; the second piece begins %.80q", len(got), err, got[min(len(got), piece):])
		}
	}
	if n := rejected(t, w.metrics, RejectMessage); n != 0 {
		t.Errorf("%v messages were counted as refused", n)
	}
}
