package versions

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/peertest"
)

// ostreeRepository commits a file with ostree, once for each text, and returns the
// repository after each, below repo/.
func ostreeRepository(t *testing.T, texts ...string) (states []contents) {
	t.Helper()
	peertest.Require(t, "ostree")
	dir := t.TempDir()
	repo, tree := filepath.Join(dir, "repo"), filepath.Join(dir, "tree")
	peertest.Run(t, dir, nil, "ostree", "init", "--mode=archive", "--repo="+repo)
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if err := os.WriteFile(filepath.Join(tree, "file"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		peertest.Run(t, dir, nil, "ostree", "commit", "--repo="+repo, "--branch=app", tree)
		peertest.Run(t, dir, nil, "ostree", "summary", "--update", "--repo="+repo)
		c := make(contents)
		err := fs.WalkDir(os.DirFS(dir), "repo", func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasPrefix(name, "repo/tmp/") || path.Base(name) == ".lock" {
				return err
			}
			data, err := os.ReadFile(filepath.Join(dir, name))
			c[name] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, c)
	}
	return states
}

// A mirror of what ostree makes is offered when it has every object, also those that no
// pointer leads to without reading all of them.
func TestRealOSTree(t *testing.T) {
	states := ostreeRepository(t, "one", "two")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		w.spec = directorapi.Repository{Path: "repo/", Kind: directorapi.KindOSTree}
		w.start()
		for _, state := range states {
			w.origin.publish(state)
			w.list("", state)
			w.Hasten(project, "")
			soon()
			w.list("", state) // after the version was seen
			objects := 0
			for name := range state {
				if !strings.HasPrefix(name, "repo/objects/") {
					continue
				}
				objects++
				less := maps.Clone(state)
				delete(less, name)
				w.list("m", less)
				w.Saw("m", project, "repo/summary", digest(state["repo/summary"]), time.Now())
				w.Hasten(project, "")
				soon()
				if got := w.offered("repo/summary"); len(got) > 0 {
					t.Errorf("%v are offered without %s", got, name)
				}
			}
			if objects < 4 {
				t.Errorf("%d objects", objects)
			}
			w.list("m", state)
			w.Hasten(project, "")
			soon()
			for _, name := range []string{"repo/summary", "repo/refs/heads/app", "repo/config"} {
				if got := w.offered(name); len(got) != 1 {
					t.Errorf("%v are offered for %s", got, name)
				}
			}
		}
	})
}
