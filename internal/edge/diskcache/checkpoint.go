package diskcache

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sync/errgroup"

	"freshet/internal/durable"
	"freshet/internal/edge/diskcache/index"
)

// A checkpoint is the index as it was, roughly, when the log of its number
// began: that log and those after it bring it up to date.
//
//	dumps of the index's shards, one behind the other
//	JSON: run, bans, place of each segment in the dumps, where each dump begins
//	8 bytes where the JSON begins · 4 its CRC-32C · 4 zero · 8 salt · 8 magic
const (
	checkpointMagic = "FRSHCKP1"
	checkpointTail  = 32
)

type checkpointHead struct {
	Run    uint32            `json:"run"`
	Epoch  uint64            `json:"epoch"`
	Bans   []Ban             `json:"bans"`
	Places map[uint32]uint32 `json:"places"` // by number
	Dumps  []int64           `json:"dumps"`
}

func checkpointName(num uint32) string { return path.Join("index", fmt.Sprintf("%08x.ckpt", num)) }

// checkpointDue reports whether the logs are long enough: a start would take
// time for them, and the store room.
func (s *Store) checkpointDue() bool {
	return s.log.length() > max(min(max(s.opts.Size/64, 16<<10), 1<<20), s.index.DumpSize()/8)
}

// checkpoint writes the index, so that the logs up to now are not needed any
// more. Others use the index meanwhile.
func (s *Store) checkpoint() error {
	s.indexMu.Lock()
	defer s.indexMu.Unlock()
	h := s.home.Load()
	size := s.index.DumpSize() + s.index.DumpSize()/8 + 1<<16
	if err := s.reserve(poolFixed, size); err != nil {
		return err
	}
	defer s.space.free(poolFixed, size)
	// No eviction is between its cut and the drop: a cut in the old log is in
	// the dump.
	s.evictMu.Lock()
	num := s.log.num + 1
	err := s.log.begin(h, num, h.seed(0), true)
	head := checkpointHead{Run: s.run, Epoch: s.bans.now(), Bans: s.bans.snapshot(), Places: make(map[uint32]uint32)}
	for _, seg := range s.segs.all() {
		head.Places[seg.num] = seg.place
	}
	s.evictMu.Unlock()
	if err != nil {
		return err
	}
	var written int64
	name := checkpointName(num)
	err = durable.Dir{Root: h.root}.Write(name, 0o640, func(w io.Writer) error {
		var err error
		written, err = s.writeDumps(w, &head, h)
		return err
	})
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	s.space.overhead(written)
	s.log.dropBefore(s, num)
	return nil
}

// writeDumps writes a checkpoint.
func (s *Store) writeDumps(w io.Writer, head *checkpointHead, h *home) (size int64, err error) {
	var buf []byte
	for shard := range index.Shards {
		head.Dumps = append(head.Dumps, size)
		buf = s.index.Dump(shard, buf[:0])
		n, err := w.Write(buf)
		if size += int64(n); err != nil {
			return size, err
		}
	}
	// What is in the dumps is in the logs, too: places of segments younger than
	// head are right there only.
	if err := s.log.flush(); err != nil {
		return size, err
	}
	text, err := json.Marshal(head)
	if err != nil {
		return size, err
	}
	le := binary.LittleEndian
	tail := le.AppendUint64(nil, uint64(size))
	tail = le.AppendUint32(tail, checksum(text))
	tail = le.AppendUint32(tail, 0)
	tail = append(tail, h.salt[:8]...)
	tail = append(tail, checkpointMagic...)
	n, err := w.Write(append(text, tail...))
	return size + int64(n), err
}

// dropBefore removes the logs and checkpoints that a checkpoint made useless.
func (l *indexLog) dropBefore(s *Store, num uint32) {
	root := s.home.Load().root
	for suffix, name := range map[string]func(uint32) string{".log": logName, ".ckpt": checkpointName} {
		nums, err := numbered(root, "index", suffix)
		if err != nil {
			s.fault("list the index's files", err)
			return
		}
		for _, n := range nums {
			if n >= num {
				continue
			}
			if info, err := root.Stat(name(n)); err == nil {
				s.removeFile(name(n))
				s.space.overhead(-info.Size())
			}
		}
	}
	l.flushMu.Lock()
	l.before = 0
	l.flushMu.Unlock()
	l.mu.Lock()
	l.lost = false
	l.mu.Unlock()
}

// length is that of all logs a start would have to read.
func (l *indexLog) length() int64 {
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	return l.before + l.size
}

// readCheckpoint loads the index from a checkpoint.
func (l *loader) readCheckpoint(num uint32) (err error) {
	name := checkpointName(num)
	f, err := l.h.root.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head, end, err := l.readCheckpointHead(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	l.run = head.Run
	for _, ban := range head.Bans {
		l.s.bans.addLocked(ban)
	}
	group := new(errgroup.Group)
	n := workers()
	for w := range n {
		group.Go(func() error {
			var buf []byte
			for shard := w; shard < index.Shards; shard += n {
				from, to := head.Dumps[shard], end
				if shard+1 < index.Shards {
					to = head.Dumps[shard+1]
				}
				if from < 0 || to < from || to > end {
					return fmt.Errorf("%s: %w", name, errCheckpoint)
				}
				if int64(cap(buf)) < to-from {
					buf = make([]byte, to-from)
				}
				buf = buf[:to-from]
				if _, err := f.ReadAt(buf, from); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if _, err := l.s.index.Load(shard, buf); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	l.place(head.Places)
	return nil
}

var errCheckpoint = errors.New("damaged checkpoint")

func (l *loader) readCheckpointHead(f *os.File) (head checkpointHead, end int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return head, 0, err
	}
	var tail [checkpointTail]byte
	if info.Size() < checkpointTail {
		return head, 0, errCheckpoint
	}
	if _, err := f.ReadAt(tail[:], info.Size()-checkpointTail); err != nil {
		return head, 0, err
	}
	le := binary.LittleEndian
	end = int64(le.Uint64(tail[:]))
	length := info.Size() - checkpointTail - end
	if string(tail[24:]) != checkpointMagic || [8]byte(tail[16:24]) != [8]byte(l.h.salt[:8]) || end < 0 || length < 0 || length > 64<<20 {
		return head, 0, errCheckpoint
	}
	text := make([]byte, length)
	if _, err := f.ReadAt(text, end); err != nil {
		return head, 0, err
	}
	if checksum(text) != le.Uint32(tail[8:]) {
		return head, 0, errCheckpoint
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return head, 0, fmt.Errorf("%w: %w", errCheckpoint, err)
	}
	if len(head.Dumps) != index.Shards {
		return head, 0, errCheckpoint
	}
	return head, end, nil
}
