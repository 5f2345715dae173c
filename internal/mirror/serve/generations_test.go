package serve_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/serve"
	"freshet/internal/role"
)

// head asks which generation is served.
func (w *world) head(query string) (h mirrorapi.Head, a answer) {
	w.t.Helper()
	a = w.get(mirrorapi.HeadPath("epel") + query)
	if a.status == http.StatusOK {
		if err := json.Unmarshal([]byte(a.body), &h); err != nil {
			w.t.Error(err)
		}
	}
	return h, a
}

func wantReason(t *testing.T, what string, a answer, status int, reason serve.Reason) {
	t.Helper()
	if a.status != status || a.header.Get(role.ReasonHeader) != string(reason) {
		t.Errorf("%s: %d %q, want %d %s", what, a.status, a.header.Get(role.ReasonHeader), status, reason)
	}
}

// Who is downstream reads one generation, whatever is served meanwhile, and is told when it
// has ended.
func TestGenerations(t *testing.T) {
	w := newWorld(t)
	_, a := w.head("")
	wantReason(t, "nothing is here yet", a, http.StatusServiceUnavailable, serve.NotSynced)
	wantReason(t, "no project", w.get(mirrorapi.HeadPath("other")), http.StatusNotFound, serve.NoProject)
	first := w.publish(map[string]string{"a": "one", "odd/%2e%2e %?#\n": "odd", "out": "-> ../../../state", "pool/a.rpm": strings.Repeat("x", 100)})
	head, a := w.head("")
	if a.header.Get("Cache-Control") != "no-store" || head.Project != "epel" || head.Generation != first.Info().Name() ||
		head.Manifest != first.Info().Manifest || head.Files != 3 || head.Links != 1 || head.Switched.IsZero() {
		t.Errorf("%+v, %v", head, a.header)
	}
	manifest, tree := mirrorapi.ManifestPath("epel", head.Generation), mirrorapi.TreePath("epel", head.Generation)
	whole := w.get(manifest)
	if tag := `"` + head.Manifest + `"`; whole.status != http.StatusOK || whole.header.Get("Etag") != tag || !strings.Contains(whole.header.Get("Cache-Control"), "immutable") {
		t.Errorf("manifest: %d %v", whole.status, whole.header)
	}
	if a := w.get(manifest, "Range", "bytes=4-7", "If-Range", whole.header.Get("Etag")); a.status != http.StatusPartialContent || a.body != whole.body[4:8] {
		t.Errorf("a part of the manifest: %d %q", a.status, a.body)
	}
	if a := w.get(manifest, "If-None-Match", whole.header.Get("Etag")); a.status != http.StatusNotModified {
		t.Errorf("the same manifest: %d", a.status)
	}
	if a := w.get(tree+"pool/a.rpm", "Range", "bytes=-10"); a.status != http.StatusPartialContent || a.body != strings.Repeat("x", 10) {
		t.Errorf("a part of a file: %d %q", a.status, a.body)
	}
	if a := w.get(tree+"pool/a.rpm", "Range", "bytes=100-"); a.status != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("what is behind a file: %d", a.status)
	}
	if a := w.do(http.MethodHead, tree+"pool/a.rpm"); a.status != http.StatusOK || a.header.Get("Content-Length") != "100" || a.body != "" {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	if a := w.get(tree + "odd/%252e%252e%20%25%3F%23%0A"); a.body != "odd" {
		t.Errorf("an odd name: %d %q", a.status, a.body)
	}
	for _, path := range []string{
		tree, tree + "pool", tree + "pool/", tree + "nothing", tree + "a/b", tree + "out", tree + "out/audit", tree + "%00", tree + strings.Repeat("x", 300),
		tree + "%2e%2e/info.json", tree + "../manifest.zst", strings.TrimSuffix(tree, "tree/"), mirrorapi.HeadPath("epel") + "/" + head.Generation + "/info.json",
	} {
		if a := w.get(path); a.status != http.StatusNotFound && a.status != http.StatusGone {
			t.Errorf("%s: %d %q", path, a.status, a.body)
		}
	}
	if a := w.do(http.MethodPost, manifest); a.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", a.status)
	}

	w.publish(map[string]string{"a": "two"})
	for path, want := range map[string]string{"a": "one", "pool/a.rpm": strings.Repeat("x", 100)} {
		if a := w.get(tree + path); a.body != want {
			t.Errorf("%s of the former generation: %d %q", path, a.status, a.body)
		}
	}
	if err := w.epel.Drop(t.Context(), first.Info().ID); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{manifest, tree + "a", mirrorapi.TreePath("epel", "20010101.1-1-abc") + "a"} {
		wantReason(t, path, w.get(path), http.StatusGone, serve.GenerationGone)
	}
}

// What the mirror writes itself is not cached with the generation.
func TestGenerationStamps(t *testing.T) {
	w := newWorld(t)
	w.publish(map[string]string{"a": "one"})
	if err := w.epel.Stamp("trace/me", []byte("1")); err != nil {
		t.Fatal(err)
	}
	head, _ := w.head("")
	if len(head.Stamps) != 1 || head.Stamps[0] != "trace/me" {
		t.Errorf("%q", head.Stamps)
	}
	for path, want := range map[string]bool{"trace/me": false, "a": true} {
		a := w.get(mirrorapi.TreePath("epel", head.Generation) + path)
		if got := strings.Contains(a.header.Get("Cache-Control"), "immutable"); a.status != http.StatusOK || got != want {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
}

// An answer is held back while nothing changes: until there is another generation, none any
// more, or the process is about to end.
func TestGenerationsHeldBack(t *testing.T) {
	w := newWorld(t)
	now := w.publish(map[string]string{"a": "one"}).Info().Name()
	held := func(after string) chan answer {
		got := make(chan answer, 1)
		go func() {
			_, a := w.head("?after=" + after + "&wait=1h")
			got <- a
		}()
		return got
	}
	generation := func(a answer) string {
		var h mirrorapi.Head
		if err := json.Unmarshal([]byte(a.body), &h); err != nil {
			t.Errorf("%d %q: %v", a.status, a.body, err)
		}
		return h.Generation
	}
	if got := generation(<-held("another")); got != now {
		t.Errorf("who knows another one is told %q", got)
	}
	if got, _ := w.head("?after=" + now + "&wait=nonsense"); got.Generation != now {
		t.Errorf("a time that is none: %q", got.Generation)
	}
	wait := held(now)
	w.waits(t, 1)
	next := w.publish(map[string]string{"a": "two"}).Info().Name()
	if got := generation(<-wait); got != next {
		t.Errorf("after a switch: %q, want %q", got, next)
	}
	wait = held(next)
	w.waits(t, 1)
	if _, err := w.epel.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "taken off the disk", <-wait, http.StatusServiceUnavailable, serve.Drained)
	_, a := w.head("?after=" + next + "&wait=1h")
	wantReason(t, "drained", a, http.StatusServiceUnavailable, serve.Drained)
	last := w.publish(map[string]string{"a": "three"}).Info().Name()
	wait = held(last)
	w.waits(t, 1)
	w.site.Hasten()
	if got := generation(<-wait); got != last {
		t.Errorf("at the end: %q", got)
	}
}

// waits returns when so many answers are held back.
func (w *world) waits(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for w.site.Waiting() != n {
		if ctx.Err() != nil {
			t.Fatalf("%d answers are held back", w.site.Waiting())
		}
		time.Sleep(time.Millisecond)
	}
}
