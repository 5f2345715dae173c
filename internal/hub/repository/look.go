package repository

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"freshet/internal/hub/stamps"
	"freshet/internal/ostree"
)

// object is what a look at an object that is whole tells of it.
type object struct {
	stored  int64 // bytes as it is stored
	symlink bool
}

// download is what a file adds to xa.download-size: its bytes as they are stored,
// none for a symlink.
func (o object) download() int64 {
	if o.symlink {
		return 0
	}
	return o.stored
}

// maxStamps is how many objects of builds a repository remembers, give or take a build:
// 40 MB at most.
const maxStamps = 1 << 20

// note remembers that an object of the build was found to be whole, or as far as was
// seen.
func (b *Build) note(name ostree.ObjectName, stamp stamps.Stamp, seen stamps.State, symlink bool) {
	b.remember(b.stamps.Note(name, stamp, seen, symlink))
}

// remember counts what was noted.
func (b *Build) remember(more int) {
	if b.repo.stamped.Add(int64(more)) <= b.repo.maxStamps {
		return
	}
	// What the others knew is found out again when it is needed.
	b.repo.buildsMu.Lock()
	defer b.repo.buildsMu.Unlock()
	for _, other := range b.repo.builds {
		if other != b {
			other.forgetStamps()
		}
	}
}

func (b *Build) forgetStamps() { b.repo.stamped.Add(-int64(b.stamps.Forget())) }

// find is look for whom it is all the same whose an object is.
func (b *Build) find(name ostree.ObjectName) (object, error) {
	found, _, err := b.look(name)
	return found, err
}

// glance tells what is known of the file that the build has of an object, without
// reading it. Its errors are those of lstat(2).
func (b *Build) glance(name ostree.ObjectName) (path string, stamp stamps.Stamp, symlink bool, state stamps.State, err error) {
	path = b.dir + "/" + name.Path()
	var stat syscall.Stat_t
	if err := syscall.Lstat(path, &stat); err != nil {
		return path, stamp, false, stamps.Unknown, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	stamp = stamps.Of(&stat)
	symlink, state = b.stamps.Find(name, stamp)
	return path, stamp, symlink, state, nil
}

// look finds an object that is whole, in the build or in the repository; own says
// that it is the build's. What this process has seen, and nobody has changed since,
// costs one system call; what was changed since is verified again as a whole; for
// everything else there is [probe], and of two the published one counts. The errors are
// those of probe.
func (b *Build) look(name ostree.ObjectName) (found object, own bool, err error) {
	path, stamp, symlink, state, err := b.glance(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		found, err = probe(b.repo.objects, name)
		return found, false, err
	case err != nil:
		return object{}, false, &ostree.ObjectError{Name: name, Err: err}
	case state == stamps.Same, state == stamps.Probed:
		return object{stored: stamp.Size, symlink: symlink}, true, nil
	case state == stamps.Changed:
		b.repo.log.Warn("an object of a build is not as it was left", slog.Int64("build", b.id), slog.String("object", name.String()))
		found, err = b.read(name, path, stamp)
		return found, err == nil, err
	}
	if found, err = probe(b.repo.objects, name); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return found, false, err
	}
	if found, err = probe(b.own, name); err != nil {
		return object{}, false, err
	}
	seen := stamps.Same
	if name.Type == ostree.TypeFile {
		seen = stamps.Probed
	}
	b.note(name, stamp, seen, found.symlink)
	return found, true, nil
}

// read verifies all of an object of the build.
func (b *Build) read(name ostree.ObjectName, path string, stamp stamps.Stamp) (object, error) {
	info, err := verifyFile(path, name)
	if err != nil {
		return object{}, err
	}
	b.note(name, stamp, stamps.Same, isLink(info))
	return object{stored: info.Stored, symlink: isLink(info)}, nil
}

func isLink(info ostree.Info) bool { return info.Header != nil && info.Header.IsSymlink() }

// has returns the stored size of an object that is whole: it reads all of it, unless
// this process did so before. When the repository or, if it is not there, the build
// has none, the error is fs.ErrNotExist; damaged says that the repository has one that
// is not what it should be, or had until it was put into quarantine. A published one
// stays as long as the build. What [Build.Missing] found nowhere is not looked for again.
func (b *Build) has(ctx context.Context, name ostree.ObjectName) (size int64, damaged bool, err error) {
	if b.stamps.Awaited(name) {
		return 0, false, fs.ErrNotExist
	}
	published := filepath.Join(b.repo.opt.Dir, filepath.FromSlash(name.Path()))
	info, err := os.Stat(published)
	switch {
	case err == nil && !whole(published, name):
		return 0, true, fs.ErrNotExist
	case err == nil:
		gone, err := b.rely(ctx, []ostree.ObjectName{name})
		if err == nil && len(gone) > 0 {
			err = fs.ErrNotExist
		}
		return info.Size(), false, err
	case !errors.Is(err, fs.ErrNotExist):
		return 0, false, err
	case b.repo.apart(name):
		return 0, true, fs.ErrNotExist
	}
	path, stamp, _, state, err := b.glance(name)
	if err == nil && state != stamps.Same && name.Type != ostree.TypeCommitMeta {
		if _, readErr := b.read(name, path, stamp); readErr != nil {
			err = fs.ErrNotExist
		}
	}
	return stamp.Size, false, err
}

// whole tells whether a file is the object that its name says. The name of signatures
// says nothing about them.
func whole(path string, name ostree.ObjectName) bool {
	if name.Type == ostree.TypeCommitMeta {
		return true
	}
	_, err := verifyFile(path, name)
	return err == nil
}
