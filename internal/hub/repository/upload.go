package repository

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"freshet/internal/hub/repolock"
	"freshet/internal/ostree"
)

// Missing returns those of the objects that have to be uploaded: neither the
// build nor the repository has them, or what they have is seen to be damaged. The
// order stays. What the repository has stays until the build is removed, whatever is
// pruned.
func (b *Build) Missing(ctx context.Context, wanted []ostree.ObjectName) ([]ostree.ObjectName, error) {
	done, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	there := make([]ostree.ObjectName, 0, len(wanted))
	for _, name := range wanted {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		switch _, err := probe(b.objects, name); {
		case err == nil:
			there = append(there, name)
		case !errors.Is(err, fs.ErrNotExist):
			b.repo.log.WarnContext(ctx, "an object is damaged", slog.String("object", name.String()), slog.Any("error", err))
		}
	}
	if there, err = b.rely(ctx, there); err != nil {
		return nil, err
	}
	missing := []ostree.ObjectName{}
	for _, name := range wanted {
		if len(there) > 0 && there[0] == name {
			there = there[1:]
			continue
		}
		missing = append(missing, name)
	}
	return missing, nil
}

// rely sees to it that objects stay while the build does, and returns those for which
// that was not too late, in their order.
func (b *Build) rely(ctx context.Context, names []ostree.ObjectName) ([]ostree.ObjectName, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if err := b.relied.Add(names...); err != nil {
		return nil, fmt.Errorf("build %d: keep published objects: %w", b.id, err)
	}
	// Who deletes now may have begun before.
	lock, err := repolock.Shared(ctx, b.repo.root)
	if err != nil {
		return nil, err
	}
	if err := lock.Release(); err != nil {
		return nil, err
	}
	kept := make([]ostree.ObjectName, 0, len(names))
	for _, name := range names {
		there, err := b.objects.Has(name)
		if err != nil {
			return nil, err
		}
		if there {
			kept = append(kept, name)
		}
	}
	return kept, nil
}

// PutObject stores an object and returns its stored size. It hashes what it
// reads; content that does not belong to the name leaves nothing behind and
// gives an *ostree.MismatchError or *ostree.ObjectError. An object that is there
// already and whole is left alone, and r is not read; a damaged one is replaced,
// in the repository too. When Commit or Remove begins before
// r has ended, the error is ErrLateUpload.
func (b *Build) PutObject(ctx context.Context, name ostree.ObjectName, r io.Reader) (stored int64, err error) {
	epoch, done, err := b.admit(ctx)
	if err != nil {
		return 0, err
	}
	size, damaged, err := b.has(name)
	if err == nil {
		var kept []ostree.ObjectName
		if kept, err = b.rely(ctx, []ostree.ObjectName{name}); err == nil && len(kept) == 0 {
			err = fs.ErrNotExist
		}
	}
	done()
	if err == nil {
		return size, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("store object %s: %w", name, err)
	}
	place := func(temp string) error { return b.settleTemp(temp, name.Path()) }
	if damaged {
		place = func(temp string) error { return b.repo.replace(ctx, name, temp) }
	}
	return b.receive(ctx, epoch, name.Path(), r, place, func(r io.Reader) error {
		_, err := ostree.VerifyObject(name, r)
		return err
	})
}

// has returns the stored size of an object after it was verified as a whole. When
// the repository or, if it is not there, the build has none that is what it should
// be, the error is fs.ErrNotExist; damaged says that the repository has another, or had
// until it was put into quarantine.
func (b *Build) has(name ostree.ObjectName) (size int64, damaged bool, err error) {
	if b.repo.apart(name) {
		return 0, true, fs.ErrNotExist
	}
	for _, dir := range [...]string{b.repo.opt.Dir, b.dir} {
		path := filepath.Join(dir, filepath.FromSlash(name.Path()))
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, false, err
		}
		// The name of signatures says nothing about them.
		if name.Type == ostree.TypeCommitMeta || verifyFile(path, name) == nil {
			return info.Size(), false, nil
		}
		return 0, dir == b.repo.opt.Dir, fs.ErrNotExist
	}
	return 0, false, fs.ErrNotExist
}

// PutDelta stores a file of a static delta. It is checked by Commit. Errors of
// lateness are those of PutObject.
func (b *Build) PutDelta(ctx context.Context, name ostree.DeltaFile, r io.Reader) (stored int64, err error) {
	epoch, done, err := b.admit(ctx)
	if err != nil {
		return 0, err
	}
	done()
	path := uploadsDir + "/" + strings.TrimPrefix(name.Path(), "deltas/")
	return b.receive(ctx, epoch, path, r, func(temp string) error { return b.settleTemp(temp, path) }, readAll)
}

// receive stores a file that comes over the network, as slowly as that may be:
// the build is held at the beginning and at the end only. When check is content,
// place gives the file its name.
func (b *Build) receive(ctx context.Context, epoch int64, path string, r io.Reader, place func(temp string) error, check func(io.Reader) error) (int64, error) {
	done, err := b.readmit(ctx, epoch)
	if err != nil {
		return 0, err
	}
	f, err := b.createTemp()
	done()
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, err)
	}
	stored, err := b.writeTemp(f, &timely{ctx: ctx, gate: b.gate, epoch: epoch, r: r}, check)
	if err == nil {
		if done, err = b.readmit(ctx, epoch); err == nil {
			err = place(f.Name())
			done()
		}
	}
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, errors.Join(err, discardTemp(f.Name())))
	}
	return stored, nil
}

// timely ends a body when nobody waits for it any more.
type timely struct {
	ctx   context.Context //nolint:containedctx // lives as long as the call
	gate  *gate
	epoch int64
	r     io.Reader
}

// Read implements io.Reader.
func (t *timely) Read(p []byte) (int, error) {
	if err := context.Cause(t.ctx); err != nil {
		return 0, err
	}
	if err := t.gate.inTime(t.epoch); err != nil {
		return 0, err
	}
	return t.r.Read(p)
}

// put writes a file of the build as check reads it, and gives it its name
// when check is content. The caller holds the build.
func (b *Build) put(ctx context.Context, path string, r io.Reader, check func(io.Reader) error) (stored int64, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	f, err := b.createTemp()
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, err)
	}
	if stored, err = b.writeTemp(f, r, check); err == nil {
		err = b.settleTemp(f.Name(), path)
	}
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, errors.Join(err, discardTemp(f.Name())))
	}
	return stored, nil
}

func (b *Build) createTemp() (*os.File, error) {
	return os.CreateTemp(filepath.Join(b.dir, tempDir), b.repo.opt.uploadPrefix())
}

// writeTemp writes what check reads, and closes the file.
func (b *Build) writeTemp(f *os.File, r io.Reader, check func(io.Reader) error) (int64, error) {
	w, ok := writers.Get().(*bufio.Writer)
	if !ok {
		w = bufio.NewWriterSize(nil, copyBuffer)
	}
	w.Reset(f)
	defer func() {
		w.Reset(nil)
		writers.Put(w)
	}()
	counted := &counter{w: w}
	err := check(io.TeeReader(r, counted))
	if err == nil {
		err = errors.Join(w.Flush(), f.Chmod(0o644))
	}
	if err == nil && b.repo.opt.Instance != "" {
		err = f.Sync()
	}
	return counted.n, errors.Join(err, f.Close())
}

// settleTemp gives a file that is complete its name.
func (b *Build) settleTemp(temp, path string) error {
	target := filepath.Join(b.dir, filepath.FromSlash(path))
	err := os.Rename(temp, target)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
			err = os.Rename(temp, target)
		}
	}
	return err
}

// discardTemp removes a file that did not get its name; Remove may have been
// faster.
func discardTemp(temp string) error {
	if err := os.Remove(temp); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copyBuffer is the size of writes of uploads.
const copyBuffer = 64 << 10

// writers are kept for the next object: most are much smaller than the buffer, which
// costs more to make than to use.
var writers sync.Pool // of *bufio.Writer

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
