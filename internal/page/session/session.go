// Package session keeps who is signed in to a role's pages. The browser has a
// random cookie; the store has a keyed hash of it, so that neither who reads nor
// who writes the store can sign in, and all sessions end when the key changes.
package session

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"time"
)

// ErrNone says that a request belongs to no session, or to one that is over.
var ErrNone = errors.New("not signed in")

// ErrForged says that a form does not come from a page of the session.
var ErrForged = errors.New("the form was not made for you")

// Store keeps sessions on stable storage. It is safe for concurrent use.
type Store interface {
	// SaveSession keeps content under an id until expires; saved again under the
	// same id, the content is replaced.
	SaveSession(ctx context.Context, id, content string, expires time.Time) error
	// LoadSession returns it; found is false when there is none or it is over.
	LoadSession(ctx context.Context, id string) (content string, expires time.Time, found bool, err error)
	// EndSession forgets it.
	EndSession(ctx context.Context, id string) error
}

// Sessions begins, finds and ends the sessions of one site.
type Sessions struct {
	Store Store
	// Key is secret, and stays the same over restarts.
	Key []byte
	// Name is that of the cookie, Path the one below which it is sent.
	Name, Path string
	// Secure keeps the cookie from connections without TLS, also where TLS ends
	// before the request gets here. It is kept from them in any case when the
	// request came by TLS.
	Secure bool
}

// Session is who a request comes from.
type Session struct {
	// Content is what was saved, Expires when the session ends.
	Content string
	Expires time.Time
	// CSRF is what forms of the session carry, see [Session.Check].
	CSRF string

	id string
}

// Begin signs in: it makes a session with the content and gives the browser its
// cookie. A session that the request had ends.
func (s *Sessions) Begin(w http.ResponseWriter, r *http.Request, content string, expires time.Time) error {
	if cookie, err := r.Cookie(s.Name); err == nil {
		if err := s.Store.EndSession(r.Context(), s.hash("id", cookie.Value)); err != nil {
			return err
		}
	}
	secret := rand.Text() + rand.Text() // 2 × 128 bits
	if err := s.Store.SaveSession(r.Context(), s.hash("id", secret), content, expires); err != nil {
		return err
	}
	s.set(w, r, secret, expires)
	return nil
}

// Find returns the session of a request; [ErrNone] when there is none.
func (s *Sessions) Find(r *http.Request) (Session, error) {
	cookie, err := r.Cookie(s.Name)
	if err != nil {
		return Session{}, ErrNone
	}
	found := Session{id: s.hash("id", cookie.Value), CSRF: s.hash("csrf", cookie.Value)}
	var ok bool
	if found.Content, found.Expires, ok, err = s.Store.LoadSession(r.Context(), found.id); err != nil {
		return Session{}, err
	}
	if !ok {
		return Session{}, ErrNone
	}
	return found, nil
}

// Change replaces the content of a session.
func (s *Sessions) Change(ctx context.Context, session Session, content string) error {
	return s.Store.SaveSession(ctx, session.id, content, session.Expires)
}

// End signs out: the session is over for every copy of its cookie.
func (s *Sessions) End(w http.ResponseWriter, r *http.Request, session Session) error {
	if err := s.Store.EndSession(r.Context(), session.id); err != nil {
		return err
	}
	s.set(w, r, "", time.Unix(1, 0))
	return nil
}

// Check returns [ErrForged] unless the text that came with a form is the CSRF of
// the session.
func (s Session) Check(csrf string) error {
	if subtle.ConstantTimeCompare([]byte(csrf), []byte(s.CSRF)) != 1 {
		return ErrForged
	}
	return nil
}

// set gives the browser the cookie (RFC 6265bis).
func (s *Sessions) set(w http.ResponseWriter, r *http.Request, value string, expires time.Time) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where there is TLS
		Name: s.Name, Value: value, Path: s.Path, Expires: expires,
		HttpOnly: true, Secure: s.Secure || r.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
}

// hash is a keyed hash of the cookie for a purpose.
func (s *Sessions) hash(purpose, secret string) string {
	mac := hmac.New(sha256.New, s.Key)
	mac.Write([]byte("freshet session " + purpose + "\x00" + secret))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
