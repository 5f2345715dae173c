package engine_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/closure"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/kindtest"
	"freshet/internal/rsync"
	"freshet/internal/rsync/rsynctest"
)

// No name that an upstream gives to a folder is one that the mirror itself needs, also not when a sync has
// failed and the next one finds what that has left.
func TestFolderCalledSmall(t *testing.T) {
	needs(t, "rpmbuild", "createrepo_c")
	w := newWorld(t, kind.Config{Format: kind.RPM, Repositories: []string{"small"}})
	w.rpm("small", "one", "1")
	w.rpm("small", "two", "1")
	w.createrepo("small", 10)
	w.remove("small/Packages/two-1.rpm")
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Failed, mirrorapi.ReasonInconsistent)
	w.rpm("small", "two", "1")
	w.createrepo("small", 11)
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	w.check(closure.Repository{Root: "small"})
}

// A listing that names what cannot be is a fault of the upstream, by its reason too, and what is served stays.
func TestListingsThatCannotBe(t *testing.T) {
	w := newWorld(t, kind.Config{Format: kind.Plain})
	kindtest.Put(t, w.path("a"), "s")
	w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
	program, err := rsync.Find(t.Context(), rsync.Options{AnyVersion: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../b", "/b", "b/../../c"} {
		w.upstreamIs(rsynctest.Lie{Names: slices.Values([]string{"a", name})}.Serve(t), fetch.Options{Rsync: program})
		w.want(w.sync(mirrorapi.Order{}), mirrorapi.Failed, mirrorapi.ReasonMetadata)
	}
	s := httptest.NewServer(http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		text := "x"
		if req.URL.Path == "/list" {
			text = "[Version]\n2\n\n[Files]\n1700000000\tf\t1\ta\n1700000000\tf\t1\ta/b\n\n[End]\n"
		}
		_, _ = io.WriteString(res, text)
	}))
	t.Cleanup(s.Close)
	w.upstreamIs(s.URL+"/", fetch.Options{FileList: "list"})
	r := w.sync(mirrorapi.Order{})
	w.want(r, mirrorapi.Failed, mirrorapi.ReasonInconsistent)
	if !strings.Contains(r.Message, "names a/b, and a, which can be no folder then") {
		t.Errorf("of a file in a file it says %s", r.Message)
	}
	if !w.has("a") {
		t.Error("what was served is not any more")
	}
}
