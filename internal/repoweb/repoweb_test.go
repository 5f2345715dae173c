package repoweb

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestFS(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusForbidden)
		case r.RequestURI == "/repo/deltas/a%2Bb/0":
			_, _ = io.WriteString(w, "content")
		case r.RequestURI == "/repo/broken":
			w.WriteHeader(http.StatusBadGateway)
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	repo, err := New(t.Context(), srv.URL+"/repo/", "secret")
	if err != nil {
		t.Fatal(err)
	}
	data, err := fs.ReadFile(repo, "deltas/a+b/0")
	if err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
	stat, err := fs.Stat(repo, "deltas/a+b/0")
	if err != nil || stat.Size() != 7 || stat.Name() != "0" || stat.IsDir() {
		t.Errorf("%v, %v", stat, err)
	}
	if _, err := repo.Open("absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := repo.Open("broken"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("broken: %v", err)
	}
	if _, err := repo.Open("../secret"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("outside: %v", err)
	}
	stranger, err := New(t.Context(), srv.URL+"/repo", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Open("deltas/a+b/0"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("without a token: %v", err)
	}
	for _, base := range []string{"", "repo", "ftp://example.org/repo", "https://"} {
		if _, err := New(t.Context(), base, ""); err == nil {
			t.Errorf("%q is taken for a URL", base)
		}
	}
}
