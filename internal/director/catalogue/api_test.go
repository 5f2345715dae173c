package catalogue_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/catalogue"
	"freshet/internal/director/orders"
	"freshet/internal/sqldb/sqldbtest"
)

// world is a catalogue behind its API.
type world struct {
	url    string
	boss   *directorapi.Client // may do everything
	reader *directorapi.Client // may read
	owner  *directorapi.Client // may change mirror uni
	audit  string
}

// serve serves a catalogue.
func serve(t *testing.T, source catalogue.Source) *world {
	t.Helper()
	w := &world{audit: filepath.Join(t.TempDir(), "audit")}
	boss, bossHash := control.NewToken("fd_")
	reader, readerHash := control.NewToken("fd_")
	owner, ownerHash := control.NewToken("fd_")
	cfg := orders.Config{AuditFile: w.audit, Clients: map[string]orders.ClientConfig{
		"boss":   {Token: bossHash},
		"reader": {Token: readerHash, Allow: []string{directorapi.RightRead}},
		"owner":  {Token: ownerHash, Mirrors: []string{"uni"}},
	}}
	if problems := cfg.Validate(); len(problems) > 0 {
		t.Fatal(problems)
	}
	desk, err := orders.Open(cfg, source.Current, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	catalogue.NewAPI(t.Context(), desk, source).Register(mux.Handle)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.Close()
		if err := desk.Close(); err != nil {
			t.Error(err)
		}
	})
	w.url = srv.URL
	w.boss = &directorapi.Client{Base: srv.URL, Token: boss}
	w.reader = &directorapi.Client{Base: srv.URL, Token: reader}
	w.owner = &directorapi.Client{Base: srv.URL, Token: owner}
	return w
}

// wantRefused checks the status and the reason of a refusal.
func wantRefused(t *testing.T, what string, err error, status int, reason string) *directorapi.Error {
	t.Helper()
	e, ok := errors.AsType[*directorapi.Error](err)
	if !ok || e.Status != status || e.Reason != reason {
		t.Errorf("%s: got %v, want %d %s", what, err, status, reason)
		return &directorapi.Error{}
	}
	return e
}

func TestAPI(t *testing.T) {
	s := open(t, sqldbtest.SQLite(t))
	w := serve(t, s)
	ctx := t.Context()
	all := sample()
	var none directorapi.EditOptions

	// Filling it: first as an attempt.
	change, err := w.boss.Replace(ctx, &all, directorapi.EditOptions{DryRun: true})
	if err != nil || !change.DryRun || len(change.Items) != 3 || s.Current().Serial != 0 {
		t.Errorf("dry run: %+v, %v", change, err)
	}
	if change, err = w.boss.Replace(ctx, &all, directorapi.EditOptions{Note: "from our list"}); err != nil || change.Serial != 1 {
		t.Fatalf("%+v, %v", change, err)
	}
	c, err := w.reader.Catalogue(ctx)
	if err != nil || c.ETag() != s.Current().ETag() || c.Mirror("uni") == nil {
		t.Errorf("%+v, %v", c, err)
	}

	// One item.
	mirror := *c.Mirror("uni")
	mirror.Capacity = 500
	if change, err = w.owner.Put(ctx, directorapi.Mirrors, "uni", mirror, directorapi.EditOptions{IfMatch: c.ETag()}); err != nil || change.Items[0].Keys[0] != "capacity" {
		t.Errorf("%+v, %v", change, err)
	}
	_, err = w.boss.Put(ctx, directorapi.Mirrors, "uni", mirror, directorapi.EditOptions{IfMatch: c.ETag()})
	wantRefused(t, "a change of what has changed", err, 412, "conflict")
	_, err = w.boss.Put(ctx, directorapi.Mirrors, "uni", mirror, directorapi.EditOptions{New: true})
	wantRefused(t, "adding what is there", err, 412, "exists")
	_, err = w.boss.Put(ctx, directorapi.Mirrors, "other", mirror, none)
	wantRefused(t, "two names", err, 400, "bad_request")
	_, err = w.boss.Put(ctx, directorapi.Mirrors, "uni", map[string]any{"site": "uni", "capacty": 7}, none)
	wantRefused(t, "a key that is misspelt", err, 400, "bad_request")
	_, err = w.boss.Put(ctx, "servers", "uni", mirror, none)
	wantRefused(t, "a list that is none", err, 404, "not_found")
	_, err = w.boss.Remove(ctx, directorapi.Mirrors, "nobody", none)
	wantRefused(t, "removing what is not there", err, 404, "not_found")
	_, err = w.boss.Remove(ctx, directorapi.Sites, "uni", none)
	if e := wantRefused(t, "a mirror without its site", err, 422, "invalid"); len(e.Problems) != 1 || e.Problems[0].Where != "mirrors.uni.site" {
		t.Errorf("problems: %+v", e.Problems)
	}
	_, err = w.boss.Put(ctx, directorapi.Sites, "uni", all.Sites[0], directorapi.EditOptions{Note: "two\nlines"})
	wantRefused(t, "a note of two lines", err, 400, "bad_request")

	// Who may what.
	_, err = w.reader.Remove(ctx, directorapi.Mirrors, "uni", none)
	wantRefused(t, "a reader removes", err, 403, "forbidden")
	_, err = w.owner.Put(ctx, directorapi.Sites, "uni", all.Sites[0], none)
	wantRefused(t, "an owner changes a site", err, 403, "forbidden")
	_, err = w.owner.Put(ctx, directorapi.Mirrors, "mine", mirror, none)
	wantRefused(t, "an owner adds a mirror", err, 403, "forbidden")
	_, err = w.owner.Catalogue(ctx)
	wantRefused(t, "an owner reads all", err, 403, "forbidden")
	_, err = w.owner.Replace(ctx, &all, none)
	wantRefused(t, "an owner replaces all", err, 403, "forbidden")
	_, err = (&directorapi.Client{Base: w.url}).Catalogue(ctx)
	wantRefused(t, "nobody reads", err, 401, "unauthorized")

	// What was done is known.
	h, err := w.owner.History(ctx, directorapi.HistoryQuery{Items: directorapi.Mirrors, Name: "uni"})
	if err != nil || len(h.Entries) != 2 || h.Entries[0].Actor != "owner" || h.Entries[1].Note != "from our list" {
		t.Errorf("%+v, %v", h, err)
	}
	_, err = w.owner.History(ctx, directorapi.HistoryQuery{})
	wantRefused(t, "an owner reads everybody's history", err, 403, "forbidden")
	text, err := os.ReadFile(w.audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"client":"boss","from":"`, `"action":"replace-catalogue"`, `"result":"forbidden","detail":"director: client \"reader\" may not write`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the audit does not say %s:\n%s", want, text)
		}
	}
}

// The token of a mirror is of no use for the catalogue.
func TestMirrorToken(t *testing.T) {
	s := open(t, sqldbtest.SQLite(t))
	w := serve(t, s)
	token, hash := control.NewToken("fm_")
	edit(t, s, "ada", func(c *directorapi.Catalogue) {
		*c = sample()
		c.Mirrors[0].Token = hash
	})
	_, err := (&directorapi.Client{Base: w.url, Token: token}).Catalogue(t.Context())
	wantRefused(t, "a mirror reads", err, 403, "forbidden")
}

// Whoever has the catalogue is told so, or waits for the next.
func TestCatalogueETag(t *testing.T) {
	s := open(t, sqldbtest.SQLite(t))
	fill(t, s)
	w := serve(t, s)
	get := func(query, etag string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+directorapi.CataloguePath+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.reader.Token)
		req.Header.Set("If-None-Match", etag)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	etag := s.Current().ETag()
	if resp := get("", `"old"`); resp.StatusCode != 200 || resp.Header.Get("ETag") != etag {
		t.Errorf("without it: %s %q", resp.Status, resp.Header.Get("ETag"))
	}
	if resp := get("", etag); resp.StatusCode != 304 {
		t.Errorf("with it: %s", resp.Status)
	}
	if resp := get("?wait=1ms", etag); resp.StatusCode != 304 {
		t.Errorf("waiting for nothing: %s", resp.Status)
	}
	if resp := get("?wait=soon", etag); resp.StatusCode != 400 {
		t.Errorf("a wait that makes no sense: %s", resp.Status)
	}
	answer := make(chan *http.Response)
	go func() { answer <- get("?wait=5m", etag) }()
	edit(t, s, "ada", func(c *directorapi.Catalogue) { c.Mirrors = nil })
	resp := <-answer
	var c directorapi.Catalogue
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil || c.Serial != 2 {
		t.Errorf("waiting for a change: %s, serial %d, %v", resp.Status, c.Serial, err)
	}
}

// A follower has what the other director has, keeps it, and changes nothing itself.
func TestFollow(t *testing.T) {
	s := open(t, sqldbtest.SQLite(t))
	fill(t, s)
	w := serve(t, s)
	keep := filepath.Join(t.TempDir(), "catalogue.json")
	where := catalogue.Where{Setting: w.url, Token: w.reader.Token, Keep: keep}
	f, err := catalogue.OpenSource(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	changed := f.Changed()
	edit(t, s, "ada", func(c *directorapi.Catalogue) { c.Mirrors[0].Comment = "new" })
	<-changed
	if c := f.Current(); c.ETag() != s.Current().ETag() || c.Mirror("uni").Comment != "new" || c.Site("uni").Contact == "" {
		t.Errorf("it has %+v", c)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_, err = serve(t, f).boss.Remove(t.Context(), directorapi.Mirrors, "uni", directorapi.EditOptions{})
	wantRefused(t, "a change", err, 409, "followed")

	// The other one is away at the next start.
	where.Setting = "http://127.0.0.1:1"
	if f, err = catalogue.OpenSource(t.Context(), where); err != nil {
		t.Fatal(err)
	}
	if f.Current().ETag() != s.Current().ETag() {
		t.Errorf("it has %+v", f.Current())
	}
	where.Keep = ""
	if _, err = catalogue.OpenSource(t.Context(), where); err == nil {
		t.Error("there is a catalogue, and none was had")
	}
	// It knows nobody.
	where.Setting, where.Token = w.url, "x"
	if _, err = catalogue.OpenSource(t.Context(), where); err == nil || !strings.Contains(err.Error(), "401 Unauthorized: no known token") {
		t.Errorf("with a wrong token: %v", err)
	}
}

// A file is followed as well; what is wrong with it changes nothing.
func TestFollowFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mirrors.json")
	write := func(text string) {
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	// A file server knows the file's ETag, which says nothing of serials.
	srv := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(file))))
	t.Cleanup(srv.Close)
	for name, from := range map[string]string{"path": file, "url": srv.URL + "/mirrors.json"} {
		t.Run(name, func(t *testing.T) {
			write(`{"sites": [{"name": "b", "country": "DE"}, {"name": "a", "country": "FR"}]}`)
			f, err := catalogue.Follow(t.Context(), catalogue.FollowConfig{From: from, Every: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if c := f.Current(); len(c.Sites) != 2 || c.Sites[0].Name != "a" {
				t.Errorf("it has %+v", c)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- f.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}()
			changed := f.Changed()
			write(`{"sites": [{"name": "b", "country": "DE"}], "mirrors": [{"name": "m", "site": "nowhere"}]}`)
			for f.Status().Err == nil { // until it has looked
				runtime.Gosched()
			}
			if e, ok := errors.AsType[*catalogue.InvalidError](f.Status().Err); !ok || len(f.Current().Sites) != 2 {
				t.Errorf("%v; it has %+v", e, f.Current())
			}
			write(`{"sites": [{"name": "c", "country": "DE"}]}`)
			<-changed
			if c := f.Current(); c.Sites[0].Name != "c" {
				t.Errorf("it has %+v", c)
			}
		})
	}
}
