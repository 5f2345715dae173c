package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
)

// Inspect lets a program look at the folder of the build. Nobody commits or
// removes the build meanwhile.
func (b *Build) Inspect(ctx context.Context, look func(dir string) error) error {
	done, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	return look(b.dir)
}

// Edit lets a program change the build in its folder: add objects, and make its
// refs point to other commits. It returns the commits that the refs then have,
// by ref, those of the catalogue aside. Every object that was written meanwhile
// is verified, and all is on the disk; whether it is complete, Publish checks.
// Errors of edit are returned as they are; what it has written until then is verified
// by the next Edit or Publish, of a later process too.
func (b *Build) Edit(ctx context.Context, edit func(dir string) error) (refs map[string]string, err error) {
	done, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	since, err := b.beginEdit()
	if err != nil {
		return nil, fmt.Errorf("edit build %d: %w", b.id, err)
	}
	if err := edit(b.dir); err != nil {
		return nil, err
	}
	if err = b.endEdit(ctx, since); err == nil {
		refs, err = b.refs()
	}
	if err != nil {
		return nil, fmt.Errorf("edit build %d: %w", b.id, err)
	}
	return refs, nil
}

// editFile is in the folder of a build from the beginning of an edit until what that
// has written is verified.
const editFile = ".edit"

// beginEdit returns since when objects may have been written that nobody has verified,
// by the clock of the build's file system: now, or when an edit began that did not come
// to its end.
func (b *Build) beginEdit() (since syscall.Timespec, err error) {
	f, err := os.OpenFile(filepath.Join(b.dir, editFile), os.O_RDONLY|os.O_CREATE|syscall.O_NOFOLLOW, fileMode)
	if err != nil {
		return since, err
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = syncPath(b.dir)
	}
	if err != nil {
		return since, err
	}
	return changeTime(info), nil
}

// endEdit verifies what was written since the beginning of an edit.
func (b *Build) endEdit(ctx context.Context, since syscall.Timespec) error {
	err := b.verifySince(ctx, since)
	if err == nil {
		err = b.sync()
	}
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(b.dir, editFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// verifyEdit verifies what an edit has written that did not come to its end, if there
// was one.
func (b *Build) verifyEdit(ctx context.Context) error {
	info, err := os.Lstat(filepath.Join(b.dir, editFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = b.endEdit(ctx, changeTime(info))
	}
	if err != nil {
		return fmt.Errorf("build %d, which a program has edited: %w", b.id, err)
	}
	return nil
}

// changeTime is when content, links or rights of a file were changed. Unlike the
// time of modification, no program sets it.
func changeTime(info fs.FileInfo) syscall.Timespec {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ctim
	}
	return syscall.Timespec{}
}

// verifySince verifies the objects that were changed since a moment.
func (b *Build) verifySince(ctx context.Context, since syscall.Timespec) error {
	return filepath.WalkDir(filepath.Join(b.dir, "objects"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return errors.Join(err, context.Cause(ctx))
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if changed := changeTime(info); changed.Nano() < since.Nano() {
			return nil
		}
		relative, err := filepath.Rel(b.dir, path)
		if err != nil {
			return err
		}
		name, err := ostree.ParseObjectPath(filepath.ToSlash(relative))
		switch {
		case err != nil:
			return nil //nolint:nilerr // nobody will look for it
		case !info.Mode().IsRegular():
			return fmt.Errorf("object %s is no file", name)
		}
		_, err = verifyFile(path, name)
		return err
	})
}

// refs returns the commits of the refs that can be published.
func (b *Build) refs() (map[string]string, error) {
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	refs := make(map[string]string)
	err = fs.WalkDir(root.FS(), "refs/heads", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		ref, err := filepath.Rel("refs/heads", path)
		if err != nil {
			return err
		}
		if _, err := flatpak.ParseUploadRef(ref); err != nil {
			return nil //nolint:nilerr // appstream/ARCH and the like
		}
		commit, err := readRefFile(root, path)
		if err != nil {
			return err
		}
		refs[ref] = commit.String()
		return nil
	})
	return refs, err
}

// readRefFile reads a ref that somebody else may have written.
func readRefFile(root *os.Root, path string) (sum ostree.Checksum, err error) {
	const most = 128 // bytes; a checksum and a line feed are 65
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return sum, err
	}
	if sum, err = ostree.ParseRefFile(data); err != nil {
		return sum, fmt.Errorf("%s: %w", path, err)
	}
	return sum, nil
}

// Borrow makes a build of published refs, so that a program can edit their
// commits and they are published anew. What was in a build of this number before
// is gone. The caller removes the build.
func (r *Repository) Borrow(ctx context.Context, id int64, refs []string) (*Build, error) {
	b, err := r.borrow(ctx, id, refs)
	if err != nil {
		return nil, fmt.Errorf("borrow refs of %s: %w", r.opt.Name, err)
	}
	return b, nil
}

func (r *Repository) borrow(ctx context.Context, id int64, refs []string) (*Build, error) {
	before, err := r.Build(id)
	if err != nil {
		return nil, err
	}
	if err := before.Remove(ctx); err != nil {
		return nil, err
	}
	b, err := r.Build(id)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		sum, err := r.objects.ResolveRef(ref)
		if err != nil {
			return nil, err
		}
		commit, err := r.objects.Commit(sum)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		c := committing{b: b, ctx: ctx}
		if err := errors.Join(c.place(commitName(sum).Path(), commit.Encode()), c.place(ostree.RefPath(ref), ostree.RefFile(sum))); err != nil {
			return nil, err
		}
	}
	return b, b.sync()
}

// AppRefs returns the published refs of an application, sorted: its branches for
// each architecture. The disk decides.
func (r *Repository) AppRefs(id string) ([]string, error) {
	if err := flatpak.CheckID(id); err != nil {
		return nil, err
	}
	var refs []string
	base := "refs/heads"
	err := fs.WalkDir(r.root.FS(), base+"/app/"+id, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if ref := path[len(base)+1:]; isAppRef(ref) {
			refs = append(refs, ref)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return refs, err
}

func isAppRef(ref string) bool {
	parsed, err := flatpak.ParseRef(ref)
	return err == nil && parsed.Kind == flatpak.App
}
