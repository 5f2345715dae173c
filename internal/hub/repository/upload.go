package repository

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"freshet/internal/ostree"
)

// Missing returns those of the objects that have to be uploaded: neither the
// build nor the repository has them. The order stays.
func (b *Build) Missing(ctx context.Context, wanted []ostree.ObjectName) ([]ostree.ObjectName, error) {
	done, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	missing := []ostree.ObjectName{}
	for _, name := range wanted {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		has, err := b.objects.Has(name)
		if err != nil {
			return nil, fmt.Errorf("look for object %s: %w", name, err)
		}
		if !has {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// PutObject stores an object and returns its stored size. It hashes what it
// reads; content that does not belong to the name leaves nothing behind and
// gives an *ostree.MismatchError or *ostree.ObjectError. An object that is there
// already is left alone, and r is not read. When Commit or Remove begins before
// r has ended, the error is ErrLateUpload.
func (b *Build) PutObject(ctx context.Context, name ostree.ObjectName, r io.Reader) (stored int64, err error) {
	epoch, done, err := b.admit(ctx)
	if err != nil {
		return 0, err
	}
	size, err := b.objects.StoredSize(name)
	done()
	if err == nil {
		return size, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("store object %s: %w", name, err)
	}
	return b.receive(ctx, epoch, name.Path(), r, func(r io.Reader) error {
		_, err := ostree.VerifyObject(name, r)
		return err
	})
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
	return b.receive(ctx, epoch, path, r, readAll)
}

// receive stores a file that comes over the network, as slowly as that may be:
// the build is held at the beginning and at the end only.
func (b *Build) receive(ctx context.Context, epoch int64, path string, r io.Reader, check func(io.Reader) error) (int64, error) {
	done, err := b.readmit(ctx, epoch)
	if err != nil {
		return 0, err
	}
	f, err := b.createTemp()
	done()
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, err)
	}
	stored, err := writeTemp(f, &timely{ctx: ctx, gate: b.gate, epoch: epoch, r: r}, check)
	if err == nil {
		if done, err = b.readmit(ctx, epoch); err == nil {
			err = b.settleTemp(f.Name(), path)
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
	if stored, err = writeTemp(f, r, check); err == nil {
		err = b.settleTemp(f.Name(), path)
	}
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, errors.Join(err, discardTemp(f.Name())))
	}
	return stored, nil
}

func (b *Build) createTemp() (*os.File, error) {
	return os.CreateTemp(filepath.Join(b.dir, tempDir), tempPrefix)
}

// writeTemp writes what check reads, and closes the file.
func writeTemp(f *os.File, r io.Reader, check func(io.Reader) error) (int64, error) {
	w := bufio.NewWriterSize(f, copyBuffer)
	counted := &counter{w: w}
	err := check(io.TeeReader(bufio.NewReaderSize(r, copyBuffer), counted))
	if err == nil {
		err = errors.Join(w.Flush(), f.Chmod(0o644))
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

// copyBuffer is the size of reads and writes of uploads.
const copyBuffer = 64 << 10

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
