package engine_test

import (
	"context"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/closure"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/kindtest"
)

func rpmWorld(t *testing.T) *world {
	needs(t, "rpmbuild", "createrepo_c")
	w := newWorld(t, kind.Config{Format: kind.RPM, Repositories: []string{"a", "b"}})
	for _, repo := range []string{"a", "b"} {
		for _, name := range []string{"one", "two", "three"} {
			w.rpm(repo, name+repo, "1")
		}
		w.createrepo(repo, 10)
	}
	return w
}

var (
	repoA = closure.Repository{Root: "a"}
	repoB = closure.Repository{Root: "b"}
)

func TestRPM(t *testing.T) {
	w := rpmWorld(t)
	r := w.sync(mirrorapi.Order{Cause: mirrorapi.CauseSchedule})
	w.want(r, mirrorapi.Published, "")
	w.check(repoA)
	w.check(repoB)
	if r.Fetched[mirrorapi.FromUpstream].Files != r.Files || r.Linked.Files != 0 || len(r.Repositories) != 2 {
		t.Errorf("the report: %+v", r)
	}

	// Nothing is new: two small files tell.
	w.requests()
	r = w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Unchanged, "")
	if asked := w.requests(); !slices.Equal(asked, []string{"a/repodata/repomd.xml", "b/repodata/repomd.xml"}) {
		t.Errorf("the probe asks for %q", asked)
	}
	// The same is found by looking at everything.
	w.want(w.sync(mirrorapi.Order{Force: true}), mirrorapi.Unchanged, "")
	if n := len(w.project.Store.Generations()); n != 1 {
		t.Errorf("there are %d generations, want 1", n)
	}

	// One package more, and one less.
	w.rpm("a", "four", "1")
	w.remove("a/Packages/onea-1.rpm")
	w.createrepo("a", 11)
	w.requests()
	r = w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Published, "")
	w.check(repoA)
	w.check(repoB)
	if n := count(w.requests(), ".rpm"); n != 1 {
		t.Errorf("%d packages were fetched, want 1", n)
	}
	if !w.has("a/Packages/onea-1.rpm") {
		t.Error("what the index before names is gone at once")
	}
	if r.Removed.Files == 0 || r.Linked.Files < 5 || r.Previous != "000001" {
		t.Errorf("the report: %+v", r)
	}
}

func count(asked []string, part string) int {
	n := 0
	for _, name := range asked {
		if strings.Contains(name, part) {
			n++
		}
	}
	return n
}

// A repository whose files do not agree stays as it is; the others go on. What was
// fetched of it is not fetched again.
func TestMissingPackage(t *testing.T) {
	w := rpmWorld(t)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	w.requests()
	w.rpm("a", "other", "1")
	for _, repo := range []string{"a", "b"} {
		w.rpm(repo, "new"+repo, "1")
		w.createrepo(repo, 11)
	}
	w.remove("a/Packages/newa-1.rpm")
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Published, "")
	a, b := r.Repositories[0], r.Repositories[1]
	if !a.Held || a.Reason != mirrorapi.ReasonInconsistent || !strings.Contains(a.Message, "a/Packages/newa-1.rpm") || b.Held || b.Reason != "" {
		t.Errorf("the repositories: %+v, %+v", a, b)
	}
	w.check(repoA)
	w.check(repoB)
	if w.has("a/Packages/newa-1.rpm") || !w.has("b/Packages/newb-1.rpm") {
		t.Error("the package that is there is not served, or the other one is")
	}

	// It is tried again, though nothing is new; and without anything new nothing is done.
	r = w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Failed, mirrorapi.ReasonInconsistent)
	if r.Path != "a/Packages/newa-1.rpm" || r.Generation != "000002" {
		t.Errorf("the report: %+v", r)
	}

	w.rpm("a", "newa", "1")
	w.createrepo("a", 12)
	r = w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Published, "")
	if w.check(repoA); !w.has("a/Packages/newa-1.rpm") || r.Repositories[0].Held {
		t.Errorf("the report: %+v", r)
	}
	if n := count(w.requests(), "/other-1.rpm"); n != 1 {
		t.Errorf("a package beside the one that is missing was fetched %d times", n)
	}
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Unchanged, "")
}

// A package with a wrong byte, of the same size and time, is not served; and as soon as
// it is right, it is.
func TestFlippedByte(t *testing.T) {
	w := rpmWorld(t)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	w.rpm("a", "new", "1")
	w.createrepo("a", 11)
	name := w.path("a/Packages/new-1.rpm")
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	bad := slices.Clone(good)
	bad[len(bad)/2] ^= 1
	put := func(data []byte) {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	put(bad)
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Failed, mirrorapi.ReasonInconsistent)
	if !strings.Contains(r.Message, "a/Packages/new-1.rpm") || w.has("a/Packages/new-1.rpm") {
		t.Errorf("the report: %+v", r)
	}
	w.check(repoA)

	// The second time that it is asked for, it is right: in the same sync.
	asked := 0
	w.onRequest(func(name string) {
		if strings.HasSuffix(name, "new-1.rpm") {
			if asked++; asked == 2 {
				put(good)
			}
		}
	})
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	if asked < 2 {
		t.Errorf("it was asked for %d times", asked)
	}
	w.check(repoA)
}

// The upstream publishes while it is read: what is published here is the old or the new
// version, and never something between.
func TestUpstreamPublishes(t *testing.T) {
	w := rpmWorld(t)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	w.rpm("a", "two", "2")
	w.createrepo("a", 11)
	// When its first index is read, the upstream has published again, and has removed what
	// the version before had.
	done := false
	w.onRequest(func(name string) {
		if strings.Contains(name, "-primary.xml") && !done {
			done = true
			w.remove("a/Packages/two-2.rpm")
			w.rpm("a", "two", "3")
			w.remove("a/repodata")
			w.createrepo("a", 12)
		}
	})
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Published, "")
	w.check(repoA)
	if !done || !w.has("a/Packages/two-3.rpm") || w.has("a/Packages/two-2.rpm") {
		t.Error("it is not the new version that is served")
	}
	if !slices.ContainsFunc(r.Warnings, func(s string) bool { return strings.Contains(s, "upstream_inconsistent") }) {
		t.Errorf("it is not said that the upstream did not agree with itself: %q", r.Warnings)
	}
}

func TestRefusals(t *testing.T) {
	w := rpmWorld(t)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	// Backwards.
	w.rpm("a", "four", "1")
	w.createrepo("a", 9)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Refused, mirrorapi.ReasonRollback)
	if w.check(repoA); w.has("a/Packages/four-1.rpm") {
		t.Error("an older version was taken over")
	}
	w.want(w.sync(mirrorapi.Order{Rollback: true}), mirrorapi.Published, "")
	if w.check(repoA); !w.has("a/Packages/four-1.rpm") {
		t.Error("the operator's word does not count")
	}
	// More than two fifths are gone.
	files, err := filepath.Glob(w.path("b/Packages/t*.rpm"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	w.createrepo("b", 12)
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Refused, mirrorapi.ReasonShrink)
	w.check(repoB)
	w.want(w.sync(mirrorapi.Order{Shrink: true}), mirrorapi.Published, "")
	w.check(repoB)
}

// A repository that was never there is told of at once, with what to look at: nobody waits for it.
func TestNoRepository(t *testing.T) {
	w := newWorld(t, kind.Config{Format: kind.Deb, Repositories: []string{"dists/sid"}})
	w.project.Pause = time.Hour
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Failed, mirrorapi.ReasonInconsistent)
	if r.Path != "dists/sid/InRelease" || !strings.Contains(r.Message, "no repository at dists/sid/InRelease") || !strings.Contains(r.Message, `"dists/sid/Release"`) {
		t.Errorf("%+v", r)
	}
}

// listed is a source that tells when it was listed.
type listed struct {
	fetch.Source
	done func()
}

func (s listed) List(ctx context.Context, folder string) iter.Seq2[fetch.Entry, error] {
	return func(yield func(fetch.Entry, error) bool) {
		s.Source.List(ctx, folder)(yield)
		s.done()
	}
}

// A repository whose metadata are away for a moment, while others take their place, stays; one that
// stays away goes, and that is said.
func TestMetadataAreAway(t *testing.T) {
	w := rpmWorld(t)
	w.config.Repositories = nil
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(w.path(from), w.path(to)); err != nil {
			t.Error(err)
		}
	}
	move("a/repodata", "a/.olddata")
	listings := 0
	w.project.Upstream.Sources = []fetch.Source{listed{w.project.Upstream.Sources[0], func() {
		if listings++; listings == 1 {
			move("a/.olddata", "a/repodata")
		}
	}}}
	w.want(w.sync(mirrorapi.Order{Force: true}), mirrorapi.Unchanged, "")
	w.check(repoA)
	move("a/repodata", "a/.olddata")
	r := w.sync(mirrorapi.Order{Force: true})
	w.want(r, mirrorapi.Published, "")
	if w.has("a/repodata/repomd.xml") || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "a/repodata/repomd.xml is not there any more") {
		t.Errorf("%+v", r)
	}
	w.check(repoB)
}

// Where nothing is found that is wanted, nothing is published: it would be what lies beside the repositories
// of another kind.
func TestNothingIsFound(t *testing.T) {
	for format, want := range map[kind.Format]string{
		kind.RPM: "no repository", kind.Deb: "no repository", kind.Arch: "no repository", kind.Alpine: "no repository",
		kind.Plain: "nothing that is wanted", kind.Images: "",
	} {
		w := newWorld(t, kind.Config{Format: format, Exclude: []string{"old/*"}})
		w.project.Pause = time.Hour
		name := "dists/file"
		if format == kind.Plain {
			name = "old/file"
		}
		kindtest.Put(t, w.path(name), "x")
		r := w.sync(mirrorapi.Order{})
		if want == "" {
			w.want(r, mirrorapi.Published, "")
			continue
		}
		w.want(r, mirrorapi.Failed, mirrorapi.ReasonInconsistent)
		if !strings.Contains(r.Message, want) {
			t.Errorf("%s: %s", format, r.Message)
		}
	}
}

// So is what an upstream does not give, as is a repository that was never there: that does not change in a moment.
func TestDenied(t *testing.T) {
	w := rpmWorld(t)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	w.rpm("a", "newa", "1")
	w.createrepo("a", 11)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.URL.Path, "-primary.xml") {
			http.Error(rw, "not for you", http.StatusForbidden)
			return
		}
		http.FileServerFS(os.DirFS(w.up)).ServeHTTP(rw, req)
	}))
	t.Cleanup(server.Close)
	w.upstreamIs(server.URL, fetch.Options{})
	w.project.Pause = time.Hour
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Failed, mirrorapi.ReasonInconsistent)
	if !strings.Contains(r.Message, "does not give a/repodata/") || !strings.Contains(r.Message, "403") {
		t.Errorf("%+v", r)
	}
	w.check(repoB)
}
