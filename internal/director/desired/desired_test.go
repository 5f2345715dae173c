package desired_test

import (
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/catalogue"
	"freshet/internal/director/desired"
	"freshet/internal/director/orders"
	"freshet/internal/durable"
	"freshet/internal/sqldb/sqldbtest"
)

// world is an API with two mirrors in its catalogue.
type world struct {
	store     *desired.Store
	catalogue *catalogue.Store
	boss      *directorapi.Client
	audit     string
	now       time.Time
}

func newWorld(t *testing.T, dsn string) *world {
	t.Helper()
	w := &world{audit: filepath.Join(t.TempDir(), "audit"), now: time.Now()}
	c, err := catalogue.Open(t.Context(), catalogue.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Update(t.Context(), catalogue.Edit{Actor: "ada", Change: func(c *directorapi.Catalogue) error {
		c.Sites = []directorapi.Site{{Name: "uni", Country: "DE"}}
		c.Mirrors = []directorapi.Mirror{{Name: "box7", Site: "uni"}, {Name: "box8", Site: "uni"}}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	key, err := desired.OpenKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := dir.Root.Stat(desired.KeyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key can be read by others: %v, %v", info, err)
	}
	if again, err := desired.OpenKey(dir); err != nil || !again.Equal(key) {
		t.Errorf("another key at the next start: %v", err)
	}
	w.catalogue = c
	w.store = desired.Open(c.DB(), key, func() time.Time { return w.now })
	token, hash := control.NewToken("fd_")
	desk, err := orders.Open(orders.Config{AuditFile: w.audit, Clients: map[string]orders.ClientConfig{"boss": {Token: hash}}}, c.Current, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	desired.NewAPI(t.Context(), desk, w.store, c, func(settings string) error {
		if strings.Contains(settings, "wrong") {
			return errors.New("line 1: it is wrong")
		}
		return nil
	}).Register(mux.Handle)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.Close()
		if err := errors.Join(desk.Close(), c.Close(), dir.Root.Close()); err != nil {
			t.Error(err)
		}
	})
	w.boss = &directorapi.Client{Base: srv.URL, Token: token}
	return w
}

// box is a client without any right, until it has a token.
func (w *world) box(token string) *directorapi.Client {
	return &directorapi.Client{Base: w.boss.Base, Token: token}
}

func wantRefused(t *testing.T, what string, err error, status int) {
	t.Helper()
	if e, ok := errors.AsType[*directorapi.Error](err); !ok || e.Status != status {
		t.Errorf("%s: got %v, want %d", what, err, status)
	}
}

// Versions are kept and signed, mirrors follow their own, and say what they make of it.
func TestDesired(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		w := newWorld(t, newDSN())
		ctx := t.Context()
		set := func(settings string, version int64) directorapi.Desired {
			t.Helper()
			d, err := w.boss.SetDesired(ctx, "box7", directorapi.DesiredChange{Settings: settings, Note: "because", Version: version})
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		_, err := w.boss.Desired(ctx, "box7", 0)
		wantRefused(t, "nothing is desired", err, http.StatusNotFound)
		if d := set("one", 0); d.Version != 1 || d.By != "boss" {
			t.Errorf("%+v", d)
		}
		if d := set("one", 0); d.Version != 1 {
			t.Errorf("the same is version %d", d.Version)
		}
		_, err = w.boss.SetDesired(ctx, "box7", directorapi.DesiredChange{Settings: "wrong"})
		wantRefused(t, "wrong settings", err, http.StatusUnprocessableEntity)
		_, err = w.boss.SetDesired(ctx, "box9", directorapi.DesiredChange{Settings: "one"})
		wantRefused(t, "a mirror that nobody knows", err, http.StatusNotFound)
		if d := set("two", 20); d.Version != 20 {
			t.Errorf("%+v", d)
		}
		_, err = w.boss.SetDesired(ctx, "box7", directorapi.DesiredChange{Settings: "three", Version: 20})
		wantRefused(t, "a version that is there", err, http.StatusConflict)
		for _, version := range []int64{-1, math.MaxInt64} {
			_, err = w.boss.SetDesired(ctx, "box7", directorapi.DesiredChange{Settings: "three", Version: version})
			wantRefused(t, "a version that no other can follow", err, http.StatusConflict)
		}
		if h, err := w.boss.DesiredHistory(ctx, "box7"); err != nil || len(h.Versions) != 2 || h.Versions[0].Version != 20 || h.Versions[1].Note != "because" {
			t.Errorf("%+v, %v", h, err)
		}
		if d, err := w.boss.Desired(ctx, "box7", 1); err != nil || d.Settings != "one" {
			t.Errorf("%+v, %v", d, err)
		}

		claim, err := w.boss.Claim(ctx, "box7", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		token, hash := control.NewToken("fm_")
		if _, err := w.box("").Redeem(ctx, directorapi.Redemption{Mirror: "box7", Secret: claim.Secret, Token: hash}); err != nil {
			t.Fatal(err)
		}
		box := w.box(token)
		_, err = box.FollowDesired(ctx, "box8", 0, 0)
		wantRefused(t, "another mirror's", err, http.StatusForbidden)
		_, err = box.SetDesired(ctx, "box7", directorapi.DesiredChange{Settings: "mine"})
		wantRefused(t, "a mirror that desires", err, http.StatusForbidden)
		key, err := directorapi.ParseKey(claim.Key)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := box.FollowDesired(ctx, "box7", 1, time.Minute)
		if err != nil || signed == nil {
			t.Fatalf("%v, %v", signed, err)
		}
		if d, err := signed.Open(key, "box7"); err != nil || d.Version != 20 || d.Settings != "two" {
			t.Errorf("%+v, %v", d, err)
		}
		if signed, err := box.FollowDesired(ctx, "box7", 20, time.Millisecond); err != nil || signed != nil {
			t.Errorf("nothing is new: %v, %v", signed, err)
		}
		waited := make(chan *directorapi.SignedDesired)
		go func() {
			signed, err := box.FollowDesired(ctx, "box7", 20, time.Minute)
			if err != nil {
				t.Error(err)
			}
			waited <- signed
		}()
		set("three", 0)
		if signed := <-waited; signed == nil || !strings.Contains(signed.Text, "three") {
			t.Errorf("who waited got %+v", signed)
		}
		if err := box.TellApplied(ctx, "box7", directorapi.Applied{Version: 20, Refused: 21, Why: "no room"}); err != nil {
			t.Fatal(err)
		}
		list, err := w.boss.DesiredList(ctx)
		if err != nil || len(list.Mirrors) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		if m := list.Mirrors[0]; m.Version != 21 || m.Applied.Refused != 21 || m.Applied.Why != "no room" || m.Heard.IsZero() || m.Claim != "redeemed" || list.Key != claim.Key {
			t.Errorf("%+v", m)
		}
	})
}

// A box whose token was taken back does not get it again by the claim that it has shown before.
func TestClaimAfterRevocation(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		w := newWorld(t, newDSN())
		ctx := t.Context()
		claim, err := w.boss.Claim(ctx, "box7", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		token, hash := control.NewToken("fm_")
		show := func() error {
			_, err := w.box("").Redeem(ctx, directorapi.Redemption{Mirror: "box7", Secret: claim.Secret, Token: hash})
			return err
		}
		revoke := func(mirrors ...directorapi.Mirror) {
			t.Helper()
			if _, err := w.catalogue.Update(ctx, catalogue.Edit{Actor: "ada", Change: func(c *directorapi.Catalogue) error {
				c.Mirrors = mirrors
				return nil
			}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := show(); err != nil {
			t.Fatal(err)
		}
		revoke(directorapi.Mirror{Name: "box7", Site: "uni"})
		wantRefused(t, "the claim of a box that was turned away", show(), http.StatusForbidden)
		revoke()
		wantRefused(t, "a mirror that is gone", show(), http.StatusNotFound)
		revoke(directorapi.Mirror{Name: "box7", Site: "uni"})
		wantRefused(t, "one of the same name", show(), http.StatusForbidden)
		_, err = w.box(token).FollowDesired(ctx, "box7", 0, 0)
		wantRefused(t, "the box", err, http.StatusUnauthorized)
		if claim, err = w.boss.Claim(ctx, "box7", time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := show(); err != nil {
			t.Errorf("a new claim: %v", err)
		}
	})
}

// Of many boxes that show a claim at once one is the mirror, and has its token.
func TestClaimRace(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		w := newWorld(t, newDSN())
		claim, err := w.boss.Claim(t.Context(), "box7", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		var boxes sync.WaitGroup
		var taken atomic.Int32
		for range 6 {
			boxes.Go(func() {
				token, hash := control.NewToken("fm_")
				_, err := w.box("").Redeem(t.Context(), directorapi.Redemption{Mirror: "box7", Secret: claim.Secret, Token: hash})
				if err == nil {
					taken.Add(1)
					if _, err := w.box(token).FollowDesired(t.Context(), "box7", 0, 0); err != nil {
						t.Errorf("who was told that it is the mirror is not: %v", err)
					}
					return
				}
				wantRefused(t, "another box", err, http.StatusConflict)
			})
		}
		boxes.Wait()
		if n := taken.Load(); n != 1 {
			t.Errorf("%d boxes are the mirror", n)
		}
	})
}

// A claim is good once, for one box, for its time; the box may show it again.
func TestClaims(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		w := newWorld(t, newDSN())
		ctx := t.Context()
		claim := func(mirror string) directorapi.ClaimAnswer {
			t.Helper()
			a, err := w.boss.Claim(ctx, mirror, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		redeem := func(mirror, secret, hash string) error {
			_, err := w.box("").Redeem(ctx, directorapi.Redemption{Mirror: mirror, Secret: secret, Token: hash})
			return err
		}
		token, mine := control.NewToken("fm_")
		_, other := control.NewToken("fm_")
		first := claim("box7")
		second := claim("box7")
		wantRefused(t, "the claim before", redeem("box7", first.Secret, mine), http.StatusForbidden)
		wantRefused(t, "another mirror's", redeem("box8", second.Secret, mine), http.StatusForbidden)
		wantRefused(t, "no hash", redeem("box7", second.Secret, "x"), http.StatusBadRequest)
		for range 2 {
			if err := redeem("box7", second.Secret, mine); err != nil {
				t.Fatal(err)
			}
			w.now = w.now.Add(2 * time.Hour) // the answer was lost, and the box comes back late
		}
		wantRefused(t, "a second box", redeem("box7", second.Secret, other), http.StatusConflict)
		if _, err := w.box(token).FollowDesired(ctx, "box7", 0, 0); err != nil {
			t.Errorf("the box is not the mirror: %v", err)
		}
		late := claim("box8")
		w.now = w.now.Add(2 * time.Hour)
		wantRefused(t, "a claim whose time is over", redeem("box8", late.Secret, other), http.StatusForbidden)
		text, err := os.ReadFile(w.audit)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), `"redeemed"`) || strings.Contains(string(text), second.Secret) {
			t.Errorf("audit: %s", text)
		}
	})
}
