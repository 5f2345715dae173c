package serve_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
)

// downstream is a mirror that takes over the generations of a world.
type downstream struct {
	*world
	from  fetch.Source
	dir   string // of its store
	shelf *generation.Project

	bytes atomic.Int64 // of what was answered

	mu    sync.Mutex
	asked []string          // the last words of the paths that were asked for
	lie   http.RoundTripper // what answers for deltas, if not nil
}

// RoundTrip implements [http.RoundTripper] for the proxy between the two mirrors.
func (d *downstream) RoundTrip(r *http.Request) (*http.Response, error) {
	what := strings.TrimPrefix(r.URL.Path, mirrorapi.HeadPath("epel"))
	parts := append(strings.Split(what, "/"), "head", "head", "head")
	d.mu.Lock()
	d.asked = append(d.asked, parts[2])
	lie := d.lie
	d.mu.Unlock()
	rt := http.DefaultTransport
	if lie != nil && parts[2] == "delta" {
		rt = lie
	}
	res, err := rt.RoundTrip(r)
	if err == nil {
		res.Body = counted{res.Body, &d.bytes}
	}
	return res, err
}

// counted counts what is read of a body.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// roundTrip is a function as a [http.RoundTripper].
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// says answers with a status and a text, packed.
func says(status int, text string) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		z, err := zstd.NewWriter(nil)
		if err != nil {
			return nil, err
		}
		rec := httptest.NewRecorder()
		rec.WriteHeader(status)
		_, _ = rec.Write(z.EncodeAll([]byte(text), nil))
		res := rec.Result()
		res.Request = r
		return res, nil
	})
}

func newDownstream(t *testing.T) *downstream {
	t.Helper()
	d := &downstream{world: newWorld(t), dir: t.TempDir()}
	to, err := url.Parse(d.base)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: d})
	t.Cleanup(proxy.Close)
	if d.from, err = fetch.Open("mirror+"+proxy.URL+"/epel/", fetch.Options{}); err != nil {
		t.Fatal(err)
	}
	store, err := generation.Open(t.Context(), d.dir, generation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if d.shelf, err = store.Project("copy", nil); err != nil {
		t.Fatal(err)
	}
	return d
}

// answers makes something else answer for deltas.
func (d *downstream) answers(lie http.RoundTripper) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lie = lie
}

// pins takes over what is served, by these requests; it is what the generation has. It returns how
// many bytes were answered.
func (d *downstream) pins(when string, by ...string) int64 {
	d.t.Helper()
	d.bytes.Store(0)
	p, err := fetch.Pin(d.t.Context(), d.from, d.shelf)
	d.mu.Lock()
	asked := d.asked
	d.asked = nil
	d.mu.Unlock()
	if err != nil {
		d.t.Fatalf("%s: %v, asked for %v", when, err, asked)
	}
	defer p.Close()
	if !slices.Equal(asked, by) {
		d.t.Errorf("%s: asked for %v, want %v", when, asked, by)
	}
	now := d.epel.Current()
	if p.Head().Generation != now.Info().Name() {
		d.t.Errorf("%s: %s, want %s", when, p.Head().Generation, now.Info().Name())
	}
	got, want := make(map[string]string), make(map[string]string)
	for e, err := range p.List(d.t.Context(), ".") {
		if err != nil {
			d.t.Fatal(err)
		}
		got[e.Path] = fmt.Sprintf("%d %x %s", max(e.Size, 0), e.Sum.Value, e.Target)
	}
	for f, err := range now.Files() {
		if err != nil {
			d.t.Fatal(err)
		}
		sum := fmt.Sprintf("%x", f.SHA256)
		if f.IsLink() {
			sum = ""
		}
		want[f.Path] = fmt.Sprintf("%d %s %s", f.Size, sum, f.Link)
	}
	if !maps.Equal(got, want) {
		d.t.Errorf("%s: %d files, want %d", when, len(got), len(want))
	}
	return d.bytes.Load()
}

// What a mirror knows of a generation, it is not told again: of the next comes what is
// different, and of the same nothing. Whatever is wrong with that, all of it comes.
func TestDelta(t *testing.T) {
	d := newDownstream(t)
	files := map[string]string{"link": "-> pool/0001"}
	for i := range 200 {
		files[fmt.Sprintf("pool/%04d", i)] = fmt.Sprint(i)
	}
	n := 0
	change := func() *generation.Generation {
		n++
		files["repodata/repomd.xml"] = fmt.Sprint("version ", n)
		files[fmt.Sprintf("pool/%04d-new", n)] = fmt.Sprint(n)
		delete(files, fmt.Sprintf("pool/%04d", n+100))
		return d.publish(files)
	}
	first := d.publish(files)
	whole := d.pins("first", "head", "manifest")
	d.pins("again", "head")
	change()
	if came := d.pins("one file", "head", "delta"); came > whole/8 {
		t.Errorf("the delta of three files took %d bytes, all %d", came, whole)
	}
	d.pins("again after a delta", "head")
	change()
	change()
	d.pins("two generations later", "head", "delta")
	if _, err := d.epel.Rollback(t.Context(), first.ID()); err != nil {
		t.Fatal(err)
	}
	d.pins("back", "head", "delta")
	change()
	if _, err := d.epel.Retire(t.Context(), -time.Hour); err != nil {
		t.Fatal(err)
	}
	d.pins("from one that the other has not any more", "head", "delta", "manifest")

	lies := map[string]http.RoundTripper{
		"an earlier version": says(http.StatusNotFound, ""),
		"one that is ill":    says(http.StatusInternalServerError, ""),
		"no delta":           says(http.StatusOK, "<html>log in</html>"),
		"another base":       says(http.StatusOK, "freshet-generation 1\nproject epel\ngeneration 000009\nbase 000001-000000000000\n\nend 0\n"),
		"cut off": roundTrip(func(r *http.Request) (*http.Response, error) {
			res, err := http.DefaultTransport.RoundTrip(r)
			if err == nil {
				res.ContentLength = -1
				res.Header.Del("Content-Length")
				res.Body = io.NopCloser(io.LimitReader(res.Body, 20))
			}
			return res, err
		}),
		"the delta of another change": roundTrip(func(r *http.Request) (*http.Response, error) {
			kept, err := d.shelf.KeptManifest(d.from.URL())
			if err != nil {
				return nil, err
			}
			defer kept.Close()
			return says(http.StatusOK, fmt.Sprintf("freshet-generation 1\nproject epel\ngeneration %s\nbase %s\n\ngone pool/0000\nend 1\n", d.epel.Current().ID(), kept.Name())).RoundTrip(r)
		}),
	}
	for name, lie := range lies {
		change()
		d.answers(lie)
		d.pins(name, "head", "delta", "manifest")
		d.answers(nil)
	}

	kept, err := filepath.Glob(filepath.Join(d.dir, "projects/copy/upstream/*"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept are %q, %v", kept, err)
	}
	text, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Replace(text, []byte(" 1767225600 "), []byte(" 1767225601 "), 1)
	for name, c := range map[string]struct {
		text []byte
		by   []string
	}{
		"what is kept is empty":     {nil, []string{"head", "manifest"}},
		"what is kept is cut":       {text[:len(text)/2], []string{"head", "manifest"}},
		"a bit of what is kept":     {flipped, []string{"head", "delta", "manifest"}},
		"what is kept is something": {[]byte("<html>"), []string{"head", "manifest"}},
	} {
		if err := os.WriteFile(kept[0], c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		change()
		d.pins(name, c.by...)
	}
	if err := d.shelf.KeepNoManifestsBut(nil); err != nil {
		t.Fatal(err)
	}
	d.pins("nothing kept", "head", "manifest")
	if left, _ := filepath.Glob(filepath.Join(d.dir, "projects/copy/upstream/.*")); len(left) > 0 {
		t.Errorf("%q is left over", left)
	}
}

// Of two generations with little in common there is no delta, and many who ask for the
// same one get it.
func TestDeltas(t *testing.T) {
	w := newWorld(t)
	one := w.publish(map[string]string{"a": "1", "b": "1"})
	two := w.publish(map[string]string{"a": "2", "b": "1"})
	path := mirrorapi.DeltaPath("epel", two.Info().Name(), one.Info().Name())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			a := w.get(path)
			if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/zstd" {
				t.Errorf("%d %v", a.status, a.header)
			}
			z, err := zstd.NewReader(nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer z.Close()
			text, err := z.DecodeAll([]byte(a.body), nil)
			if want := "base " + one.Info().Name() + "\n\n1 "; err != nil || !strings.Contains(string(text), want) || !strings.HasSuffix(string(text), " a\nend 1\n") {
				t.Errorf("%v:\n%s", err, text)
			}
		})
	}
	all.Wait()
	for path, status := range map[string]int{
		mirrorapi.DeltaPath("epel", two.Info().Name(), "000009-000000000000"): http.StatusGone,
		mirrorapi.DeltaPath("epel", "000009-000000000000", one.Info().Name()): http.StatusGone,
		mirrorapi.DeltaPath("epel", one.Info().Name(), two.Info().Name()):     http.StatusOK,
	} {
		if a := w.get(path); a.status != status {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}
