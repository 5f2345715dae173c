package diskcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// A segment is a file of records: a head of 64 bytes, then records at multiples
// of 16. What lies between them, after a write that failed or a crash, is
// passed over.
//
//	 0  8  magic
//	 8  4  number, that of its name
//	12  1  pool
//	13  1  queue
//	60  4  CRC-32C of bytes 0–59, beginning with the store's salt
const (
	segmentHead  = 64
	segmentMagic = "FRSHSEG1"
)

// segment is an open segment.
type segment struct {
	store *Store
	num   uint32 // its name
	place uint32 // in the table of segments; what the index has
	pool  uint8
	queue uint8
	f     *os.File
	seed  uint32 // of the checksums of heads, without the offset

	// refs counts the table and those who read.
	refs atomic.Int32
	// live counts the index's items that are here.
	live atomic.Int64
	// files is what the files of its records take, in bytes.
	files atomic.Int64
	// appending is held shared by those who write a record, from the choice of
	// its place until the index has it.
	appending sync.RWMutex

	size int64 // under the queue's lock while active, then fixed
	cut  int64 // what lies before was evicted; only while loading
}

func (seg *segment) name() string { return path.Join("seg", segmentName(seg.num)) }

func segmentName(num uint32) string { return fmt.Sprintf("%08x", num) }

// seedAt is what the checksum of the head at off begins with: a head is valid
// in its place only, and nobody who does not know the salt can make one.
func (seg *segment) seedAt(off int64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(off))
	return crc32.Update(seg.seed, castagnoli(), b[:])
}

// drain waits until the last writers are done with a segment that gets no new
// ones.
func (seg *segment) drain() {
	seg.appending.Lock()
	defer seg.appending.Unlock()
}

func (seg *segment) release() {
	if seg.refs.Add(-1) == 0 {
		_ = seg.f.Close() // nothing is buffered: every write was checked
		seg.store.space.free(seg.pool, diskCost(seg.size))
	}
}

// diskCost is what a file of n bytes counts: whole blocks, and a share of the
// file system's own bookkeeping.
func diskCost(n int64) int64 { return (n+blockSize-1)/blockSize*blockSize + 512 }

const blockSize = 4096

// segments is the table of those that are open. Places of the index's items
// are looked up in it.
type segments struct {
	mu    sync.Mutex
	table atomic.Pointer[[]*segment] // replaced, never changed
	next  uint32                     // number of the next
}

// at returns the segment of a place. As long as the index has an item there,
// it is not nil.
func (s *segments) at(place uint32) *segment {
	if t := s.table.Load(); t != nil && int(place) < len(*t) {
		return (*t)[place]
	}
	return nil
}

// set puts a segment into its place, which grows the table if need be.
func (s *segments) set(place uint32, seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setLocked(place, seg)
}

func (s *segments) setLocked(place uint32, seg *segment) {
	var t []*segment
	if old := s.table.Load(); old != nil {
		t = slices.Clone(*old)
	}
	for int(place) >= len(t) {
		t = append(t, nil)
	}
	t[place] = seg
	s.table.Store(&t)
}

// all returns every open segment.
func (s *segments) all() []*segment {
	var list []*segment
	if t := s.table.Load(); t != nil {
		for _, seg := range *t {
			if seg != nil {
				list = append(list, seg)
			}
		}
	}
	return list
}

// add finds a free place for a segment. It reports false if there is none.
func (s *segments) add(seg *segment, bound int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if t := s.table.Load(); t != nil {
		if n = slices.Index(*t, nil); n < 0 {
			n = len(*t)
		}
	}
	if n >= bound {
		return false
	}
	seg.place = uint32(n)
	s.setLocked(seg.place, seg)
	return true
}

// number returns one that no segment had before.
func (s *segments) number() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return s.next
}

// used notes a number that was found on the disk.
func (s *segments) used(num uint32) {
	s.mu.Lock()
	s.next = max(s.next, num)
	s.mu.Unlock()
}

// createSegment makes the file of a new segment and takes it into the table.
func (s *Store) createSegment(pool, queue uint8) (*segment, error) {
	h := s.home.Load()
	seg := &segment{store: s, num: s.segs.number(), pool: pool, queue: queue, size: segmentHead}
	seg.refs.Store(1)
	seg.seed = h.seed(seg.num)
	f, err := h.root.OpenFile(seg.name(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, fmt.Errorf("begin a segment: %w", err)
	}
	seg.f = f
	if _, err := f.WriteAt(seg.head(h), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("begin a segment: %w", err), f.Close(), h.root.Remove(seg.name()))
	}
	if !s.segs.add(seg, s.maxSegments) {
		return nil, errors.Join(fmt.Errorf("begin a segment: %w: too many", ErrFull), f.Close(), h.root.Remove(seg.name()))
	}
	return seg, nil
}

func (seg *segment) head(h *home) []byte {
	b := make([]byte, segmentHead)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], seg.num)
	b[12], b[13] = seg.pool, seg.queue
	binary.LittleEndian.PutUint32(b[60:], crc32.Update(h.salted, castagnoli(), b[:60]))
	return b
}

// openSegment opens the segment of a name, without a place in the table.
func (s *Store) openSegment(h *home, name string) (*segment, error) {
	num, err := strconv.ParseUint(name, 16, 32)
	if err != nil || segmentName(uint32(num)) != name {
		return nil, errors.New("unknown name")
	}
	f, err := h.root.OpenFile(path.Join("seg", name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	seg := &segment{store: s, num: uint32(num), f: f, seed: h.seed(uint32(num))}
	var b [segmentHead]byte
	info, err := f.Stat()
	if err == nil {
		_, err = f.ReadAt(b[:], 0)
	}
	if err == nil {
		seg.pool, seg.queue, seg.size = b[12], b[13], padded(info.Size())
		if [segmentHead]byte(seg.head(h)) != b || seg.pool >= pools || seg.queue >= queues {
			err = errors.New("damaged head")
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	seg.refs.Store(1)
	return seg, nil
}

// retire takes the segment out of the table and removes its file. The index
// has no item there any more.
func (s *Store) retire(seg *segment) {
	s.segs.set(seg.place, nil)
	s.removeFile(seg.name())
	seg.release()
}

// found is a record met by a walk.
type found struct {
	record

	off int64
	raw []byte // the record, padded; valid until the walk goes on
}

// walk calls each with the records of the segment from off on, in order, until
// it returns false. Before it reads a piece, it calls piece with the end of
// that piece, up to which every record will be met.
//
// buf is of walkBuffer.
func (seg *segment) walk(buf []byte, piece func(end int64), each func(found) bool) error {
	for off := int64(segmentHead); off < seg.size; {
		end := min(off+walkPiece, seg.size)
		if piece != nil {
			piece(end)
		}
		// Records that begin in the piece may go on behind it.
		n, err := seg.f.ReadAt(buf[:min(int64(len(buf)), seg.size-off)], off)
		if n == 0 {
			return err
		}
		data, base := buf[:n], off
		for off < end {
			at := off - base
			r, err := parseRecord(data[min(at, int64(n)):], seg.seedAt(off))
			size := padded(int64(r.length))
			if err != nil || at+size > int64(n) {
				off += unit
				continue
			}
			if !each(found{r, off, data[at : at+size]}) {
				return nil
			}
			off += size
		}
	}
	return nil
}

// walkPiece is how much of a segment is looked at before the next is read; the
// last record in it may go on behind it.
const (
	walkPiece  = 256 << 10
	walkBuffer = walkPiece + maxRecord
)
