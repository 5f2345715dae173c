package delta

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta/bsdiff"
)

// MaxPatched bounds files that are patched: patching holds both versions in
// memory. Files that are put together of pieces are not bounded.
const MaxPatched = 128 << 20

// Content is the content of a file that the client of a delta has.
type Content interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Sources opens the files that a delta builds on.
type Sources interface {
	// OpenContent opens the content of a file object. It is closed after use.
	OpenContent(c ostree.Checksum) (Content, error)
}

// Output takes the objects that a delta makes, one at a time.
type Output interface {
	// Metadata takes a metadata object, whose checksum is verified.
	Metadata(name ostree.ObjectName, data []byte) error
	// File begins a file object. What is written to the result is its content,
	// and Close is called at the end. The checksum is verified only then: what
	// came is not to be used when Apply ends with an error.
	File(c ostree.Checksum, h *ostree.FileHeader, size uint64) (io.WriteCloser, error)
}

// Discard is an [Output] that keeps nothing, for verifying.
type Discard struct{}

// Metadata implements [Output].
func (Discard) Metadata(ostree.ObjectName, []byte) error { return nil }

// File implements [Output].
func (Discard) File(ostree.Checksum, *ostree.FileHeader, uint64) (io.WriteCloser, error) {
	return discardFile{io.Discard}, nil
}

type discardFile struct{ io.Writer }

func (discardFile) Close() error { return nil }

// Apply carries a part out: it makes the objects, in their order, and verifies
// each against its name. Bad bytes give an error that wraps
// [ostree.ErrMalformed] or [ostree.ErrTooLarge], or an [*ostree.MismatchError].
func Apply(p *Part, objects []ostree.ObjectName, from Sources, to Output) error {
	m := machine{part: p, from: from, to: to}
	defer m.abandon()
	program := p.Program
	for i, name := range objects {
		if err := m.object(name, &program); err != nil {
			return fmt.Errorf("apply part: object %d, %s: %w", i, name, err)
		}
	}
	// libostree writes an unset after each file that it patches, the last one too.
	for len(program) > 0 {
		op, rest, err := nextOp(program, ostree.TypeFile)
		if err != nil || op.Code != OpUnset {
			return fmt.Errorf("apply part: %w: operations after the last object", ostree.ErrMalformed)
		}
		program = rest
	}
	return nil
}

// machine executes a program.
type machine struct {
	part *Part
	from Sources
	to   Output

	source Content // nil: none set
	file   *making
	buf    []byte
}

// making is a file that was opened.
type making struct {
	size    uint64
	written uint64
	sum     hash.Hash
	out     io.WriteCloser
}

// abandon closes what an error has left open.
func (m *machine) abandon() {
	_ = m.unset() // only read
	if m.file != nil && m.file.out != nil {
		_ = m.file.out.Close() // not to be used
	}
}

// object executes the ops of one object.
func (m *machine) object(name ostree.ObjectName, program *[]byte) error {
	for len(*program) > 0 {
		op, rest, err := nextOp(*program, name.Type)
		if err != nil {
			return err
		}
		*program = rest
		done, err := m.step(op, name)
		if err != nil {
			return fmt.Errorf("operation %q: %w", op.Code, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("%w: no operations for it", ostree.ErrMalformed)
}

// step executes an op and tells whether the object is complete with it.
func (m *machine) step(op Op, name ostree.ObjectName) (done bool, err error) {
	switch op.Code {
	case OpSplice:
		return true, m.splice(op, name)
	case OpOpen:
		return false, m.open(op, name)
	case OpWrite:
		return false, m.write(op)
	case OpSource:
		return false, m.setSource(op.Offset)
	case OpUnset:
		return false, m.unset()
	case OpPatch:
		return false, m.patch(op)
	case OpClose:
		return true, m.close(name)
	}
	return false, ostree.ErrUnsupported
}

// piece is a part of the payload.
func (m *machine) piece(offset, size uint64) ([]byte, error) {
	have := uint64(len(m.part.Payload))
	if offset > have || size > have-offset {
		return nil, fmt.Errorf("%w: %d bytes at %d of a payload of %d", ostree.ErrMalformed, size, offset, have)
	}
	return m.part.Payload[offset : offset+size], nil
}

func (m *machine) splice(op Op, name ostree.ObjectName) error {
	data, err := m.piece(op.Offset, op.Size)
	if err != nil {
		return err
	}
	if name.Type != ostree.TypeFile {
		if _, err := ostree.VerifyObject(name, bytes.NewReader(data)); err != nil {
			return err
		}
		return m.to.Metadata(name, data)
	}
	if err := m.open(op, name); err != nil {
		return err
	}
	if m.file.out != nil { // not of a symlink
		if err := m.append(data); err != nil {
			return err
		}
	}
	return m.close(name)
}

// open begins a file. For a symlink, the op is a splice and the target is in
// the payload.
func (m *machine) open(op Op, name ostree.ObjectName) error {
	if name.Type != ostree.TypeFile || m.file != nil {
		return fmt.Errorf("%w: not possible here", ostree.ErrMalformed)
	}
	if op.Mode >= uint64(len(m.part.Modes)) || op.Xattrs >= uint64(len(m.part.Xattrs)) {
		return fmt.Errorf("%w: mode %d and xattrs %d", ostree.ErrMalformed, op.Mode, op.Xattrs)
	}
	mode := m.part.Modes[op.Mode]
	h := ostree.FileHeader{UID: mode.UID, GID: mode.GID, Mode: mode.Mode, Xattrs: m.part.Xattrs[op.Xattrs]}
	size := op.Size
	if h.IsSymlink() {
		target, err := m.piece(op.Offset, op.Size)
		if err != nil || op.Code != OpSplice {
			return fmt.Errorf("%w: symlink without target", ostree.ErrMalformed)
		}
		h.Symlink, size = string(target), 0
	}
	if err := h.Validate(); err != nil {
		return err
	}
	out, err := m.to.File(name.Checksum, &h, size)
	if err != nil {
		return err
	}
	m.file = &making{size: size, sum: ostree.NewFileHash(h), out: out}
	if h.IsSymlink() {
		m.file.out = nil
		return out.Close()
	}
	return nil
}

// append adds content to the file.
func (m *machine) append(data []byte) error {
	f := m.file
	if f == nil || f.out == nil || uint64(len(data)) > f.size-f.written {
		return fmt.Errorf("%w: %d bytes too many", ostree.ErrMalformed, len(data))
	}
	f.written += uint64(len(data))
	f.sum.Write(data)
	_, err := f.out.Write(data)
	return err
}

func (m *machine) write(op Op) error {
	if m.source == nil {
		data, err := m.piece(op.Offset, op.Size)
		if err != nil {
			return err
		}
		return m.append(data)
	}
	have := uint64(m.source.Size())
	if op.Offset > have || op.Size > have-op.Offset {
		return fmt.Errorf("%w: %d bytes at %d of a source of %d", ostree.ErrMalformed, op.Size, op.Offset, have)
	}
	if m.buf == nil {
		m.buf = make([]byte, 64<<10)
	}
	for at, end := op.Offset, op.Offset+op.Size; at < end; {
		buf := m.buf[:min(uint64(len(m.buf)), end-at)]
		if err := readAt(m.source, buf, int64(at)); err != nil {
			return err
		}
		if err := m.append(buf); err != nil {
			return err
		}
		at += uint64(len(buf))
	}
	return nil
}

func (m *machine) setSource(offset uint64) error {
	if err := m.unset(); err != nil {
		return err
	}
	name, err := m.piece(offset, sha256.Size)
	if err != nil {
		return err
	}
	m.source, err = m.from.OpenContent(ostree.Checksum(name))
	return err
}

func (m *machine) unset() error {
	if m.source == nil {
		return nil
	}
	source := m.source
	m.source = nil
	return source.Close()
}

func (m *machine) patch(op Op) error {
	if m.file == nil || m.source == nil {
		return fmt.Errorf("%w: nothing to patch", ostree.ErrMalformed)
	}
	if m.file.size > MaxPatched || m.source.Size() > MaxPatched {
		return fmt.Errorf("%w: patch of %d to %d bytes", ostree.ErrTooLarge, m.source.Size(), m.file.size)
	}
	patch, err := m.piece(op.Offset, op.Size)
	if err != nil {
		return err
	}
	if uint64(len(patch)) < m.file.size { // so the size is no mere promise
		return fmt.Errorf("%w: patch of %d bytes for %d", ostree.ErrMalformed, len(patch), m.file.size)
	}
	old := make([]byte, m.source.Size())
	if err := readAt(m.source, old, 0); err != nil {
		return err
	}
	content := make([]byte, m.file.size)
	if err := bsdiff.Patch(content, old, patch); err != nil {
		return fmt.Errorf("%w: %w", ostree.ErrMalformed, err)
	}
	return m.append(content)
}

// close ends a file and verifies it.
func (m *machine) close(name ostree.ObjectName) error {
	f := m.file
	if f == nil || f.written != f.size {
		return fmt.Errorf("%w: file is not complete", ostree.ErrMalformed)
	}
	m.file = nil
	if f.out != nil {
		if err := f.out.Close(); err != nil {
			return err
		}
	}
	if actual := ostree.Checksum(f.sum.Sum(nil)); actual != name.Checksum {
		return &ostree.MismatchError{Name: name, Actual: actual}
	}
	return m.unset()
}

// readAt fills b.
func readAt(r io.ReaderAt, b []byte, offset int64) error {
	if n, err := r.ReadAt(b, offset); n < len(b) {
		return err
	}
	return nil
}
