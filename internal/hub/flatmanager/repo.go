package flatmanager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"freshet/internal/durable"
	"freshet/internal/keyfile"
)

// copied are the parts of a repository that are taken along, in the order in
// which they have to be there: what others point to first. Folders that are not
// there are no error.
var copied = [...]string{
	"objects", "deltas", "media", "appstream", "summaries", "delta-indexes",
	"summary.idx.sig", "summary.idx", "summary.sig", "summary", "refs/mirrors", "refs/heads",
}

// Repository is an OSTree repository of a flat-manager.
type Repository struct {
	// Name is how the hub will call it, and Dir its folder.
	Name, Dir string
}

// RepoCounts says what is in a repository, or what of it was taken along.
type RepoCounts struct {
	Files int64
	Bytes int64 // of files that were, or would have to be, copied
	Refs  int64
	// Copied says that hard links are not possible.
	Copied bool
}

// Take takes a repository over into the folder to, which may have a part of it
// already. step is told the number of files done so far.
func (r Repository) Take(ctx context.Context, to string, step func(int64)) (n RepoCounts, err error) {
	t := taking{ctx: ctx, step: step}
	defer func() {
		if err != nil {
			err = fmt.Errorf("take over repository %s: %w", r.Dir, err)
		}
	}()
	if t.from, err = os.OpenRoot(r.Dir); err != nil {
		return n, err
	}
	defer func() { _ = t.from.Close() }()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return n, err
	}
	if t.to, err = durable.Open(to); err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, t.to.Root.Close()) }()
	defer func() { err = errors.Join(err, t.leave()) }()
	if err := t.config(); err != nil {
		return n, err
	}
	for _, part := range copied {
		if err := t.tree(part); err != nil {
			return t.count, err
		}
		// What follows may point to it.
		if err := t.to.Syncfs(); err != nil {
			return t.count, err
		}
	}
	return t.count, nil
}

// Inspect counts what Take would do, and changes nothing. near is a folder on the
// file system to which it would be taken.
func (r Repository) Inspect(ctx context.Context, near string, step func(int64)) (n RepoCounts, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("repository %s: %w", r.Dir, err)
		}
	}()
	root, err := os.OpenRoot(r.Dir)
	if err != nil {
		return n, err
	}
	defer func() { _ = root.Close() }()
	if _, err := readConfig(root); err != nil {
		return n, err
	}
	same, err := sameFileSystem(r.Dir, near)
	if err != nil {
		return n, err
	}
	n.Copied = !same
	for _, part := range copied {
		err := walk(ctx, root, part, func(_ string, info fs.FileInfo) error {
			n.add(part, info)
			step(n.Files)
			return nil
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (n *RepoCounts) add(part string, info fs.FileInfo) {
	n.Files++
	if n.Copied {
		n.Bytes += info.Size()
	}
	if part == "refs/heads" {
		n.Refs++
	}
}

func sameFileSystem(a, b string) (bool, error) {
	var x, y syscall.Stat_t
	if err := errors.Join(syscall.Stat(a, &x), syscall.Stat(b, &y)); err != nil {
		return false, fmt.Errorf("compare the file systems of %s and %s: %w", a, b, err)
	}
	return x.Dev == y.Dev, nil
}

// taking is one Take in progress.
type taking struct {
	ctx   context.Context //nolint:containedctx // lives as long as the call
	from  *os.Root
	to    durable.Dir
	step  func(int64)
	count RepoCounts

	folder       string // that is open, "" for none
	source, into *durable.Folder
}

// readConfig reads the configuration of a repository that is served over HTTP.
func readConfig(root *os.Root) (*keyfile.File, error) {
	data, err := root.ReadFile("config")
	if err != nil {
		return nil, err
	}
	config, err := keyfile.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if mode, _ := config.Get("core", "mode"); mode != "archive-z2" && mode != "archive" {
		return nil, fmt.Errorf("config: the mode is %q, want \"archive-z2\"", mode)
	}
	return config, nil
}

// config takes the configuration along, unless there is one.
func (t *taking) config() error {
	config, err := readConfig(t.from)
	if err != nil {
		return err
	}
	if _, err := t.to.Root.Stat("config"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, folder := range [...]string{"objects", "tmp", "refs/heads", "refs/mirrors", "refs/remotes"} { // libostree wants them all
		if err := t.to.Root.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	config.Delete("core", "parent")
	return t.to.WriteFile("config", config.Bytes(), 0o644)
}

// tree takes a file along, or a folder with all in it.
func (t *taking) tree(part string) error {
	return walk(t.ctx, t.from, part, func(name string, info fs.FileInfo) error {
		if err := t.file(part, name); err != nil {
			return err
		}
		t.count.add(part, info)
		t.step(t.count.Files)
		return nil
	})
}

// file takes one file along. What never changes is linked, unless it is there;
// the rest is copied, because flat-manager writes some of it in place.
func (t *taking) file(part, name string) error {
	if err := t.enter(path.Dir(name)); err != nil {
		return err
	}
	fixed := part == "objects" || part == "deltas" || part == "media"
	if fixed && !t.count.Copied {
		err := t.into.Link(path.Base(name), t.source, path.Base(name))
		if err == nil || errors.Is(err, fs.ErrExist) {
			return nil
		}
		if !errors.Is(err, syscall.EXDEV) && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EMLINK) {
			return err
		}
		t.count.Copied = errors.Is(err, syscall.EXDEV)
	}
	if fixed {
		if _, err := t.to.Root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f, err := t.from.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone meanwhile
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return t.to.Write(name, 0o644, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}

// enter opens a folder on both sides; files of a folder come one after the other.
func (t *taking) enter(folder string) (err error) {
	if t.folder == folder {
		return nil
	}
	if err := t.leave(); err != nil {
		return err
	}
	if err := t.to.Root.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if t.source, err = (durable.Dir{Root: t.from}).Folder(folder); err != nil {
		return err
	}
	if t.into, err = t.to.Folder(folder); err != nil {
		return errors.Join(err, t.source.Close())
	}
	t.folder = folder
	return nil
}

func (t *taking) leave() error {
	if t.folder == "" {
		return nil
	}
	t.folder = ""
	return errors.Join(t.source.Close(), t.into.Close())
}

// walk calls visit for each regular file below a part of a repository; others
// are none of a repository's.
func walk(ctx context.Context, root *os.Root, part string, visit func(name string, info fs.FileInfo) error) error {
	return fs.WalkDir(root.FS(), part, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // an optional part, or a file that was replaced meanwhile
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case entry.IsDir() && strings.HasPrefix(name, "appstream/"):
			return fs.SkipDir // a checkout of the catalogue, which the hub makes itself
		case !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return visit(name, info)
	})
}
