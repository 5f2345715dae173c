package h1

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

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
