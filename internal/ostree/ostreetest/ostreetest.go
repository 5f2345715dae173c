// Package ostreetest makes small archive repositories on disk for tests: it is
// the simplest sink of objects there can be, and makes no promise about
// crashes. It is imported by tests only.
package ostreetest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"freshet/internal/gvariant"
	"freshet/internal/keyfile"
	"freshet/internal/ostree"
)

// Repo is an archive repository in a directory; it takes objects as an
// [ostree.Sink].
type Repo struct {
	Dir string
	t   testing.TB
}

// New makes an empty repository in a directory of the test. The collection ID
// may be empty.
func New(tb testing.TB, collection string) *Repo {
	tb.Helper()
	r := &Repo{Dir: filepath.Join(tb.TempDir(), "repo"), t: tb}
	var config keyfile.File
	err := errors.Join(config.Set("core", "repo_version", "1"), config.Set("core", "mode", "archive-z2"))
	if collection != "" {
		err = errors.Join(err, config.Set("core", "collection-id", collection))
	}
	if err != nil {
		tb.Fatal(err)
	}
	r.WriteFile("config", config.Bytes())
	for _, dir := range []string{"objects", "refs/heads", "refs/mirrors", "refs/remotes", "tmp", "state", "extensions"} {
		if err := os.MkdirAll(filepath.Join(r.Dir, dir), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	return r
}

// WriteFile writes a file of the repository, and the directories above it.
func (r *Repo) WriteFile(path string, data []byte) {
	r.t.Helper()
	path = filepath.Join(r.Dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// SetRef lets a ref in refs/heads point to a commit.
func (r *Repo) SetRef(ref string, commit ostree.Checksum) {
	r.t.Helper()
	if err := ostree.ValidateRef(ref); err != nil {
		r.t.Fatal(err)
	}
	r.WriteFile(ostree.RefPath(ref), ostree.RefFile(commit))
}

// Open opens the repository for reading.
func (r *Repo) Open() *ostree.Repo {
	r.t.Helper()
	return OpenDir(r.t, r.Dir)
}

// Has tells whether an object is there.
func (r *Repo) Has(name ostree.ObjectName) (bool, error) {
	_, err := os.Stat(filepath.Join(r.Dir, filepath.FromSlash(name.Path())))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Put writes an object.
func (r *Repo) Put(name ostree.ObjectName, write func(io.Writer) error) (err error) {
	path := filepath.Join(r.Dir, filepath.FromSlash(name.Path()))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "tmp-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Commit writes files, by path, and a commit of them that is bound to ref, and
// lets ref point to it. A content that begins with "-> " is the target of a
// symlink; files below "bin" are executable.
func (r *Repo) Commit(ref string, timestamp uint64, files map[string]string) ostree.Checksum {
	r.t.Helper()
	var tree ostree.Tree
	for path, content := range files {
		var sum ostree.Checksum
		var err error
		if len(content) > 3 && content[:3] == "-> " {
			sum, err = ostree.WriteSymlink(r, content[3:])
		} else {
			sum, err = ostree.WriteBytes(r, []byte(content), filepath.Base(filepath.Dir(path)) == "bin")
		}
		if err == nil {
			err = tree.SetFile(path, sum)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	root, meta, err := tree.Write(r)
	if err != nil {
		r.t.Fatal(err)
	}
	c := &ostree.Commit{Subject: "Commit " + ref, Timestamp: timestamp, Tree: root, TreeMeta: meta}
	c.Metadata.Set(ostree.KeyRefBinding, gvariant.Strings([]string{ref}))
	if id := r.Open().CollectionID(); id != "" {
		c.Metadata.Set(ostree.KeyCollectionBinding, gvariant.String(id))
	}
	sum, err := ostree.WriteCommit(r, c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.SetRef(ref, sum)
	return sum
}

// OpenDir opens the repository in a folder.
func OpenDir(tb testing.TB, dir string) *ostree.Repo {
	tb.Helper()
	repo, err := ostree.OpenRepo(os.DirFS(dir))
	if err != nil {
		tb.Fatal(err)
	}
	return repo
}

// Head returns the commit that a ref of a repository points at.
func Head(tb testing.TB, repo *ostree.Repo, ref string) (ostree.Checksum, *ostree.Commit) {
	tb.Helper()
	sum, err := repo.ResolveRef(ref)
	if err != nil {
		tb.Fatal(err)
	}
	commit, err := repo.Commit(sum)
	if err != nil {
		tb.Fatal(err)
	}
	return sum, commit
}
