package diskcache

import (
	"container/list"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// bodies are the files of those bodies that are too long for a segment. Their
// names are made of the ID and the number:
//
//	tmp/ID-NUMBER        while it is written
//	big/ab/ID-NUMBER     ab are the first two digits of ID
//
// The files of recently used ones are kept open: opening one costs more than
// sending a small body.
type bodies struct {
	store *Store
	max   int

	mu     sync.Mutex
	open   map[uint64]*bodyFile // by number, all that are in use or kept
	recent list.List            // of *bodyFile, those kept, most recent first
}

// bodyFile is an open file of a body.
type bodyFile struct {
	of   *bodies
	num  uint64
	f    *os.File
	name string

	// under bodies.mu
	refs int           // users, and one of the list's
	elem *list.Element // in recent
	gone int64         // removed: these bytes are free with the last user
	pool uint8

	// checked are the slices that were compared with their checksums.
	checked []atomic.Uint64
}

func bodyName(id ID, num uint64) string { return fmt.Sprintf("%s-%016x", id, num) }

func tmpName(id ID, num uint64) string { return path.Join("tmp", bodyName(id, num)) }

func bigName(id ID, num uint64) string {
	name := bodyName(id, num)
	return path.Join("big", name[:2], name)
}

func parseBodyName(name string) (id ID, num uint64, ok bool) {
	idHex, numHex, _ := strings.Cut(name, "-")
	if len(idHex) != 2*len(id) || len(numHex) != 16 {
		return ID{}, 0, false
	}
	for i := range id {
		b, err := strconv.ParseUint(idHex[2*i:2*i+2], 16, 8)
		if err != nil {
			return ID{}, 0, false
		}
		id[i] = byte(b)
	}
	num, err := strconv.ParseUint(numHex, 16, 64)
	return id, num, err == nil && bodyName(id, num) == name
}

// create makes the file of a body that is going to be written. It has one user.
func (b *bodies) create(id ID, num uint64) (*bodyFile, error) {
	if b.store.given.over.Load() {
		return nil, ErrUnavailable
	}
	name := tmpName(id, num)
	f, err := b.store.home.Load().root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, err
	}
	h := &bodyFile{of: b, num: num, f: f, name: name, refs: 1}
	b.mu.Lock()
	b.open[num] = h
	b.mu.Unlock()
	return h, nil
}

// writeStep is how much is written at a time. The kernel keeps what one call
// writes in pages as large as that, and large ones are dear to find where memory
// is in small pieces.
const writeStep = 64 << 10

// write writes p at off.
func (h *bodyFile) write(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := h.f.WriteAt(p[:min(len(p), writeStep)], off)
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// expect has the file system find room for n bytes at once, which costs less
// than finding it piece by piece.
func (h *bodyFile) expect(n int64) {
	if n <= 0 {
		return
	}
	for {
		// Where this is not known, or there is no room, writing will tell.
		if err := unix.Fallocate(int(h.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, n); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// keep puts a file that was written in its final place.
func (b *bodies) keep(h *bodyFile, r record) error {
	h.checked = make([]atomic.Uint64, (sliceCount(r.bodyLen, r.shift)+63)/64)
	for i := range h.checked {
		h.checked[i].Store(^uint64(0)) // written just now
	}
	if !b.store.given.begin() {
		return ErrUnavailable
	}
	defer b.store.given.end()
	root := b.store.home.Load().root
	name := bigName(r.id, r.num)
	err := root.Rename(h.name, name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = root.MkdirAll(path.Dir(name), 0o750); err == nil {
			err = root.Rename(h.name, name)
		}
	}
	if err != nil {
		return fmt.Errorf("keep a body: %w", err)
	}
	h.name = name
	b.mu.Lock()
	b.listLocked(h)
	b.mu.Unlock()
	return nil
}

// lose removes a file that could not be kept, and gives up the caller's place
// as its user. It can still be acquired for a while.
func (b *bodies) lose(pool uint8, h *bodyFile, bytes int64) {
	b.store.removeOwn(h.name)
	b.mu.Lock()
	defer b.mu.Unlock()
	if h.pool, h.gone = pool, bytes; h.elem == nil {
		b.listLocked(h)
	}
	b.releaseLocked(h)
}

// acquire returns the open file of a record's body; the caller releases it.
func (b *bodies) acquire(r record) (*bodyFile, error) {
	b.mu.Lock()
	h := b.open[r.num]
	if h != nil {
		h.refs++
		if h.elem != nil {
			b.recent.MoveToFront(h.elem)
		} else if h.gone == 0 {
			b.listLocked(h)
		}
		b.mu.Unlock()
		return h, nil
	}
	b.mu.Unlock()
	mode := os.O_RDONLY
	if r.flags&flagPartial != 0 {
		mode = os.O_RDWR // more is to come
	}
	f, err := b.store.home.Load().root.OpenFile(bigName(r.id, r.num), mode, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != r.bodyLen {
		err = fmt.Errorf("%w: %d bytes, want %d", ErrCorrupt, info.Size(), r.bodyLen)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	h = &bodyFile{of: b, num: r.num, f: f, name: bigName(r.id, r.num), refs: 1}
	h.checked = make([]atomic.Uint64, (sliceCount(r.bodyLen, r.shift)+63)/64)
	b.mu.Lock()
	if faster := b.open[r.num]; faster != nil {
		faster.refs++
		b.mu.Unlock()
		return faster, f.Close()
	}
	b.open[r.num] = h
	b.listLocked(h)
	b.mu.Unlock()
	return h, nil
}

// listLocked keeps a file open without users, and closes another if there are
// too many.
func (b *bodies) listLocked(h *bodyFile) {
	h.refs++
	h.elem = b.recent.PushFront(h)
	if b.recent.Len() > b.max {
		b.unlistLocked(b.recent.Back().Value.(*bodyFile))
	}
}

func (b *bodies) unlistLocked(h *bodyFile) {
	if h.elem != nil {
		b.recent.Remove(h.elem)
		h.elem = nil
		b.releaseLocked(h)
	}
}

func (b *bodies) releaseLocked(h *bodyFile) {
	if h.refs--; h.refs > 0 {
		return
	}
	_ = h.f.Close() // nothing is buffered: every write was checked
	delete(b.open, h.num)
	if h.gone > 0 {
		b.store.space.free(h.pool, h.gone)
	}
}

func (h *bodyFile) retain() {
	h.of.mu.Lock()
	h.refs++
	h.of.mu.Unlock()
}

func (h *bodyFile) release() {
	h.of.mu.Lock()
	h.of.releaseLocked(h)
	h.of.mu.Unlock()
}

// remove removes the file of a record's body. Its bytes count until the last
// who reads it is done.
func (b *bodies) remove(r record) {
	b.drop(r.pool(), r.num, bigName(r.id, r.num), r.cost())
}

// drop removes the file, and counts so many bytes as free once nobody uses it.
func (b *bodies) drop(pool uint8, num uint64, name string, bytes int64) {
	b.store.removeFile(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.open[num]
	if h == nil {
		b.store.space.free(pool, bytes)
		return
	}
	h.pool, h.gone = pool, bytes
	b.unlistLocked(h)
}

func (b *bodies) closeAll() {
	b.mu.Lock()
	for b.recent.Len() > 0 {
		b.unlistLocked(b.recent.Front().Value.(*bodyFile))
	}
	b.mu.Unlock()
}

// verify compares slice i with its checksum, once.
func (h *bodyFile) verify(r record, sums []byte, i int64) error {
	word, bit := &h.checked[i/64], uint64(1)<<(i%64)
	if word.Load()&bit != 0 {
		return nil
	}
	off := i << r.shift
	left := min(r.bodyLen-off, 1<<r.shift)
	buf := make([]byte, min(left, 256<<10))
	sum := uint32(0)
	for left > 0 {
		p := buf[:min(left, int64(len(buf)))]
		if _, err := h.f.ReadAt(p, off); err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		sum = crc32.Update(sum, castagnoli(), p)
		off, left = off+int64(len(p)), left-int64(len(p))
	}
	if want := sums[i*4 : i*4+4]; sum != uint32(want[0])|uint32(want[1])<<8|uint32(want[2])<<16|uint32(want[3])<<24 {
		return fmt.Errorf("%w: slice %d", ErrCorrupt, i)
	}
	word.Or(bit)
	return nil
}

// ErrCorrupt says that a body's checksum does not match.
var ErrCorrupt = errors.New("damaged body")

// createSparse makes the file of a body whose slices come in any order. It has
// one user.
func (b *bodies) createSparse(r record) (*bodyFile, error) {
	root, name := b.store.home.Load().root, bigName(r.id, r.num)
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL
	f, err := root.OpenFile(name, flags, 0o640)
	if errors.Is(err, fs.ErrNotExist) {
		if err = root.MkdirAll(name[:len("big/ab")], 0o750); err == nil {
			f, err = root.OpenFile(name, flags, 0o640)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(r.bodyLen); err != nil {
		return nil, errors.Join(err, f.Close(), root.Remove(name))
	}
	h := &bodyFile{of: b, num: r.num, f: f, name: name, refs: 1, checked: make([]atomic.Uint64, (sliceCount(r.bodyLen, r.shift)+63)/64)}
	b.mu.Lock()
	b.open[r.num] = h
	b.mu.Unlock()
	return h, nil
}

// punch gives back what was written of n bytes from off on.
func (h *bodyFile) punch(off, n int64) error {
	return unix.Fallocate(int(h.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}
