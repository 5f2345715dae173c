package diskcache

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"freshet/internal/durable"
	"freshet/internal/edge/diskcache/index"
)

// health is whether the disk works.
type health struct {
	mu      sync.Mutex
	err     error // why nothing is written
	full    bool  // the disk has less room than the store should have
	healing bool
}

const (
	healFirst = time.Second
	healLast  = 10 * time.Second
)

var errSmaller = errors.New("the disk is full: the store takes less than its size")

// Err says why nothing can be stored at present, or that the disk is full and
// the store smaller than it should be. What can be read is still found. It is
// nil when all is well, and becomes nil again by itself.
func (s *Store) Err() error {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	return s.health.err
}

// Alert is Err, or tells that the disk is full so that the store has less room
// than it should have.
func (s *Store) Alert() error {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	switch {
	case s.health.err == nil && s.health.full:
		return errSmaller
	case errors.Is(s.health.err, ErrReleased):
		return nil // that is as it should be
	}
	return s.health.err
}

// fault notes an error of the disk. Nothing is written until the healer could,
// except that a full disk only makes the store smaller.
func (s *Store) fault(op string, err error) {
	if errors.Is(err, ErrFull) || errors.Is(err, ErrUnavailable) || s.closing() && errors.Is(err, os.ErrClosed) {
		return
	}
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	if durable.IsNoSpace(err) {
		// What is used now is as much as there is; a little is given back, once,
		// however many find the disk full.
		if used, limit := s.space.stat(); used <= limit {
			s.space.setLimit(used - max(s.opts.Size/64, s.space.margin))
		}
		s.health.full = true
		s.nudge()
	} else if s.health.err == nil {
		s.health.err = fmt.Errorf("%s: %w", op, err)
	}
	if s.health.healing || s.closing() {
		return
	}
	s.opts.Log.Error("store cannot be written: answers are passed on", slog.String("op", op), slog.Any("error", err))
	s.health.healing = true
	s.workers.Go(s.heal)
}

// pause waits, and reports false if the store is closed before.
func (s *Store) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ended:
		return false
	}
}

// heal tries until the disk works.
func (s *Store) heal() {
	for wait := healFirst; ; wait = min(2*wait, healLast) {
		if !s.pause(wait) {
			return
		}
		err := s.probe()
		s.health.mu.Lock()
		if err == nil {
			s.health.err = nil
		}
		if err == nil && !s.health.full {
			s.health.healing = false
			s.health.mu.Unlock()
			s.opts.Log.Info("store can be written again")
			return
		}
		s.health.mu.Unlock()
	}
}

// probe finds out whether the store can be written, and makes it so if all that
// is missing are folders.
func (s *Store) probe() error {
	h := s.home.Load()
	if h.gone() {
		return s.renew()
	}
	name := path.Join("tmp", "probe")
	f, err := h.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, blockSize))
	err = errors.Join(err, f.Sync(), f.Close(), h.root.Remove(name))
	if full := durable.IsNoSpace(err); err != nil && !full {
		return err
	}
	s.regain()
	if err := s.flush(); err != nil {
		return err
	}
	if s.log.incomplete() {
		return s.checkpoint()
	}
	return nil
}

// Disk returns how large the file system of the store is, and how much of it is
// free, in bytes.
func (s *Store) Disk() (total, free int64, err error) {
	h := s.home.Load()
	if h == nil {
		return 0, 0, ErrUnavailable
	}
	var st unix.Statfs_t
	if err := h.control(func(fd int) error { return unix.Fstatfs(fd, &st) }); err != nil {
		return 0, 0, fmt.Errorf("look at the disk of %s: %w", s.dir, err)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}

// Short returns how many bytes the disk lacks for the store to become as large
// as it may, 0 if it has room for that. Whatever else fills the disk can make it
// grow while the store is open.
func (s *Store) Short() (int64, error) {
	_, free, err := s.Disk()
	if err != nil {
		return 0, err
	}
	used, _ := s.space.stat()
	return max(s.opts.Size-used-free, 0), nil
}

// regain raises the limit to what the disk has.
func (s *Store) regain() {
	_, room, err := s.Disk()
	if err != nil {
		return
	}
	room -= s.space.margin + s.opts.Size/64
	used, limit := s.space.stat()
	if used+room > limit {
		s.space.setLimit(used + room)
	}
	_, limit = s.space.stat()
	s.health.mu.Lock()
	s.health.full = limit < s.opts.Size
	s.health.mu.Unlock()
	s.nudge()
}

// watch looks whether the folder is still the one that was opened.
func (s *Store) watch() {
	if s.home.Load().gone() {
		s.fault("look at the folder", fs.ErrNotExist)
	}
}

// renew begins a new store in the place of one that somebody removed. What is
// open stays readable for those who read it.
func (s *Store) renew() error {
	s.indexMu.Lock()
	defer s.indexMu.Unlock()
	s.evictMu.Lock()
	defer s.evictMu.Unlock()
	h, err := s.home.Load().again(s.dir)
	if err != nil {
		return err
	}
	s.home.Store(h) // new segments come here
	var old []*segment
	for p := range s.queues {
		for i := range s.queues[p] {
			q := &s.queues[p][i]
			q.mu.Lock()
			q.sealLocked()
			n := len(q.sealed)
			q.mu.Unlock()
			for range n {
				if seg := q.pop(); seg != nil {
					old = append(old, seg)
				}
			}
		}
	}
	segs, _ := s.doomed.take()
	s.forget(append(old, segs...))
	s.files.closeAll()
	s.log.mu.Lock()
	s.log.buf = nil
	s.log.mu.Unlock()
	s.space.mu.Lock()
	s.space.used -= s.space.own
	s.space.own = 0
	s.space.mu.Unlock()
	if err := s.log.begin(h, 1, h.seed(0), false); err != nil {
		return err
	}
	s.log.flushMu.Lock()
	s.log.before = 0
	s.log.flushMu.Unlock()
	s.log.record(logRun(s.run))
	s.opts.Log.Warn("store folder was removed: begin anew")
	return s.log.flush()
}

// forget drops everything of segments whose files are gone.
func (s *Store) forget(segs []*segment) {
	gone := make(map[uint32]*segment, len(segs))
	for _, seg := range segs {
		gone[seg.place] = seg
	}
	for shard := range index.Shards {
		s.index.Filter(shard, func(it index.Item) bool {
			seg := gone[it.Seg]
			if seg != nil && it.Flags&flagFile != 0 {
				s.space.free(seg.pool, fileCost(it))
				s.space.move(seg.pool, seg.queue, -fileCost(it))
			}
			return seg == nil
		})
	}
	for _, seg := range segs {
		s.space.move(seg.pool, seg.queue, -diskCost(seg.size))
		s.segs.set(seg.place, nil)
		seg.release()
	}
}
