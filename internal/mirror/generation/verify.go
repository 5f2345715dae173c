package generation

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"freshet/internal/durable"

	"golang.org/x/sys/unix"
)

// ErrDamaged is wrapped by what Verify says of files that are not what the manifest
// says.
var ErrDamaged = errors.New("damaged on the disk")

// VerifyOptions are what a check is told; the zero value reads all as fast as it can
// and changes nothing.
type VerifyOptions struct {
	// After is the path behind which the check begins: the last one that a former
	// check, which was interrupted, has told of.
	After string
	// Read, if set, is called before bytes are read, and may wait. An error ends the
	// check.
	Read func(ctx context.Context, bytes int) error
	// Remove says to take damaged files away, so that nobody is served them and the
	// next sync fetches them: Keep does not find them.
	Remove bool
}

// verifyChunk is how much is read at once.
const verifyChunk = 1 << 20

// Verify reads all files of a generation and compares them with the manifest. Each
// is told to each, sorted by path, with nil or what is wrong: an error that is
// [ErrDamaged]. An error of each, of ctx and of the manifest ends it. The generation
// is one of the project's.
func (p *Project) Verify(ctx context.Context, g *Generation, opts VerifyOptions, each func(File, error) error) (err error) {
	t, err := openTree(p.dir, generationsName+"/"+g.ID()+"/"+treeName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	v := verifier{opts: opts, tree: t, objects: p.store.objects, buf: make([]byte, verifyChunk)}
	for f, err := range g.Files() {
		if err != nil {
			return err
		}
		if f.Path <= opts.After {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		damage, err := v.file(ctx, f)
		if err == nil {
			err = each(f, damage)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type verifier struct {
	opts    VerifyOptions
	tree    *tree
	objects *objects
	buf     []byte
}

// file returns what is wrong with a file, or why it could not be checked.
func (v *verifier) file(ctx context.Context, f File) (damage, err error) {
	in, name, err := v.tree.at(f.Path, false)
	if err == nil {
		damage, err = v.compare(ctx, in, name, f)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%.200q is missing: %w: %w", f.Path, ErrDamaged, fs.ErrNotExist), nil
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EUCLEAN):
		damage = fmt.Errorf("%.200q cannot be read: %w: %w", f.Path, ErrDamaged, err)
	case err != nil:
		return nil, err
	}
	if damage != nil && v.opts.Remove {
		return damage, v.remove(in, name, f)
	}
	return damage, nil
}

func (v *verifier) compare(ctx context.Context, in *durable.Folder, name string, f File) (damage, err error) {
	if f.IsLink() {
		if target, err := in.Readlink(name); err != nil || target == f.Link {
			return nil, err
		}
		return fmt.Errorf("%.200q is not the link to %.200q any more: %w", f.Path, f.Link, ErrDamaged), nil
	}
	info, err := in.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode.IsRegular() || info.Size != f.Size || info.ModTime.Unix() != f.ModTime.Unix() {
		return fmt.Errorf("%.200q has %d bytes of %s (%s) in the place of %d of %s: %w",
			f.Path, info.Size, whole(info.ModTime), info.Mode, f.Size, f.ModTime, ErrDamaged), nil
	}
	sum, err := v.hash(ctx, in, name, f.Size)
	if err != nil || sum == f.SHA256 {
		return nil, err
	}
	return fmt.Errorf("%.200q has the SHA-256 %x in the place of %x: %w", f.Path, sum, f.SHA256, ErrDamaged), nil
}

// hash reads a file of this size.
func (v *verifier) hash(ctx context.Context, in *durable.Folder, name string, size int64) (sum [32]byte, err error) {
	file, err := in.Open(name)
	if err != nil {
		return sum, err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	// What is read here is not going to be read again soon: let it not take the place
	// of what is served. Where the system does not know that, nothing is lost.
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_NOREUSE)
	h := sha256.New()
	for {
		if next := int(min(size, int64(len(v.buf)))); v.opts.Read != nil && next > 0 {
			if err := v.opts.Read(ctx, next); err != nil {
				return sum, err
			}
		}
		n, err := file.Read(v.buf)
		h.Write(v.buf[:n])
		size -= int64(n)
		if errors.Is(err, io.EOF) {
			return [32]byte(h.Sum(nil)), nil
		}
		if err != nil {
			return sum, err
		}
	}
}

// remove takes the name of a damaged file away, and that of the object if it is the
// same file.
func (v *verifier) remove(in *durable.Folder, name string, f File) error {
	info, err := in.Lstat(name)
	if err != nil {
		return err
	}
	if err := in.Remove(name); err != nil || f.IsLink() {
		return err
	}
	if same, err := v.objects.isFile(f.SHA256, info.Inode); err != nil || !same {
		return err
	}
	return v.objects.forget(f.SHA256)
}
