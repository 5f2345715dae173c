package diskcache

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
)

// away is the state of a store whose folder could not be used when it was
// opened: it holds nothing, takes nothing, and tries again. The zero value is
// that of a store that has its folder.
type away struct {
	// loading: neither entries nor bans are there.
	loading atomic.Bool
	// hidden: nothing is shown yet.
	hidden atomic.Bool

	mu     sync.Mutex
	missed []Ban // that came meanwhile
}

// mayReturn reports whether an error of the folder may end by itself: that of a
// disk, and no mistake of who named it.
func mayReturn(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && errno != syscall.ENOTDIR && errno != syscall.EINVAL && !errors.Is(err, ErrInUse)
}

// mount opens the folder and loads the index.
func (s *Store) mount(ctx context.Context) error {
	if s.opts.Check != nil {
		if err := s.opts.Check(s.dir); err != nil {
			return err
		}
	}
	h, err := openHome(s.dir)
	if err != nil {
		return err
	}
	s.home.Store(h)
	return s.load(ctx, h)
}

// work starts what a store does by itself.
func (s *Store) work() {
	s.workers.Go(s.flusher)
	s.workers.Go(s.syncer)
	if !s.opts.inspect { // nothing is removed that nobody asked for
		s.workers.Go(s.evictAhead)
		s.workers.Go(s.scrub)
		s.workers.Go(s.sweeper)
		if s.Bans() >= sweepAt {
			s.sweepSoon()
		}
		s.nudge() // the size may be less than it was
	}
	s.health.mu.Lock()
	err := s.health.err
	if err == nil && s.health.full {
		err = errSmaller
	}
	s.health.healing = err != nil
	s.health.mu.Unlock()
	if err != nil { // found while it was loaded
		s.opts.Log.Error("store cannot be written", slog.Any("error", err))
		s.workers.Go(s.heal)
	}
}

// leave begins to wait for the folder.
func (s *Store) leave(err error) {
	s.away.loading.Store(true)
	s.away.hidden.Store(true)
	s.health.mu.Lock()
	s.health.err, s.health.healing = err, true
	s.health.mu.Unlock()
	s.unload()
	s.opts.Log.Error("store cannot be opened: answers are passed on", slog.Any("error", err))
	s.workers.Go(s.await)
}

// await tries until the folder can be used.
func (s *Store) await() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for wait := healFirst; ; wait = min(2*wait, healLast) {
		if !s.pause(wait) {
			return
		}
		err := s.mount(ctx)
		if err == nil {
			break
		}
		s.unload()
		s.health.mu.Lock()
		s.health.err = err
		s.health.mu.Unlock()
	}
	s.away.mu.Lock()
	missed := s.away.missed
	s.away.missed = nil
	s.away.loading.Store(false)
	s.banAll(missed)
	s.away.mu.Unlock()
	if s.opts.Returned != nil {
		s.opts.Returned()
	}
	// Who is told that all is well finds what is there.
	s.health.mu.Lock()
	s.away.hidden.Store(false)
	s.health.err = nil
	s.health.mu.Unlock()
	s.work()
	s.opts.Log.Info("store can be used", slog.Int("entries", s.index.Len()))
}

// banLater keeps bans until there is something they could be for. It reports
// false if there is.
func (s *Store) banLater(list []Ban) bool {
	if !s.away.loading.Load() {
		return false
	}
	s.away.mu.Lock()
	defer s.away.mu.Unlock()
	if !s.away.loading.Load() {
		return false
	}
	s.away.missed = append(s.away.missed, list...)
	if len(s.away.missed) > maxBans { // one that does more than was asked for
		s.away.missed = []Ban{{All: true, Fixed: true, Drop: true}}
	}
	return true
}

// unload gives up what a load that failed has made. Nobody else uses it.
func (s *Store) unload() {
	s.index.Clear()
	s.hot.clear()
	s.files.closeAll()
	s.doomed.take()
	for _, seg := range s.segs.all() {
		s.segs.set(seg.place, nil)
		seg.release()
	}
	for p := range s.queues {
		for q := range s.queues[p] {
			s.queues[p][q].active, s.queues[p][q].sealed = nil, nil
		}
	}
	s.space.mu.Lock()
	s.space.used, s.space.own, s.space.promised = 0, 0, 0
	s.space.pools, s.space.queues = [pools]int64{}, [pools][queues]int64{}
	s.space.mu.Unlock()
	s.bans.mu.Lock()
	s.bans.list, s.bans.keyed = nil, nil
	s.bans.mu.Unlock()
	s.log.flushMu.Lock()
	if s.log.f != nil {
		_ = s.log.f.Close() // nothing of worth was written
	}
	s.log.f, s.log.late, s.log.size, s.log.before = nil, nil, 0, 0
	s.log.flushMu.Unlock()
	s.log.mu.Lock()
	s.log.buf, s.log.lost = nil, false
	s.log.mu.Unlock()
	if h := s.home.Swap(nil); h != nil {
		_ = h.close() // nothing of worth was written
	}
}
