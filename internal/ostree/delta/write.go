package delta

import (
	"context"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"slices"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta/bsdiff"
	"freshet/internal/xz"
)

// Runs of content that are shorter are compressed with what is plain: a block
// of their own would cost more than it saves.
const (
	minX86    = 64 << 10
	minStored = 4 << 10
)

// partWriter writes one part, as a stream.
type partWriter struct {
	g *generator

	xz      *xz.Writer
	part    Part // without payload
	modes   map[Mode]uint64
	xattrs  map[string]uint64
	payload uint64 // bytes so far
}

func (w *partWriter) write(ctx context.Context, out io.Writer, objects []*object) (err error) {
	w.dictionaries(objects)
	if _, err := out.Write([]byte{fileXZ}); err != nil {
		return err
	}
	if w.xz, err = xz.NewWriter(out); err != nil {
		return err
	}
	err = w.content(ctx, objects)
	if cerr := w.xz.Close(); err == nil {
		err = cerr
	}
	return err
}

// dictionaries collects the modes and sets of xattrs.
func (w *partWriter) dictionaries(objects []*object) {
	w.modes, w.xattrs = map[Mode]uint64{}, map[string]uint64{}
	for _, o := range objects {
		if o.header == nil {
			continue
		}
		mode := modeOf(o.header)
		if _, ok := w.modes[mode]; !ok {
			w.modes[mode] = uint64(len(w.part.Modes))
			w.part.Modes = append(w.part.Modes, mode)
		}
		key := xattrKey(o.header.Xattrs)
		if _, ok := w.xattrs[key]; !ok {
			w.xattrs[key] = uint64(len(w.part.Xattrs))
			w.part.Xattrs = append(w.part.Xattrs, o.header.Xattrs)
		}
	}
}

func modeOf(h *ostree.FileHeader) Mode { return Mode{h.UID, h.GID, h.Mode} }

// xattrKey is different for different sets.
func xattrKey(xattrs []ostree.Xattr) string {
	var key []byte
	for _, x := range xattrs {
		for _, b := range [][]byte{x.Name, x.Value} {
			key = append(binary.AppendUvarint(key, uint64(len(b))), b...)
		}
	}
	return string(key)
}

// content writes head, payload and program, in blocks by kind.
func (w *partWriter) content(ctx context.Context, objects []*object) error {
	var sizes [kindPlain + 1]uint64
	for _, o := range objects {
		sizes[o.kind] += o.predict()
	}
	if sizes[kindX86] < minX86 {
		sizes[kindPlain] += sizes[kindX86]
		sizes[kindX86] = 0
	}
	if sizes[kindStored] < minStored {
		sizes[kindPlain] += sizes[kindStored]
		sizes[kindStored] = 0
	}
	head, ends := w.part.head()
	open := false
	begin := func(k kind) error {
		open = true
		if k == kindStored {
			return w.xz.Begin(xz.Stored())
		}
		// What follows the payload belongs to the last block.
		return w.xz.Begin(w.g.opt.Compress(ctx, sizes[k]+uint64(len(head)+16*len(objects)), k == kindX86))
	}
	last := kindPlain
	for i, o := range objects {
		k := o.kind
		if sizes[k] == 0 {
			k = kindPlain
		}
		if i == 0 || k != last {
			if err := begin(k); err != nil {
				return err
			}
			last = k
		}
		if i == 0 {
			if _, err := w.xz.Write(head); err != nil {
				return err
			}
		}
		if err := w.object(ctx, o); err != nil {
			return err
		}
	}
	if last != kindPlain || !open {
		if err := begin(kindPlain); err != nil {
			return err
		}
		if len(objects) == 0 {
			if _, err := w.xz.Write(head); err != nil {
				return err
			}
		}
	}
	_, err := w.xz.Write(w.part.tail(ends, int(w.payload)))
	return err
}

// predict is about how many bytes of payload an object takes.
func (o *object) predict() uint64 {
	if o.recipe == nil {
		return o.size
	}
	return o.recipe.payload
}

func (w *partWriter) op(o Op, t ostree.ObjectType) {
	w.part.Program = appendOp(w.part.Program, o, t)
}

// add appends to the payload.
func (w *partWriter) add(p []byte) error {
	w.payload += uint64(len(p))
	_, err := w.xz.Write(p)
	return err
}

// Write is add, for those who need an io.Writer.
func (w *partWriter) Write(p []byte) (int, error) {
	if err := w.add(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// object writes what an object takes.
func (w *partWriter) object(ctx context.Context, o *object) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.recipe != nil {
		return w.made(ctx, o)
	}
	op := Op{Code: OpSplice, Size: o.size, Offset: w.payload}
	if o.header != nil {
		op.Mode, op.Xattrs = w.modes[modeOf(o.header)], w.xattrs[xattrKey(o.header.Xattrs)]
	}
	w.op(op, o.name.Type)
	switch {
	case o.name.Type != ostree.TypeFile:
		return w.metadata(o)
	case o.header.IsSymlink():
		return w.add([]byte(o.header.Symlink))
	}
	return copyContent(w, w.g.repo, o.name.Checksum)
}

func (w *partWriter) metadata(o *object) (err error) {
	f, err := w.g.repo.Open(o.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, int64(o.size)+1))
	if err != nil {
		return &ostree.ObjectError{Name: o.name, Err: err}
	}
	if actual := ostree.ChecksumOf(data); actual != o.name.Checksum {
		return &ostree.MismatchError{Name: o.name, Actual: actual}
	}
	return w.add(data)
}

// made writes a file that is made of an earlier one.
func (w *partWriter) made(ctx context.Context, o *object) error {
	r := o.recipe
	source := w.payload
	if err := w.add(r.source[:]); err != nil {
		return err
	}
	w.op(Op{
		Code: OpOpen, Mode: w.modes[modeOf(o.header)], Xattrs: w.xattrs[xattrKey(o.header.Xattrs)], Size: o.size,
	}, ostree.TypeFile)
	err := w.g.withMemory(ctx, w.g.windows.memory(r.size, o.size), func() error {
		if r.patch {
			return w.patch(o, source)
		}
		return w.copies(o, source)
	})
	w.op(Op{Code: OpClose}, ostree.TypeFile)
	return err
}

func (w *partWriter) patch(o *object, source uint64) (err error) {
	r := o.recipe
	before, err := openContent(w.g.repo, r.source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, before.Close()) }()
	after, err := openContent(w.g.repo, o.name.Checksum)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, after.Close()) }()
	start := w.payload
	w.op(Op{Code: OpSource, Offset: source}, ostree.TypeFile)
	at := 0 // in all of the source
	old, new := slider{content: before, pool: &w.g.buffers}, slider{content: after, pool: &w.g.buffers}
	defer old.release()
	defer new.release()
	for _, x := range r.windows {
		o, err := old.show(x.old, x.old+uint64(x.oldLen))
		if err != nil {
			return err
		}
		n, err := new.show(x.new, x.new+uint64(x.newLen))
		if err != nil {
			return err
		}
		end, err := bsdiff.WritePatch(w, o, n, x.matches, at-int(x.old))
		if err != nil {
			return err
		}
		at = int(x.old) + end
	}
	w.op(Op{Code: OpPatch, Offset: start, Size: w.payload - start}, ostree.TypeFile)
	return errors.Join(before.finish(), after.finish())
}

func (w *partWriter) copies(o *object, source uint64) (err error) {
	after, err := openContent(w.g.repo, o.name.Checksum)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, after.Close()) }()
	new := slider{content: after, pool: &w.g.buffers}
	defer new.release()
	set := false
	for _, x := range o.recipe.windows {
		n, err := new.show(x.new, x.new+uint64(x.newLen))
		if err != nil {
			return err
		}
		at := 0
		for _, m := range append(slices.Clip(x.matches), bsdiff.Match{New: len(n)}) {
			if m.New > at {
				if set {
					w.op(Op{Code: OpUnset}, ostree.TypeFile)
					set = false
				}
				w.op(Op{Code: OpWrite, Size: uint64(m.New - at), Offset: w.payload}, ostree.TypeFile)
				if err := w.add(n[at:m.New]); err != nil {
					return err
				}
			}
			if at = m.New + m.Len; m.Len == 0 {
				continue
			}
			if !set {
				w.op(Op{Code: OpSource, Offset: source}, ostree.TypeFile)
				set = true
			}
			w.op(Op{Code: OpWrite, Size: uint64(m.Len), Offset: x.old + uint64(m.Old)}, ostree.TypeFile)
		}
	}
	return after.finish()
}

// measured counts and hashes what is written through it.
type measured struct {
	w   io.Writer
	sum hash.Hash
	n   uint64
}

func (m *measured) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.sum.Write(p[:n])
	m.n += uint64(n)
	return n, err
}
