package engine_test

import (
	"context"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/kindtest"
	"freshet/internal/mirror/nginxtest"
)

// Every kind, over every protocol: published, unchanged, published anew with what has
// changed alone, and whole each time.
func TestKinds(t *testing.T) {
	for _, f := range kindtest.Upstreams() {
		for _, protocol := range []string{"rsync", "http"} {
			t.Run(f.Name+"-"+protocol, func(t *testing.T) {
				needs(t, f.Needs...)
				w := newWorld(t, f.Config)
				if protocol == "http" {
					w.upstreamIs(nginxtest.Serve(t, w.up), fetch.Options{})
				}
				f.Publish(t, w.up, 1)
				w.want(w.sync(mirrorapi.Order{}), mirrorapi.Published, "")
				first := w.visit(f)
				w.want(w.sync(mirrorapi.Order{}), mirrorapi.Unchanged, "")
				w.want(w.sync(mirrorapi.Order{Force: true}), mirrorapi.Unchanged, "")
				f.Publish(t, w.up, 2)
				r := w.sync(mirrorapi.Order{})
				w.want(r, mirrorapi.Published, "")
				if second := w.visit(f); second == 0 || second < first-1 {
					t.Errorf("%d files, before %d", second, first)
				}
				if r.Linked.Files == 0 || r.Fetched[mirrorapi.FromUpstream].Files == 0 || len(r.Warnings) > 0 {
					t.Errorf("the report: %+v", r)
				}
				w.want(w.sync(mirrorapi.Order{}), mirrorapi.Unchanged, "")
			})
		}
	}
}

// visit walks what is served as a client does.
func (w *world) visit(f kindtest.Upstream) int {
	w.Helper()
	files, err := visit(w.Context(), f.Config, w.project.Store.TreePath())
	if err != nil {
		w.Error(err)
	}
	return files
}

// visit does what a client does with the tree in a folder.
func visit(ctx context.Context, c kind.Config, dir string) (files int, err error) {
	tree := kindtest.FolderTree(dir)
	return kindtest.Visit(ctx, c, tree, tree.Open)
}
