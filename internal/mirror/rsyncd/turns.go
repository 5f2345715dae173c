package rsyncd

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

const (
	// turnWait is how long a client waits for its turn at most: behind that it begins though
	// others do.
	turnWait = 10 * time.Second
	// lookEvery is how often is looked whether a client that has the turn needs it: not so often
	// that one which answers from another continent loses it before it has said what it wants.
	lookEvery = 250 * time.Millisecond
)

// turns let no more clients than there are processors begin at a time. What rsync does first is
// to read the whole of a module, for which it wants a processor as long as that takes: a hundred of them
// at once are slower than one after the other, and however low their priority is, each is in
// the way of a request of HTTP for a moment. Who waits for its client, as rsync does in most of a
// transfer, has its turn no more.
type turns struct {
	begin chan struct{} // has room for those that have the turn
	// wanted tells for how long a process has wanted a processor since it runs.
	wanted func(pid int) (time.Duration, error)
}

// newTurns lets so many begin at a time.
func newTurns(most int) *turns {
	return &turns{begin: make(chan struct{}, most), wanted: wantedProcessor}
}

// turn is that of a client. The zero value has ended.
type turn struct {
	of    *turns
	ended chan struct{}
	once  sync.Once
}

// take waits for a turn. It is to be ended.
func (t *turns) take(ctx context.Context) *turn {
	late := time.NewTimer(turnWait)
	defer late.Stop()
	select {
	case t.begin <- struct{}{}:
		return &turn{of: t, ended: make(chan struct{})}
	case <-late.C:
	case <-ctx.Done():
	}
	return new(turn)
}

// end gives the turn to the next one. It may be called several times, at any time.
func (t *turn) end() {
	t.once.Do(func() {
		if t.of == nil {
			return
		}
		close(t.ended)
		<-t.of.begin
	})
}

// watch ends the turn when the process does something else than to want a processor for
// half of the time.
func (t *turn) watch(pid int) {
	if t.of == nil {
		return
	}
	looks := time.NewTicker(lookEvery)
	defer looks.Stop()
	before, at := time.Duration(0), time.Now()
	for {
		select {
		case now := <-looks.C:
			wanted, err := t.of.wanted(pid)
			if err != nil || wanted-before < now.Sub(at)/2 {
				t.end()
				return
			}
			before, at = wanted, now
		case <-t.ended:
			return
		}
	}
}

// wantedProcessor is for how long a process has run, and waited for a processor (the Linux
// kernel's Documentation/scheduler/sched-stats.rst).
func wantedProcessor(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var ran, waited int64 // nanoseconds
	if _, err := fmt.Sscan(string(text), &ran, &waited); err != nil {
		return 0, err
	}
	return time.Duration(ran + waited), nil
}
