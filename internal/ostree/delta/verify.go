package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"freshet/internal/ostree"
)

// Verify checks that a client which has the earlier commit, and nothing else,
// gets the whole commit by the delta: each part is what the superblock says,
// making the objects gives what their names say, and with those that are
// fetched singly, and those of the earlier commit, none is missing. Both
// commits must be complete in the repository. Parts that are not in the
// superblock itself are read by open.
//
// Memory holds one part, and of files that are patched both versions. Earlier
// versions that are larger than [MaxHeld] are laid down in the folder scratch while
// they are needed, as files without a name; "" holds them in memory.
func Verify(ctx context.Context, repo Repo, block *ostree.Superblock, open func(part int) (io.ReadCloser, error), scratch string) error {
	v := verifier{repo: repo, block: block, open: open, scratch: scratch}
	if err := v.run(ctx); err != nil {
		return fmt.Errorf("verify delta %s: %w", block.Name.Hex(), err)
	}
	return nil
}

type verifier struct {
	repo    Repo
	block   *ostree.Superblock
	open    func(part int) (io.ReadCloser, error)
	scratch string
}

func (v *verifier) run(ctx context.Context) error {
	if len(v.block.Recursion) > 0 {
		return fmt.Errorf("%w: it builds on other deltas", ostree.ErrUnsupported)
	}
	to, err := readTree(ctx, v.repo, v.block.Name.To)
	if err != nil {
		return err
	}
	from, err := readTree(ctx, v.repo, v.block.Name.From)
	if err != nil {
		return err
	}
	have := from.has
	// Sources are taken from the earlier commit only: parts come in any order.
	sources := &repoSources{repo: v.repo, known: from, scratch: v.scratch}
	made := map[ostree.ObjectName]struct{}{}
	for i := range v.block.Parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.part(i, sources); err != nil {
			return fmt.Errorf("part %d: %w", i, err)
		}
		for _, n := range v.block.Parts[i].Objects {
			made[n] = struct{}{}
		}
	}
	for _, f := range v.block.Fallbacks {
		if err := v.fallback(f); err != nil {
			return err
		}
		made[f.Object] = struct{}{}
	}
	for n := range to.has {
		_, before := have[n]
		if _, now := made[n]; !before && !now {
			return fmt.Errorf("%w: object %s is not in it", ostree.ErrMalformed, n)
		}
	}
	return nil
}

// fallback checks that an object to be fetched has the sizes that are told.
func (v *verifier) fallback(f ostree.DeltaFallback) error {
	stored, err := v.repo.Open(f.Object)
	if err != nil {
		return err
	}
	info, err := stored.Stat()
	size := f.USize
	if err == nil && f.Object.Type == ostree.TypeFile {
		var z *ostree.FilezReader
		if z, err = ostree.NewFilezReader(stored); err == nil {
			size = z.Size()
			err = z.Close()
		}
	}
	if err := errors.Join(err, stored.Close()); err != nil {
		return &ostree.ObjectError{Name: f.Object, Err: err}
	}
	if uint64(info.Size()) != f.Size || size != f.USize {
		return fmt.Errorf("%w: object %s has %d bytes and %d of content, not %d and %d", ostree.ErrMalformed, f.Object, info.Size(), size, f.Size, f.USize)
	}
	return nil
}

func (v *verifier) part(number int, sources Sources) error {
	want := v.block.Parts[number]
	content, err := v.read(number, PartLimit(want))
	if err != nil {
		return err
	}
	return Apply(content, want.Objects, sources, Discard{})
}

// read reads a part, from its file or from the superblock.
func (v *verifier) read(number int, limit int64) (p *Part, err error) {
	if inline, ok := v.block.Metadata.Get(v.block.Name.PartPath(number)); ok {
		if !inline.Is("(yay)") {
			return nil, fmt.Errorf("%w: inline part of type %.20s", ostree.ErrMalformed, inline.Type())
		}
		// The checksum is over the bytes as they would be in a file.
		file := append([]byte{inline.Child(0).Byte()}, inline.Child(1).Bytes()...)
		if err := v.block.VerifyPart(number, bytes.NewReader(file)); err != nil {
			return nil, err
		}
		return ReadPart(bytes.NewReader(file), limit)
	}
	for _, read := range []func(io.Reader) error{
		func(r io.Reader) error { return v.block.VerifyPart(number, r) },
		func(r io.Reader) (err error) { p, err = ReadPart(r, limit); return err },
	} {
		f, err := v.open(number)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(read(f), f.Close()); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// repoSources opens files of a commit in the repository.
type repoSources struct {
	repo    Repo
	known   *tree
	scratch string
}

func (s *repoSources) OpenContent(c ostree.Checksum) (Content, error) {
	name := ostree.ObjectName{Checksum: c, Type: ostree.TypeFile}
	if _, ok := s.known.has[name]; !ok {
		return nil, fmt.Errorf("%w: source %s is not in the earlier commit", ostree.ErrMalformed, name)
	}
	from, err := openContent(s.repo, c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = from.Close() }() // it was read
	if s.scratch != "" && from.z.Size() > MaxHeld {
		return layDown(from, s.scratch)
	}
	var content bytes.Buffer
	_, err = io.Copy(&bounded{w: &content, left: MaxSource}, from)
	return memory{bytes.NewReader(content.Bytes())}, err
}

// MaxHeld is the size of an earlier version up to which it is held in memory.
const MaxHeld = 16 << 20

// layDown writes a content into a file that goes when it is closed.
func layDown(from io.Reader, dir string) (Content, error) {
	f, err := os.CreateTemp(dir, "source-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	var size int64
	if err == nil {
		size, err = io.Copy(f, from)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &laidDown{f, size}, nil
}

type laidDown struct {
	*os.File

	size int64
}

// Size implements [Content].
func (l *laidDown) Size() int64 { return l.size }

// bounded refuses to write more than so many bytes.
type bounded struct {
	w    io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fmt.Errorf("%w: source of more than %d bytes", ostree.ErrTooLarge, MaxSource)
	}
	return b.w.Write(p)
}

// MaxSource bounds the files that a delta builds on when it is verified; they
// are held in memory.
const MaxSource = 1 << 30

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }
