// Package archive writes a new OSTree repository in archive mode from scratch:
// the place where content that Freshet itself makes (samples, test data) waits
// to be pushed to a hub. It is not made durable; a published repository is the
// business of hub/repository.
package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

// Repo is a repository that is being written. Its methods must not be called
// concurrently.
type Repo struct{ dir string }

// Create makes an empty repository in place of whatever is at dir.
func Create(dir string) (*Repo, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("clear %s: %w", dir, err)
	}
	for _, sub := range []string{"objects", "refs/heads", "refs/remotes", "refs/mirrors", "tmp", "extensions", "state"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("make repository: %w", err)
		}
	}
	const config = "[core]\nrepo_version=1\nmode=archive-z2\n"
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o644); err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	return &Repo{dir: dir}, nil
}

// Has implements [ostree.Sink].
func (r *Repo) Has(name ostree.ObjectName) (bool, error) {
	_, err := os.Stat(filepath.Join(r.dir, name.Path()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Put implements [ostree.Sink].
func (r *Repo) Put(name ostree.ObjectName, write func(io.Writer) error) error {
	file := filepath.Join(r.dir, name.Path())
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write object: %w", err)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write object: %w", err)
	}
	return nil
}

// SetRef points a ref at a commit.
func (r *Repo) SetRef(ref string, commit ostree.Checksum) error {
	file := filepath.Join(r.dir, "refs", "heads", filepath.FromSlash(ref))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write ref: %w", err)
	}
	if err := os.WriteFile(file, []byte(commit.String()+"\n"), 0o644); err != nil {
		return fmt.Errorf("write ref: %w", err)
	}
	return nil
}

// File is a file of a commit.
type File struct {
	Path       string
	Content    []byte
	Executable bool
}

// CommitFlatpak writes a ref with the files and the metadata of an app or
// runtime, as flatpak build-export does: canonical permissions, sizes and
// bindings in the commit, and the keys. dirs are made even if they are empty.
func (r *Repo) CommitFlatpak(ref string, meta flatpak.Metadata, files []File, dirs []string, now time.Time, keys ...gvariant.Entry) error {
	metadata, err := meta.Bytes()
	if err != nil {
		return err
	}
	files = append(files, File{Path: "metadata", Content: metadata})
	var (
		tree      ostree.Tree
		installed uint64
		download  uint64
	)
	for _, f := range files {
		sum, err := ostree.WriteBytes(r, f.Content, f.Executable)
		if err != nil {
			return err
		}
		if err := tree.SetFile(f.Path, sum); err != nil {
			return err
		}
		info, err := os.Stat(filepath.Join(r.dir, ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}.Path()))
		if err != nil {
			return fmt.Errorf("size of %s: %w", f.Path, err)
		}
		download += uint64(info.Size())
		installed += (uint64(len(f.Content)) + 511) &^ 511
	}
	for _, dir := range dirs {
		if _, err := tree.MakeDir(dir); err != nil {
			return err
		}
	}
	root, rootMeta, err := tree.Write(r)
	if err != nil {
		return err
	}
	commit := &ostree.Commit{
		Metadata: gvariant.NewDict(
			gvariant.Entry{Key: "ostree.collection-binding", Value: gvariant.String("")},
			gvariant.Entry{Key: "ostree.ref-binding", Value: gvariant.Strings([]string{ref})},
			gvariant.Entry{Key: "xa.metadata", Value: gvariant.String(string(metadata))},
			gvariant.Entry{Key: "xa.installed-size", Value: gvariant.Uint64BE(installed)},
			gvariant.Entry{Key: "xa.download-size", Value: gvariant.Uint64BE(download)},
		),
		Subject:   "Export " + meta.Name,
		Timestamp: uint64(now.Unix()),
		Tree:      root,
		TreeMeta:  rootMeta,
	}
	for _, key := range keys {
		commit.Metadata.Set(key.Key, key.Value)
	}
	sum, err := ostree.WriteCommit(r, commit)
	if err != nil {
		return err
	}
	return r.SetRef(ref, sum)
}
