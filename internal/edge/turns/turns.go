// Package turns bounds how much is done at once, for all and for each of those
// it is done for. What one may have shrinks with what is left, so that a few who
// take long cannot take all. Who finds no room waits in a line of bounded
// length, for a bounded time; room goes to those who have least, in turn, so that
// one with much to do does not hold up another with little.
package turns

import (
	"container/heap"
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

var (
	// ErrFull says that too many wait already.
	ErrFull = errors.New("too many wait")
	// ErrLate says that there was no room in time.
	ErrLate = errors.New("no room in time")
)

// Line gives out turns. The zero value does not bound anything. The exported
// fields are not changed after the first use. It is safe for concurrent use.
type Line struct {
	// Most is how many have a turn at once, PerClient how many of them on behalf
	// of one client while no other has any. 0: any number.
	//
	// The fewer turns are left, the fewer a client may have: with half as many left
	// as by PerClient, an eighth of it. A client that has none may have the last
	// one. So a few that take what they can and give nothing back leave enough for
	// others: of 2048 turns with 512 for one client, 4 such leave 954, 16 leave 483,
	// and it takes 274 to have all.
	Most, PerClient int
	// Waiting is how many wait at most, those of one client not more than places
	// are left. Patience is how long each waits at most.
	Waiting  int
	Patience time.Duration

	mu      sync.Mutex
	running int
	waiting int
	clients map[netip.Prefix]*client // who have a turn, or wait
	next    queue                    // who wait
	serial  uint64                   // of the last client that waits, or had a turn
}

// client is on whose behalf turns are taken. The zero prefix stands for all who
// are not counted one by one.
type client struct {
	counted bool
	running int
	waiters []chan struct{} // closed when the turn has come
	since   uint64          // the line's serial when it began to wait, or had its last turn
	place   int             // in the queue, with waiters
}

// held is how many turns the client has, where that counts.
func (c *client) held() int {
	if !c.counted {
		return 0
	}
	return c.running
}

// may reports whether the client may have one more of the free turns. If one
// that waits may not, none with as many turns or more may.
func (l *Line) may(c *client) bool {
	if l.Most > 0 && l.running >= l.Most {
		return false
	}
	held := c.held()
	if held == 0 || l.PerClient <= 0 {
		return true
	}
	share := 1.0
	if l.Most > l.PerClient {
		share = min(1, float64(l.Most-l.running)/float64(l.Most-l.PerClient))
	}
	return float64(held) < float64(l.PerClient)*share*share*share
}

// client returns what is known of a client.
func (l *Line) client(of netip.Prefix) *client {
	c := l.clients[of]
	if c == nil {
		if l.clients == nil {
			l.clients = make(map[netip.Prefix]*client)
		}
		c = &client{counted: of.IsValid()}
		l.clients[of] = c
	}
	return c
}

// take gives the client a turn if it may have one. None of those who wait may.
func (l *Line) take(c *client) bool {
	if !l.may(c) {
		return false
	}
	l.running++
	c.running++
	return true
}

// Free reports whether a client would have a turn without waiting.
func (l *Line) Free(of netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.client(of)
	defer l.forget(of, c)
	return l.may(c)
}

// TryTake is [Line.Take] without waiting. It reports whether there was a turn.
func (l *Line) TryTake(of netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.client(of)
	defer l.forget(of, c)
	return l.take(c)
}

// Take waits for a turn on behalf of a client, of whom the zero prefix is none
// in particular. If err is nil, the caller calls [Line.Give] when it is done;
// otherwise it is [ErrFull], [ErrLate] or the cause of the context's end.
func (l *Line) Take(ctx context.Context, of netip.Prefix) error {
	l.mu.Lock()
	c := l.client(of)
	if l.take(c) {
		l.mu.Unlock()
		return nil
	}
	if left := l.Waiting - l.waiting; left <= 0 || c.counted && len(c.waiters) >= left {
		l.forget(of, c)
		l.mu.Unlock()
		return ErrFull
	}
	turn := make(chan struct{})
	c.waiters = append(c.waiters, turn)
	l.waiting++
	if len(c.waiters) == 1 {
		l.serial++
		c.since = l.serial
		heap.Push(&l.next, c)
	}
	l.mu.Unlock()
	return l.wait(ctx, of, c, turn)
}

func (l *Line) wait(ctx context.Context, of netip.Prefix, c *client, turn chan struct{}) error {
	late := time.NewTimer(l.Patience)
	defer late.Stop()
	var err error
	select {
	case <-turn:
		return nil
	case <-late.C:
		err = ErrLate
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(c.waiters, turn)
	if i < 0 {
		return nil // it came at the same time
	}
	l.leave(c, i)
	l.forget(of, c)
	return err
}

// leave takes one who waits out of the line.
func (l *Line) leave(c *client, i int) {
	c.waiters = slices.Delete(c.waiters, i, i+1)
	l.waiting--
	if len(c.waiters) == 0 {
		heap.Remove(&l.next, c.place)
	}
}

// Give ends a turn that was taken on behalf of the client.
func (l *Line) Give(of netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.clients[of]
	l.running--
	c.running--
	if len(c.waiters) > 0 {
		heap.Fix(&l.next, c.place)
	}
	for len(l.next) > 0 && l.take(l.next[0]) {
		first := l.next[0]
		l.serial++
		first.since = l.serial
		heap.Fix(&l.next, 0)
		close(first.waiters[0])
		l.leave(first, 0)
	}
	l.forget(of, c)
}

// forget drops a client of whom nothing is left.
func (l *Line) forget(of netip.Prefix, c *client) {
	if c.running == 0 && len(c.waiters) == 0 && l.clients[of] == c {
		delete(l.clients, of)
	}
}

// Held returns how many have a turn, and how many wait for one.
func (l *Line) Held() (running, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running, l.waiting
}

// queue is a heap of the clients that wait: before others is who has fewer turns
// or, with as many, waits longer for one.
type queue []*client

// Len implements [heap.Interface].
func (q queue) Len() int { return len(q) }

// Less implements [heap.Interface].
func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	return a.held() < b.held() || a.held() == b.held() && a.since < b.since
}

// Swap implements [heap.Interface].
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements [heap.Interface].
func (q *queue) Push(x any) {
	if c, ok := x.(*client); ok {
		c.place = len(*q)
		*q = append(*q, c)
	}
}

// Pop implements [heap.Interface].
func (q *queue) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return c
}
