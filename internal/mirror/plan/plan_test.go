package plan_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/plan"
	"freshet/internal/peertest"
	"freshet/internal/rsync"
	"freshet/internal/rsync/rsynctest"
)

// images makes a tree of so many images, with a list of their checksums, which tells no size,
// in a folder of its own; each has 1000 bytes.
func images(t *testing.T, n int) (top string, bytes int64) {
	t.Helper()
	top = t.TempDir()
	var list strings.Builder
	for i := range n {
		name, content := fmt.Sprintf("image-%03d.iso", i), fmt.Appendf(nil, "%01000d", i)
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(content), name)
		put(t, filepath.Join(top, "9", name), content)
	}
	put(t, filepath.Join(top, "9", "SHA256SUMS"), []byte(list.String()))
	return top, int64(n)*1000 + int64(list.Len())
}

func put(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, content, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
}

// planOf makes a plan of the images at these upstreams.
func planOf(t *testing.T, upstreams ...string) (mirrorapi.Plan, error) {
	t.Helper()
	program, err := rsync.Find(t.Context(), rsync.Options{AnyVersion: true})
	if err != nil {
		t.Fatal(err)
	}
	k, err := kind.New(kind.Config{Format: kind.Images, Repositories: []string{"9/SHA256SUMS"}})
	if err != nil {
		t.Fatal(err)
	}
	up := new(engine.Upstream)
	for _, u := range upstreams {
		s, err := fetch.Open(u, fetch.Options{Rsync: program})
		if err != nil {
			t.Fatal(err)
		}
		up.Sources = append(up.Sources, s)
	}
	return plan.Make(t.Context(), plan.Options{Kind: k, Upstream: up, Folder: filepath.Join(t.TempDir(), "plan")})
}

// web serves a folder without listings, and without what may says no to.
func web(t *testing.T, top string, may func(*http.Request) bool) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") || !may(r) {
			http.Error(w, "not for you", http.StatusForbidden)
			return
		}
		http.FileServerFS(os.DirFS(top)).ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/"
}

func all(*http.Request) bool { return true }

// Sizes that no index tells are those of a listing, or of each file if there are few of them.
func TestSizes(t *testing.T) {
	peertest.Require(t, "rsync")
	for _, c := range []struct {
		name string
		n    int
		up   func(top string) string
	}{
		{"listed by rsync", 300, func(top string) string { return rsynctest.Serve(t, top) }},
		{"asked for by HTTP", 100, func(top string) string { return web(t, top, all) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			top, bytes := images(t, c.n)
			p, err := planOf(t, c.up(top))
			if err != nil || p.Files != int64(c.n)+1 || p.Bytes != bytes || p.Fetch.Bytes != bytes || p.Unsized != 0 || p.Guess != 0 {
				t.Errorf("%+v, %v; want %d bytes", p, err, bytes)
			}
			if len(p.Repositories) != 1 || p.Repositories[0].Bytes != bytes || p.Repositories[0].Unsized != 0 {
				t.Errorf("%+v", p.Repositories)
			}
		})
	}
}

// Of many files a sample is asked for, and what is not known is said.
func TestSample(t *testing.T) {
	peertest.Require(t, "rsync")
	const n, sampled = 400, 256
	top, bytes := images(t, n)
	p, err := planOf(t, web(t, top, all))
	if err != nil || p.Sampled != sampled || p.Unsized != n-sampled || p.Guess != (n-sampled)*1000 || p.Bytes != bytes-p.Guess || p.Fetch.Bytes != p.Bytes {
		t.Errorf("%+v, %v", p, err)
	}
	if r := p.Repositories[0]; r.Unsized != p.Unsized || r.Bytes != p.Bytes {
		t.Errorf("%+v", r)
	}
	noHead := func(r *http.Request) bool { return r.Method != http.MethodHead }
	p, err = planOf(t, web(t, top, noHead))
	if err != nil || p.Unsized != n || p.Guess != 0 || p.Sampled != 0 || p.Bytes != bytes-n*1000 {
		t.Errorf("of a server that tells nothing: %+v, %v", p, err)
	}
	if notes := strings.Join(p.Notes, "\n"); !strings.Contains(notes, "sizes were looked for in vain: ") || !strings.Contains(notes, "403") {
		t.Errorf("%q", p.Notes)
	}
}

// When no upstream gives what a plan needs, each is named with what it said.
func TestUpstreamsAreNamed(t *testing.T) {
	peertest.Require(t, "rsync")
	top := t.TempDir()
	away := web(t, top, func(*http.Request) bool { return false })
	_, err := planOf(t, "http://127.0.0.1:1/pub/", away, rsynctest.Serve(t, top))
	if err == nil {
		t.Fatal("there is a plan")
	}
	for _, part := range []string{"http://127.0.0.1:1/pub", "refused", away, "403", "rsync://"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not say %q", err, part)
		}
	}
	if _, err := planOf(t, web(t, top, all)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of what is not there: %v", err)
	}
}
