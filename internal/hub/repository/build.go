package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"freshet/internal/hub/relied"
	"freshet/internal/hub/stamps"
	"freshet/internal/keyfile"
	"freshet/internal/ostree"
)

const (
	tempDir    = "tmp"     // of a build: uploads in progress
	uploadsDir = "uploads" // of a build: static deltas as they came
	bootFile   = ".boot"   // of a build: see Build.survive
	tempPrefix = "upload-"

	bootIDPath = "/proc/sys/kernel/random/boot_id"
)

// Build is an upload on its way into a repository. Its methods may be called
// concurrently. Commit and Remove wait for nobody who sends: an upload that is
// in progress when they begin is refused.
type Build struct {
	repo *Repository
	id   int64
	dir  string

	prepared sync.Once
	failed   error // of prepare

	// objects are the build's and the repository's; where both have one, the
	// published one counts, because it is the one that stays.
	objects *ostree.Repo
	own     *ostree.Repo // the build's alone

	relied relied.List // published objects that the uploader was told of
	stamps stamps.Book // objects of the build that were found to be whole
	sizes  treeSizes   // of what was committed

	*gate
}

// Build opens the folder of a build and creates it when absent. All callers get
// the same Build. Opening one after the machine was started takes as long as
// hashing what is in it; callers for other builds do not wait for that.
func (r *Repository) Build(id int64) (*Build, error) {
	b := r.slot(id)
	b.prepared.Do(func() {
		if err := b.prepare(); err != nil {
			b.failed = fmt.Errorf("open build %d: %w", id, err)
			r.forget(b)
		}
	})
	if b.failed != nil {
		return nil, b.failed
	}
	return b, nil
}

// slot returns the Build of a number, perhaps one that nobody has prepared yet.
func (r *Repository) slot(id int64) *Build {
	r.buildsMu.Lock()
	defer r.buildsMu.Unlock()
	b := r.builds[id]
	if b == nil {
		b = &Build{repo: r, id: id, dir: filepath.Join(r.opt.BuildsDir, strconv.FormatInt(id, 10)), gate: newGate(id)}
		b.relied.Dir = b.dir
		r.builds[id] = b
	}
	return b
}

// forget makes way for a new build of the same number.
func (r *Repository) forget(b *Build) {
	r.buildsMu.Lock()
	defer r.buildsMu.Unlock()
	if r.builds[b.id] == b {
		delete(r.builds, b.id)
	}
	b.forgetStamps()
}

// prepare makes the folder or repairs the one that is there.
func (b *Build) prepare() error {
	if err := sweep(b.dir, b.repo.opt.uploadPrefix()); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(b.dir, configFile)); errors.Is(err, fs.ErrNotExist) {
		if _, err := makeArchive(b.dir, b.configure, nil); err != nil {
			return err
		}
	}
	if err := b.survive(); err != nil {
		return err
	}
	var err error
	if b.objects, err = openArchive(b.repo.opt.Dir, b.dir); err != nil {
		return err
	}
	b.own, err = openArchive(b.dir)
	return err
}

// survive looks at what is in the folder if that may not have reached the disk when
// the machine stopped. Processes that share builds put everything on the disk at
// once; where that was not always so, it is from here on.
func (b *Build) survive() error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, bootFile)
	shared := b.repo.opt.Instance != ""
	known, err := os.ReadFile(file)
	absent := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !absent:
		return err
	case shared && absent, !shared && string(known) == boot:
		return nil
	}
	if string(known) != boot {
		if err := b.verifyAll(); err != nil {
			return err
		}
	}
	if !shared {
		return os.WriteFile(file, []byte(boot), 0o644)
	}
	if err := b.sync(); err != nil {
		return err
	}
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// configure makes the folder a repository that takes from the published one what
// it does not have.
func (b *Build) configure(config *keyfile.File) error {
	parent, err := filepath.Abs(b.repo.opt.Dir)
	if err != nil {
		return err
	}
	if id := b.collection(); id != "" {
		err = config.Set(groupCore, "collection-id", id)
	}
	return errors.Join(err,
		config.Set(groupCore, "parent", parent),
		config.SetBool(groupCore, "indexed-deltas", true),
		config.Set(groupCore, "min-free-space-size", "500MB"))
}

// verifyAll verifies every object anew. Uploads are not forced to the disk one by
// one, only by Commit and all together; so after the machine has stopped, what
// was written in an earlier boot may be there in name only.
func (b *Build) verifyAll() error {
	var damaged []string
	root := filepath.Join(b.dir, "objects")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(b.dir, path)
		if err != nil {
			return err
		}
		name, err := ostree.ParseObjectPath(filepath.ToSlash(relative))
		if err == nil {
			_, err = verifyFile(path, name)
		}
		if err != nil {
			b.repo.log.Warn("removing an object that did not survive", slog.Int64("build", b.id), slog.Any("error", err))
			damaged = append(damaged, path)
		}
		return nil
	})
	for _, path := range damaged {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func verifyFile(path string, name ostree.ObjectName) (ostree.Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return ostree.Info{}, err
	}
	info, err := ostree.VerifyObject(name, f)
	return info, errors.Join(err, f.Close())
}

// bootID identifies the time since the machine was started.
func bootID() (string, error) {
	id, err := os.ReadFile(bootIDPath)
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// uploadPrefix begins the names of the temporary files of this process.
func (o *Options) uploadPrefix() string {
	if o.Instance == "" {
		return tempPrefix
	}
	return tempPrefix + o.Instance + "="
}

// sweep removes what a killed process was uploading into the build.
func sweep(dir, prefix string) error {
	entries, err := os.ReadDir(filepath.Join(dir, tempDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, tempDir, entry.Name())))
		}
	}
	return err
}

// collection is the collection id of the build repository, or "" when the
// repository has none.
func (b *Build) collection() string {
	if b.repo.opt.CollectionID == "" {
		return ""
	}
	return b.repo.opt.CollectionID + ".Build" + strconv.FormatInt(b.id, 10)
}

// Open opens a file of the build by its slash-separated path; objects that the
// build shares with the repository come from there. Errors are those of
// Repository.OpenFile. It waits for a running Commit, but not for long.
func (b *Build) Open(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := patience(ctx)
	defer cancel()
	done, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if hidden(path) || !fs.ValidPath(path) || strings.HasPrefix(path, uploadsDir+"/") {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	f, err := openRegular(b.dir, path)
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(path, "objects/") {
		return b.repo.OpenFile(path)
	}
	return f, err
}

// openRegular opens a regular file below dir by a path that comes from outside.
func openRegular(dir, path string) (*os.File, error) {
	f, err := os.OpenInRoot(dir, filepath.FromSlash(path))
	if err != nil {
		return nil, absent(path, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// isBadPath tells whether an error says that there can be no such file.
func isBadPath(err error) bool {
	return errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENAMETOOLONG) ||
		errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR)
}

// Remove deletes the build. What was published of it stays. A Commit or Publish
// that holds the build for long makes it give up; it may be called again.
func (b *Build) Remove(ctx context.Context) error {
	ctx, cancel := patience(ctx)
	defer cancel()
	done, err := b.seal(ctx)
	if errors.Is(err, errRemoved) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	defer done()
	b.removed.Store(true)
	defer b.repo.forget(b)
	// What makes it a build goes last, so that a crash leaves something that is
	// recognised.
	entries, err := os.ReadDir(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if entry.Name() != "config" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(b.dir, entry.Name())))
		}
	}
	if err == nil {
		err = os.RemoveAll(b.dir)
	}
	if err != nil {
		return fmt.Errorf("remove build %d: %w", b.id, err)
	}
	return nil
}

// sync forces everything that was written into the build to the disk.
func (b *Build) sync() (err error) {
	d, err := os.Open(b.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync build %d: %w", b.id, err)
	}
	return nil
}
