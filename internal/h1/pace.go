package h1

import (
	"errors"
	"os"
	"time"
)

// pace is how fast a client takes an answer. The zero value is at its begin.
type pace struct {
	waits  time.Time // since when the client has to take of the answer what it can
	moved  int64     // what it took since then
	rested time.Time // when the last write ended, if the client ever had to be waited for
}

// errSlow says that a client takes its answer too slowly.
var errSlow = errors.New("the client takes its answer too slowly")

// isSlow reports whether an error of sending says so.
func isSlow(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errSlow) }

// tooSlow reports whether the client has taken too little since the answer had
// to wait for it.
func (p *pace) tooSlow(now time.Time, s *Server) bool {
	if p.waits.IsZero() {
		p.waits, p.moved = now, 0
		return false
	}
	d := now.Sub(p.waits)
	if d < 2*s.Stall {
		return false
	}
	if p.moved < int64(s.Limits.MinRate)*int64(d/time.Second) {
		return true
	}
	p.waits, p.moved = now, 0
	return false
}

// resume and pause stand around what a handler sends: that it had nothing to
// send is no fault of the client.
func (p *pace) resume() {
	if !p.rested.IsZero() {
		p.waits = p.waits.Add(time.Since(p.rested))
	}
}

func (p *pace) pause() {
	if !p.waits.IsZero() {
		p.rested = time.Now()
	}
}
