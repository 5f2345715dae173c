package session_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"freshet/internal/page/session"
)

// memory is a store of sessions that never end.
type memory map[string]string

func (m memory) SaveSession(_ context.Context, id, content string, _ time.Time) error {
	m[id] = content
	return nil
}

func (m memory) LoadSession(_ context.Context, id string) (content string, expires time.Time, found bool, err error) {
	content, found = m[id]
	return content, time.Now().Add(time.Hour), found, nil
}

func (m memory) EndSession(_ context.Context, id string) error {
	delete(m, id)
	return nil
}

// begin signs in over plain HTTP or TLS, and returns the cookie and a request that
// has it.
func begin(t *testing.T, s *session.Sessions, secure bool, cookies ...*http.Cookie) (*http.Cookie, *http.Request) {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/x/signin", nil)
	if secure {
		r.TLS = &tls.ConnectionState{}
	}
	for _, cookie := range cookies {
		r.AddCookie(cookie)
	}
	if err := s.Begin(w, r, "who", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	cookie := w.Result().Cookies()[0]
	next := httptest.NewRequest(http.MethodGet, "/x/", nil)
	next.AddCookie(cookie)
	return cookie, next
}

// A cookie opens its session until that is ended or the key is another one. What is
// stored opens nothing.
func TestSession(t *testing.T) {
	store := memory{}
	s := &session.Sessions{Store: store, Key: []byte("key"), Name: "n", Path: "/x"}
	cookie, r := begin(t, s, false)
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Secure || cookie.Path != "/x" || len(cookie.Value) < 50 {
		t.Errorf("%+v", cookie)
	}
	found, err := s.Find(r)
	if err != nil || found.Content != "who" {
		t.Fatalf("%+v %v", found, err)
	}
	if found.Check(found.CSRF) != nil || !errors.Is(found.Check(""), session.ErrForged) || !errors.Is(found.Check(cookie.Value), session.ErrForged) {
		t.Error("what forms carry is not checked")
	}
	for id := range store {
		if strings.Contains(id, cookie.Value) {
			t.Error("the store has the cookie")
		}
		stolen := httptest.NewRequest(http.MethodGet, "/x/", nil)
		stolen.AddCookie(&http.Cookie{Name: "n", Value: id})
		if _, err := s.Find(stolen); !errors.Is(err, session.ErrNone) {
			t.Errorf("what is stored opens the session: %v", err)
		}
	}
	other := *s
	other.Key = []byte("another")
	if _, err := other.Find(r); !errors.Is(err, session.ErrNone) {
		t.Errorf("with another key: %v", err)
	}
	if err := s.Change(t.Context(), found, "more"); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Find(r); err != nil || found.Content != "more" {
		t.Errorf("%+v %v", found, err)
	}
	if err := s.End(httptest.NewRecorder(), r, found); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(r); !errors.Is(err, session.ErrNone) {
		t.Errorf("ended: %v", err)
	}
}

// Signing in again ends what was; by TLS the cookie is kept from plain HTTP.
func TestBeginAgain(t *testing.T) {
	s := &session.Sessions{Store: memory{}, Key: []byte("key"), Name: "n", Path: "/x"}
	first, r := begin(t, s, true)
	if !first.Secure {
		t.Errorf("%+v", first)
	}
	begin(t, s, true, first)
	if _, err := s.Find(r); !errors.Is(err, session.ErrNone) {
		t.Errorf("the first session goes on: %v", err)
	}
	s.Secure = true
	if cookie, _ := begin(t, s, false); !cookie.Secure {
		t.Errorf("behind a proxy with TLS: %+v", cookie)
	}
}
