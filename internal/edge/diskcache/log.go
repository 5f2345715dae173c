package diskcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"freshet/internal/edge/diskcache/index"
)

// The log tells what happened to the index, in order: a head of 32 bytes, then
// entries of 32.
//
//	head   0 8 magic · 8 4 number · 28 4 CRC-32C of bytes 0–27
//	entry  0 1 kind · 1 1 flags of the record · 2 2 its length in units of 16 ·
//	       4 4 number of its segment · 8 4 where in it, in units of 16 ·
//	       12 4 blocks of its file · 16 10 first bytes of the ID · 28 4 CRC-32C
//	       of bytes 0–27
//
// Every checksum begins with the store's salt. Kinds: put; drop (the ID only);
// cut (the entries of a segment before this place are gone; place in bytes at
// 8, 8 bytes); run (the store was opened; its number at 8); ban (a text of the
// length at 8 follows, padded to 32 bytes; its checksum at 12).
const (
	logEntry = 32
	logMagic = "FRSHLOG1"

	kindPut  = 1
	kindDrop = 2
	kindCut  = 3
	kindRun  = 4
	kindBan  = 5

	// keyBytes is how much of an ID the index looks at.
	keyBytes = 10
)

func logPut(id ID, seg uint32, it index.Item) (b [logEntry]byte) {
	le := binary.LittleEndian
	b[0], b[1] = kindPut, it.Flags
	le.PutUint16(b[2:], it.Len)
	le.PutUint32(b[4:], seg)
	le.PutUint32(b[8:], it.Off)
	le.PutUint32(b[12:], it.Blocks)
	copy(b[16:], id[:keyBytes])
	return b
}

func logDrop(id ID) (b [logEntry]byte) {
	b[0] = kindDrop
	copy(b[16:], id[:keyBytes])
	return b
}

func logCut(seg uint32, end int64) (b [logEntry]byte) {
	b[0] = kindCut
	binary.LittleEndian.PutUint32(b[4:], seg)
	binary.LittleEndian.PutUint64(b[8:], uint64(end))
	return b
}

func logRun(run uint32) (b [logEntry]byte) {
	b[0] = kindRun
	binary.LittleEndian.PutUint32(b[8:], run)
	return b
}

// indexLog collects entries and writes them many at a time.
type indexLog struct {
	wake func() // there is something to write

	mu  sync.Mutex
	buf []byte
	// seed is what the checksums begin with.
	seed uint32
	// lost says that entries were dropped: only a checkpoint tells the truth.
	lost bool

	flushMu sync.Mutex // one writes, in order
	f       *os.File
	late    *home // where the log is still to begin; see postpone
	num     uint32
	size    int64 // written
	before  int64 // length of older logs that are needed still
	grown   func(int64)
}

// maxUnwritten bounds what a log that cannot be written keeps in memory.
const maxUnwritten = 16 << 20

func logName(num uint32) string { return path.Join("index", fmt.Sprintf("%08x.log", num)) }

// record adds an entry. It is on the disk after the next flush.
func (l *indexLog) record(b [logEntry]byte, more ...byte) {
	l.mu.Lock()
	if len(l.buf) < maxUnwritten {
		binary.LittleEndian.PutUint32(b[28:], crc32.Update(l.seed, castagnoli(), b[:28]))
		l.buf = append(l.buf, b[:]...)
		l.buf = append(l.buf, more...)
		for len(l.buf)%logEntry != 0 {
			l.buf = append(l.buf, 0)
		}
	}
	l.lost = l.lost || len(l.buf) >= maxUnwritten
	first := len(l.buf) == logEntry
	l.mu.Unlock()
	if first {
		l.wake()
	}
}

// incomplete reports whether entries were dropped.
func (l *indexLog) incomplete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// flush writes what was added. After an error, it is still to be written.
func (l *indexLog) flush() error {
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	return l.flushLocked()
}

func (l *indexLog) flushLocked() error {
	l.mu.Lock()
	buf := l.buf
	l.buf = nil
	l.mu.Unlock()
	if len(buf) == 0 {
		return nil
	}
	if err := l.beginLate(); err != nil {
		l.mu.Lock()
		l.buf = append(buf, l.buf...)
		l.mu.Unlock()
		return err
	}
	// After a write that failed half-way, the next one begins where it began.
	if _, err := l.f.WriteAt(buf, l.size); err != nil {
		l.mu.Lock()
		l.buf = append(buf, l.buf...)
		l.mu.Unlock()
		return fmt.Errorf("write the index's log: %w", err)
	}
	l.size += int64(len(buf))
	l.grown(int64(len(buf)))
	return nil
}

// begin makes a new log. What was added before goes to the old one with drain;
// without, there is no old one.
func (l *indexLog) begin(h *home, num uint32, seed uint32, drain bool) error {
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	if drain {
		if err := l.flushLocked(); err != nil {
			return err
		}
	}
	f, err := createLog(h, num, seed)
	if err != nil {
		return err
	}
	if drain {
		// What was added since the flush above belongs to the old log.
		if err := l.flushLocked(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if l.f != nil {
		_ = l.f.Close() // every write was checked
		l.before += l.size
	}
	l.f, l.num, l.size = f, num, logEntry
	l.grown(logEntry)
	l.mu.Lock()
	l.seed = seed
	l.mu.Unlock()
	return nil
}

func createLog(h *home, num, seed uint32) (*os.File, error) {
	f, err := h.root.OpenFile(logName(num), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, fmt.Errorf("begin a log: %w", err)
	}
	b := logHead(num, seed)
	if _, err := f.WriteAt(b[:], 0); err != nil {
		return nil, errors.Join(fmt.Errorf("begin a log: %w", err), f.Close())
	}
	return f, nil
}

// postpone leaves the first log of a run to the next flush: there is no room
// for it now.
func (l *indexLog) postpone(h *home, num, seed uint32) {
	l.flushMu.Lock()
	l.late, l.num = h, num
	l.flushMu.Unlock()
	l.mu.Lock()
	l.seed = seed
	l.mu.Unlock()
}

// beginLate begins a log that was postponed.
func (l *indexLog) beginLate() error {
	if l.f != nil || l.late == nil {
		return nil
	}
	l.mu.Lock()
	seed := l.seed
	l.mu.Unlock()
	f, err := createLog(l.late, l.num, seed)
	if err != nil {
		return err
	}
	l.f, l.size, l.late = f, logEntry, nil
	l.grown(logEntry)
	return nil
}

func logHead(num, seed uint32) (b [logEntry]byte) {
	copy(b[:], logMagic)
	binary.LittleEndian.PutUint32(b[8:], num)
	binary.LittleEndian.PutUint32(b[28:], crc32.Update(seed, castagnoli(), b[:28]))
	return b
}

// readLog calls each with every whole entry of a log, and the text behind it,
// if it has one. b is valid during the call.
func readLog(f io.Reader, num, seed uint32, each func(b, text []byte)) (size int64, err error) {
	buf := make([]byte, 1<<20)
	have := 0
	for first := true; ; {
		n, err := io.ReadFull(f, buf[have:])
		data := buf[:have+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return size, err
		}
		if first {
			if head := logHead(num, seed); len(data) < logEntry || [logEntry]byte(data) != head {
				return 0, errors.New("damaged head")
			}
			data, size, first = data[logEntry:], logEntry, false
		}
		for len(data) >= logEntry {
			b := data[:logEntry]
			if crc32.Update(seed, castagnoli(), b[:28]) != binary.LittleEndian.Uint32(b[28:]) {
				// Torn, or never written: entries behind it count all the same.
				data, size = data[logEntry:], size+logEntry
				continue
			}
			used, text := logEntry, []byte(nil)
			if b[0] == kindBan {
				n := int(binary.LittleEndian.Uint32(b[8:]))
				if n > maxBan {
					data, size = data[logEntry:], size+logEntry
					continue
				}
				used += (n + logEntry - 1) / logEntry * logEntry
				if used > len(data) && !last {
					break // with the next piece
				}
				if used > len(data) || checksum(data[logEntry:logEntry+n]) != binary.LittleEndian.Uint32(b[12:]) {
					data, size = data[logEntry:], size+logEntry
					continue
				}
				text = data[logEntry : logEntry+n]
			}
			each(b, text)
			data, size = data[used:], size+int64(used)
		}
		if last {
			return size, nil
		}
		have = copy(buf, data)
	}
}

// logFiles lists the numbers of the logs that are there.
func numbered(root *os.Root, dir, suffix string) ([]uint32, error) {
	names, err := readNames(root, dir)
	if err != nil {
		return nil, err
	}
	var nums []uint32
	for _, name := range names {
		var num uint32
		if _, err := fmt.Sscanf(name, "%08x"+suffix, &num); err == nil && fmt.Sprintf("%08x%s", num, suffix) == name {
			nums = append(nums, num)
		}
	}
	return nums, nil
}

func readNames(root *os.Root, dir string) ([]string, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// removeFile removes one of the store's files, if it is there.
func (s *Store) removeFile(name string) {
	if strings.HasPrefix(name, "tmp/") {
		s.removeOwn(name)
	} else if s.given.begin() { // else it is the matter of who has the store
		s.removeOwn(name)
		s.given.end()
	}
}

// removeOwn removes a file that nothing in the store names.
func (s *Store) removeOwn(name string) {
	if err := s.home.Load().root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.fault("remove "+name, err)
	}
}
