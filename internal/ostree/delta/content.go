package delta

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"sync"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta/bsdiff"
)

// content reads a file of a repository from its beginning to its end. Before
// the end comes, the checksum is verified.
type content struct {
	name   ostree.ObjectName
	stored fs.File
	z      *ostree.FilezReader
	sum    hash.Hash
}

func openContent(repo Repo, sum ostree.Checksum) (*content, error) {
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}
	stored, err := repo.Open(name)
	if err != nil {
		return nil, err
	}
	z, err := ostree.NewFilezReader(stored)
	if err != nil {
		return nil, errors.Join(&ostree.ObjectError{Name: name, Err: err}, stored.Close())
	}
	return &content{name: name, stored: stored, z: z, sum: ostree.NewFileHash(*z.Header())}, nil
}

func (c *content) Read(p []byte) (int, error) {
	n, err := c.z.Read(p)
	c.sum.Write(p[:n])
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF):
		err = &ostree.ObjectError{Name: c.name, Err: err}
	default:
		if actual := ostree.Checksum(c.sum.Sum(nil)); actual != c.name.Checksum {
			err = &ostree.MismatchError{Name: c.name, Actual: actual}
		}
	}
	return n, err
}

// finish reads what is left, so that all is verified.
func (c *content) finish() error {
	_, err := io.Copy(io.Discard, c)
	return err
}

func (c *content) Close() error { return errors.Join(c.z.Close(), c.stored.Close()) }

// copyContent writes the content of a file to w.
func copyContent(w io.Writer, repo Repo, sum ostree.Checksum) (err error) {
	c, err := openContent(repo, sum)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	_, err = io.Copy(w, c)
	return err
}

// slider shows a window of a content, which moves on to its end.
type slider struct {
	*content

	pool *buffers
	buf  []byte
	off  uint64 // of buf in the content
}

// release gives the window's memory back.
func (s *slider) release() {
	s.pool.put(s.buf)
	s.buf = nil
}

// buffers keeps the memory of windows for the next ones: collecting it takes
// longer than filling it, and meanwhile there would be twice as much. Use begins
// with the largest.
type buffers struct {
	mu   sync.Mutex
	free [][]byte
}

// get returns an empty buffer of at least the capacity n.
func (b *buffers) get(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	best := -1
	for i, buf := range b.free {
		if cap(buf) >= n && (best < 0 || cap(buf) < cap(b.free[best])) {
			best = i
		}
	}
	if best < 0 {
		return make([]byte, 0, n)
	}
	buf := b.free[best]
	b.free = slices.Delete(b.free, best, best+1)
	return buf[:0]
}

func (b *buffers) put(buf []byte) {
	if cap(buf) > 0 {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.free = append(b.free, buf)
	}
}

// show returns the bytes from start to end. Neither may be lower than in the
// call before. The result is valid until the next call.
func (s *slider) show(start, end uint64) ([]byte, error) {
	if gone := min(start-s.off, uint64(len(s.buf))); gone > 0 {
		s.buf = s.buf[:copy(s.buf, s.buf[gone:])]
		s.off += gone
	}
	for s.off < start { // what was never in the window
		n, err := io.CopyN(io.Discard, s.content, int64(start-s.off))
		s.off += uint64(n)
		if err != nil {
			return nil, s.short(err)
		}
	}
	have := len(s.buf)
	want := int(end - start)
	if cap(s.buf) < want {
		grown := append(s.pool.get(want), s.buf...)
		s.pool.put(s.buf)
		s.buf = grown
	}
	if want > have {
		n, err := io.ReadFull(s.content, s.buf[have:want])
		s.buf = s.buf[:have+n]
		if err != nil {
			return nil, s.short(err)
		}
	}
	return s.buf[:want], nil
}

func (s *slider) short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: object %s is shorter than it was", ostree.ErrMalformed, s.name)
	}
	return err
}

// window is a piece of a new version that is compared with a piece of the old
// one: where both begin and how long they are. Matches are relative to them.
type window struct {
	new, old       uint64
	newLen, oldLen int
	matches        []bsdiff.Match
}

// windowSizes says how large windows are: of the new version, and, around where it
// should be, of the old one. Versions that fit are seen as a whole.
type windowSizes struct{ whole, new, old uint64 }

func newWindowSizes(whole int) windowSizes {
	return windowSizes{whole: uint64(whole), new: uint64(whole) / 2, old: uint64(whole)}
}

// memory is what comparing versions of these sizes holds.
func (s windowSizes) memory(old, new uint64) uint64 {
	if old <= s.whole && new <= s.whole {
		return old + new
	}
	return s.new + s.old
}

// compare compares two versions of a file. In windows, the old version
// is looked at where the last match would go on, so that what was inserted or
// removed before does not matter.
func (s windowSizes) compare(m *bsdiff.Matcher, old, new *slider, oldSize, newSize uint64, c *comparison) error {
	step, reach := s.new, s.old
	if oldSize <= s.whole && newSize <= s.whole {
		step, reach = newSize, oldSize
	}
	shift := int64(0)
	start := uint64(0) // of the old window
	for at := uint64(0); at < newSize; at += step {
		w := window{new: at, newLen: int(min(step, newSize-at))}
		expected := max(0, int64(at)+shift-int64(reach-min(reach, step))/2)
		start = min(max(start, uint64(expected)), oldSize-min(oldSize, reach))
		w.old, w.oldLen = start, int(min(reach, oldSize-start))
		o, err := old.show(w.old, w.old+uint64(w.oldLen))
		if err != nil {
			return err
		}
		n, err := new.show(w.new, w.new+uint64(w.newLen))
		if err != nil {
			return err
		}
		c.add(m, w, o, n)
		if last := c.patches[len(c.patches)-1].matches; len(last) > 0 {
			m := last[len(last)-1]
			shift = int64(w.old) + int64(m.Old) - int64(w.new) - int64(m.New)
		}
	}
	return errors.Join(old.finish(), new.finish())
}
