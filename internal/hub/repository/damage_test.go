package repository

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet/internal/hub/relied"
	"freshet/internal/ostree"
)

// TestDamagedObjectsAreRepaired has the disk lose objects that are published, and
// a client upload the build again.
func TestDamagedObjectsAreRepaired(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := newHub(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	u := uploader{}
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
	refs := map[string]string{ref: sum}
	h.publish(h.commit(u, refs))
	for name, data := range u {
		if name.Checksum.String() == sum {
			continue // the uploaded commit is not published
		}
		path := filepath.Join(h.opt.Dir, filepath.FromSlash(name.Path()))
		damages := []string{"", string(data[:16])}
		if name.Type != ostree.TypeFile {
			damages = append(damages, string(data[:len(data)-4])+"\xff\xff\xff\xff")
		}
		for _, damage := range damages {
			replaceFile(t, path, damage)
			b := h.upload(uploader{}) // a build that has nothing
			missing, err := b.Missing(t.Context(), slices.Collect(maps.Keys(u)))
			if err != nil || !slices.Contains(missing, name) || len(missing) != 2 { // and the commit
				t.Fatalf("%s with %d of %d bytes: missing %v: %v", name, len(damage), len(data), missing, err)
			}
			commit := ostree.ObjectName{Checksum: checksum(t, sum), Type: ostree.TypeCommit}
			if _, err := b.PutObject(t.Context(), commit, bytes.NewReader(u[commit])); err != nil {
				t.Fatal(err)
			}
			var damaged *DamagedError
			if _, err := b.Commit(t.Context(), CommitRequest{Refs: refs}, nil); !errors.As(err, &damaged) || damaged.Name != name || damaged.Ref != ref {
				t.Errorf("%s: commit: %v", name, err)
			}
			if _, err := b.PutObject(t.Context(), name, strings.NewReader(damage+"?")); err == nil {
				t.Errorf("%s was replaced by rubbish", name)
			}
			if got := readFile(t, path); got != damage {
				t.Errorf("%s was touched: %q", name, got)
			}
			if n, err := b.PutObject(t.Context(), name, bytes.NewReader(data)); err != nil || n != int64(len(data)) {
				t.Fatalf("%s: stored %d: %v", name, n, err)
			}
			if got := readFile(t, path); got != string(data) {
				t.Errorf("%s was not repaired", name)
			}
			if !strings.Contains(log.String(), "object="+name.String()) {
				t.Errorf("%s was repaired in silence", name)
			}
			if _, err := b.Commit(t.Context(), CommitRequest{Refs: refs}, nil); err != nil {
				t.Errorf("%s: commit after the repair: %v", name, err)
			}
			if err := b.Remove(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	h.check()
}

// TestHiddenDamageIsRepaired: what a look at the header does not show, an upload
// does, although nobody asks for it.
func TestHiddenDamageIsRepaired(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	object, data := anObject(t)
	b, err := h.repo.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{h.opt.Dir, b.dir} {
		path := filepath.Join(dir, filepath.FromSlash(object.Path()))
		replaceFile(t, path, string(data[:len(data)-4])+"\xff\xff\xff\xff")
		if _, err := b.PutObject(t.Context(), object, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, path); got != string(data) {
			t.Errorf("%s was not repaired", path)
		}
		removeFile(t, path)
	}
	// Signatures are never replaced, for their name says nothing.
	meta := commitMetaName(object.Checksum)
	path := filepath.Join(h.opt.Dir, filepath.FromSlash(meta.Path()))
	replaceFile(t, path, "kept")
	if _, err := b.PutObject(t.Context(), meta, bytes.NewReader(detached([][]byte{{1}}, nil))); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, path); got != "kept" {
		t.Errorf("signatures replaced by %q", got)
	}
}

// TestRepairIsReliedOn: who has replaced a damaged object of the repository relies on it
// as on one that was there: it is on the list that a prune respects.
func TestRepairIsReliedOn(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	object, data := anObject(t)
	b, err := h.repo.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, filepath.Join(h.opt.Dir, filepath.FromSlash(object.Path())), string(data[:16]))
	if _, err := b.PutObject(t.Context(), object, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	listed := relied.Reader{Dir: b.dir}
	if names, err := listed.Next(); err != nil || !slices.Contains(names, object) {
		t.Errorf("relied on: %v: %v", names, err)
	}
}

// replaceFile writes a new file, so that links to the one before keep theirs.
func replaceFile(t testing.TB, path, data string) {
	t.Helper()
	removeFile(t, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, data)
}

func removeFile(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}
