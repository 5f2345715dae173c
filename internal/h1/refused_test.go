package h1

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What is no request is counted by why it was refused, also when net/http
// refused it; the answers of handlers are not.
func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false, nil)
	var messages, sizes float64
	for _, in := range hostile() {
		for answer := range strings.SplitAfterSeq(exchange(t, w.addr, in), "\r\n\r\n") {
			switch {
			case !strings.Contains(answer, "\r\nConnection: close\r\n\r\n"), strings.Contains(answer, "HTTP/1.1 200 "), strings.Contains(answer, "X-Content-Type-Options"):
			case strings.Contains(answer, "HTTP/1.1 431 "):
				sizes++
			default:
				messages++
			}
		}
	}
	if messages < 20 || sizes < 2 {
		t.Fatalf("%v messages and %v headers were refused", messages, sizes)
	}
	if got := rejected(t, w.metrics, RejectMessage); got != messages {
		t.Errorf("%v messages were counted, %v refused", got, messages)
	}
	if got := rejected(t, w.metrics, RejectHeaderSize); got != sizes {
		t.Errorf("%v headers were counted, %v refused", got, sizes)
	}
}

// A handler's refusal, however alike, has a date.
func TestRefusalOfAHandler(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Date") == "" {
		t.Error("net/http sends answers of handlers without a date: refusals cannot be told from them")
	}
}
