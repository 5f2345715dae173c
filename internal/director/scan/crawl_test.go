package scan

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
)

// published is a tree with names and lengths that are hard on listings.
var published = files{
	"InRelease": "release", "pool/a/a_1+b~2.deb": strings.Repeat("a", 5000), "pool/a/empty": "",
	"pool/a/a name & <more> 100%.deb": "odd", "pool/a/ünïcödé?x=1#y.deb": "odd too", "pool/a/semi;colon:and'quote\"s.deb": "x",
	"pool/b/b.iso": strings.Repeat("b", 3<<20+12345), "pool/b/very-long-name-that-listings-cut-because-nobody-has-such-a-name-but-some-do-1.0-1.noarch.rpm": "long",
}

// publish says what the origin of a project has.
func publish(t *testing.T, inv *inventory.Inventory, project string, sizes map[string]int64) {
	t.Helper()
	_, err := inv.Project(project).Replace(inventory.Origin, inventory.Listing{At: time.Now(), Entries: func(yield func(inventory.Entry, error) bool) {
		for path, size := range sizes {
			if !yield(inventory.Entry{Path: path, Size: size}, nil) {
				return
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// What real servers list is what they have, whether they tell sizes or not: of an origin,
// of which nothing is known before, and of a mirror that lacks a file and has another one
// in a different length.
func TestHTTP(t *testing.T) {
	t.Parallel()
	for name, serve := range webServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := published.write(t)
			link(t, folder, "pool/loop", "..")
			s := newScanner(t, Options{Rate: 10000})
			origin := target{key: key{"", "p"}, how: directorapi.HowHTTP, source: serve(t, folder)}
			got, err := once(t, s, origin, new(memo))
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, published.sizes())

			mirrored := maps.Clone(published)
			delete(mirrored, "pool/a/empty")
			mirrored["InRelease"] = "older"
			mirrored["pool/b/b.iso"] = strings.Repeat("b", 2<<20)
			mirror := target{key: key{"m", "p"}, how: directorapi.HowHTTP, source: serve(t, mirrored.write(t))}
			if got, err = once(t, s, mirror, new(memo)); err != nil {
				t.Fatal(err)
			}
			want := mirrored.sizes()
			delete(want, "InRelease")
			delete(want, "pool/b/b.iso")
			same(t, got, want)
		})
	}
}

// A page of its own in the place of a listing: what the origin has there is looked for.
func TestHTTPWithoutListing(t *testing.T) {
	t.Parallel()
	mirrored := files{"index.html": "<title>Welcome</title>", "a": "a", "pool/index.html": "<a href=x>x</a>", "pool/b": "bb", "pool/deep/c": "ccc"}
	folder := mirrored.write(t)
	s := newScanner(t, Options{Rate: 10000})
	publish(t, s.o.Inventory, "p", map[string]int64{"a": 1, "pool/b": 2, "pool/deep/c": 3, "pool/none": 4, "none/d": 5})
	mirror := target{key: key{"m", "p"}, how: directorapi.HowHTTP, source: nginx("")(t, folder)}
	m := new(memo)
	got, err := once(t, s, mirror, m)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, map[string]int64{"a": 1, "pool/b": 2, "pool/deep/c": 3})
	if m.remark == "" {
		t.Error("nothing is said of a folder without a listing")
	}
	mirror.mirror = ""
	if _, err := once(t, s, mirror, m); reasonOf(err) != BadListing {
		t.Errorf("an origin without a listing: %v", err)
	}
}

// fake is a server of what a real one does not do.
func fake(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.URL + "/"
}

func TestHTTPFails(t *testing.T) {
	t.Parallel()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, tt := range map[string]struct {
		source string
		want   Reason
		says   string
	}{
		"moved": {fake(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/p/", http.StatusMovedPermanently)
		}), Moved, "https://elsewhere.example/p/"},
		"not there":  {fake(t, status(http.StatusNotFound)), Refused, "404"},
		"forbidden":  {fake(t, status(http.StatusForbidden)), Refused, "403"},
		"nobody":     {"http://127.0.0.1:1/", Unreachable, "refused"},
		"no web URL": {"rsync://127.0.0.1/m/", Setup, "want http"},
		"cut": {fake(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("<title>Index of /</title><a href=x>x</a>"))
		}), Silent, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScanner(t, Options{Rate: 10000})
			publish(t, s.o.Inventory, "p", map[string]int64{"a": 1})
			_, err := once(t, s, target{key: key{"m", "p"}, how: directorapi.HowHTTP, source: tt.source}, new(memo))
			if reasonOf(err) != tt.want || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("%v (%s), want %s with %q", err, reasonOf(err), tt.want, tt.says)
			}
		})
	}
}

// A folder that is elsewhere, or not for everybody, is not had; one that fails at the
// server ends the scan, and nothing is changed.
func TestHTTPFolderFails(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	source := fake(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			_, _ = w.Write([]byte(`<title>Index of /</title><pre><a href="a/">a/</a>
<a href="moved/">moved/</a>
<a href="private/">private/</a>
</pre>`))
		case "/a/":
			if broken.Load() {
				w.WriteHeader(http.StatusNotImplemented)
				return
			}
			_, _ = w.Write([]byte("<title>Index of /a</title><pre><a href=x>x</a> 02-Jan-2024 03:04 7\n</pre>"))
		case "/moved/":
			http.Redirect(w, r, "/login", http.StatusFound)
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	})
	s := newScanner(t, Options{Rate: 10000})
	publish(t, s.o.Inventory, "p", map[string]int64{"a/x": 7, "moved/y": 1, "private/z": 1})
	m, target := new(memo), target{key: key{"m", "p"}, how: directorapi.HowHTTP, source: source}
	got, err := once(t, s, target, m)
	if err != nil || m.remark == "" {
		t.Fatal(err, m.remark)
	}
	same(t, got, map[string]int64{"a/x": 7})
	broken.Store(true)
	if got, err = once(t, s, target, m); reasonOf(err) != Refused {
		t.Errorf("got %v, want that the server refuses", err)
	}
	same(t, got, map[string]int64{"a/x": 7})
}

// A mirror whose listing rounds is asked for an index when the listing shows that it has
// changed, and not otherwise.
func TestHTTPAsksForChangedIndexes(t *testing.T) {
	t.Parallel()
	folder := files{"dists/x/InRelease": strings.Repeat("r", 20000)}.write(t)
	var heads atomic.Int32
	s := newScanner(t, Options{Rate: 10000, Transport: counting(&heads)})
	s.samples = 0
	publish(t, s.o.Inventory, "p", map[string]int64{"dists/x/InRelease": 20000})
	m, target := new(memo), target{key: key{"m", "p"}, how: directorapi.HowHTTP, source: nginx("autoindex_exact_size off;")(t, folder)}
	scan := func() (asked int, has bool) {
		heads.Store(0)
		got, err := once(t, s, target, m)
		if err != nil {
			t.Fatal(err)
		}
		return int(heads.Load()), got["dists/x/InRelease"] == 20000
	}
	if n, has := scan(); n != 1 || !has {
		t.Errorf("at first: asked %d times, has %v", n, has)
	}
	if n, has := scan(); n != 0 || !has {
		t.Errorf("unchanged: asked %d times, has %v", n, has)
	}
	if err := os.WriteFile(filepath.Join(folder, "dists/x/InRelease"), []byte(strings.Repeat("s", 20001)), 0o644); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(folder, "dists/x/InRelease"), old, old); err != nil {
		t.Fatal(err)
	}
	if n, has := scan(); n != 1 || has {
		t.Errorf("after a change that the time shows: asked %d times, has %v", n, has)
	}
}

// counting counts requests that ask for the head only.
func counting(heads *atomic.Int32) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodHead {
			heads.Add(1)
		}
		return http.DefaultTransport.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
