package diskcache

import (
	"errors"
	"log/slog"
	"time"
)

// sweepSoon has the store looked through.
func (s *Store) sweepSoon() {
	select {
	case s.sweeps <- struct{}{}:
	default:
	}
}

// sweeper looks through the store whenever there are many bans, until the store
// is closed.
func (s *Store) sweeper() {
	for {
		select {
		case <-s.sweeps:
		case <-s.ended:
			return
		}
		before := s.Bans()
		if err := s.sweepBans(); err != nil {
			s.opts.Log.Warn("bans are kept", slog.Int("bans", before), slog.Any("error", err))
			continue
		}
		s.opts.Log.Info("bans are carried out", slog.Int("before", before), slog.Int("after", s.Bans()))
	}
}

// sweepBans does to every entry what the present bans say, and forgets them. It
// takes half of the time only, so that others have the disk, too.
func (s *Store) sweepBans() error {
	upTo := s.bans.newest.Load()
	if s.opts.Held != nil {
		upTo = min(upTo, s.opts.Held())
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	begun, n := time.Now(), 0
	for e, err := range s.readAll() {
		if err != nil {
			return err
		}
		s.carryOut(e)
		if n++; n%1024 != 0 {
			continue
		}
		timer.Reset(time.Since(begun))
		select {
		case <-timer.C:
		case <-s.ended:
			return errors.New("the store is being closed")
		}
		begun = time.Now()
	}
	if err := s.Sync(); err != nil { // what was marked, before its ban goes
		return err
	}
	s.bans.forget(upTo)
	return nil
}

// carryOut does to an entry what the bans say.
func (s *Store) carryOut(e *Entry) {
	e.mu.Lock()
	before := e.state
	now, drop := s.bans.apply(e.state, e.epoch, e.Meta())
	e.mu.Unlock()
	switch {
	case drop:
		s.Delete(e)
	case now != before:
		e.Mark(func(*State) {})
	}
}
