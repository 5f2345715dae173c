package desired_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/durable"
	"freshet/internal/mirror/desired"
)

// side is a control side that answers as a test says.
type side struct {
	mu      sync.Mutex
	status  int
	body    string
	applied directorapi.Applied
}

func (s *side) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost {
		_ = json.NewDecoder(r.Body).Decode(&s.applied)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.WriteHeader(s.status)
	_, _ = io.WriteString(w, s.body)
}

func (s *side) says(status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body = status, body
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for ticker := time.NewTicker(10 * time.Millisecond); !ok(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// Whatever the control side sends, nothing is taken that the key has not signed for this
// mirror, or that is older; and the last good one is kept.
func TestHostile(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(key ed25519.PrivateKey, d directorapi.Desired) string {
		t.Helper()
		s, err := d.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	good := signed(private, directorapi.Desired{Mirror: "box7", Version: 5, Settings: "five"})
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Root.Close() })
	from := &side{status: http.StatusOK, body: good}
	srv := httptest.NewServer(from)
	t.Cleanup(srv.Close)
	var mu sync.Mutex
	var taken []string
	options := func() desired.Options {
		have, err := desired.Load(dir, public, "box7")
		if err != nil {
			t.Fatal(err)
		}
		return desired.Options{
			API: &directorapi.Client{Base: srv.URL}, Mirror: "box7", Key: public, Dir: dir, Have: have,
			Take: func(_ context.Context, settings string) error {
				if settings == "too large" {
					return errors.New("it does not fit")
				}
				mu.Lock()
				defer mu.Unlock()
				taken = append(taken, settings)
				return nil
			},
		}
	}
	begin := func() (f *desired.Follower, stop func()) {
		f = desired.New(options())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); f.Run(ctx) }()
		return f, func() { cancel(); <-ended }
	}
	f, stop := begin()
	until(t, "the first is taken", func() bool { return f.State().Version == 5 })
	until(t, "it is told", func() bool {
		from.mu.Lock()
		defer from.mu.Unlock()
		return from.applied.Version == 5
	})
	stop()

	for _, bad := range []struct {
		what   string
		status int
		body   string
	}{
		{"another key", 200, signed(stranger, directorapi.Desired{Mirror: "box7", Version: 9, Settings: "evil"})},
		{"another mirror", 200, signed(private, directorapi.Desired{Mirror: "box8", Version: 9, Settings: "evil"})},
		{"an older one", 200, signed(private, directorapi.Desired{Mirror: "box7", Version: 4, Settings: "four"})},
		{"the same number", 200, signed(private, directorapi.Desired{Mirror: "box7", Version: 5, Settings: "other"})},
		{"half of it", 200, good[:len(good)/2]},
		{"10 MB", 200, `{"text":"` + strings.Repeat("a", 10<<20)},
		{"no JSON", 200, "<html>"},
		{"an error", 500, ""},
		{"a token that is revoked", 401, `{"reason":"unauthorized","message":"who are you?"}`},
	} {
		from.says(bad.status, bad.body)
		f, stop := begin()
		until(t, bad.what+" is an error", func() bool { return f.State().Err != nil })
		if st := f.State(); st.Version != 5 || desired.IsRevoked(st.Err) != (bad.status == 401) {
			t.Errorf("%s: %+v", bad.what, st)
		}
		stop()
	}
	if have := options().Have; have.Settings != "five" {
		t.Errorf("kept: %+v", have)
	}

	// What the mirror cannot take leaves the one before, and is told; the next is taken.
	from.says(200, signed(private, directorapi.Desired{Mirror: "box7", Version: 6, Settings: "too large"}))
	f, stop = begin()
	defer stop()
	until(t, "it is told why", func() bool {
		from.mu.Lock()
		defer from.mu.Unlock()
		return from.applied == directorapi.Applied{Version: 5, Refused: 6, Why: "it does not fit"}
	})
	if have := options().Have; have.Settings != "five" {
		t.Errorf("kept: %+v", have)
	}
	from.says(200, signed(private, directorapi.Desired{Mirror: "box7", Version: 7, Settings: "seven"}))
	until(t, "the next is taken", func() bool { st := f.State(); return st.Version == 7 && st.Refused == 0 })
	until(t, "the next is kept", func() bool { return options().Have.Settings == "seven" })
	mu.Lock()
	defer mu.Unlock()
	if strings.Join(taken, " ") != "five seven" {
		t.Errorf("taken: %q", taken)
	}
}

// A file that is damaged is none, and says so.
func TestLoadDamaged(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Root.Close() })
	if d, err := desired.Load(dir, public, "box7"); err != nil || d.Version != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	signed, err := directorapi.Desired{Mirror: "box7", Version: 1, Settings: "x"}.Sign(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := desired.Keep(dir, signed); err != nil {
		t.Fatal(err)
	}
	text, err := dir.Root.ReadFile(desired.File)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(text) - 1 { // the last byte is a line feed
		if err := dir.Root.WriteFile(desired.File, text[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := desired.Load(dir, public, "box7"); err == nil {
			t.Fatalf("%d of %d bytes are taken for %+v", n, len(text), d)
		}
	}
}
