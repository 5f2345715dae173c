// Package turns bounds how much is done at once, for all and for each of those
// it is done for. Who finds no room waits in a line of bounded length, for a
// bounded time; room goes to those who wait in turn, so that one with much to do
// does not hold up another with little.
package turns

import (
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
	// of one client. 0: any number.
	Most, PerClient int
	// Waiting is how many wait at most, one client's half of it. Patience is how
	// long each waits at most.
	Waiting  int
	Patience time.Duration

	mu      sync.Mutex
	running int
	waiting int
	clients map[netip.Prefix]*client // who have a turn, or wait
	next    []*client                // who wait and may have more, in turn
}

// client is on whose behalf turns are taken. The zero prefix stands for all who
// are not counted one by one.
type client struct {
	counted bool
	running int
	waiters []chan struct{} // closed when the turn has come
	listed  bool            // among next
}

// may reports whether the client may have one more turn.
func (l *Line) may(c *client) bool {
	return !c.counted || l.PerClient <= 0 || c.running < l.PerClient
}

func (l *Line) room() bool { return l.Most <= 0 || l.running < l.Most }

// Take waits for a turn on behalf of a client, of whom the zero prefix is none
// in particular. If err is nil, the caller calls [Line.Give] when it is done;
// otherwise it is [ErrFull], [ErrLate] or the cause of the context's end.
func (l *Line) Take(ctx context.Context, of netip.Prefix) error {
	l.mu.Lock()
	c := l.clients[of]
	if c == nil {
		if l.clients == nil {
			l.clients = make(map[netip.Prefix]*client)
		}
		c = &client{counted: of.IsValid()}
		l.clients[of] = c
	}
	// Those who wait while there is room have all that one client may have.
	if l.room() && l.may(c) {
		l.running++
		c.running++
		l.mu.Unlock()
		return nil
	}
	if l.waiting >= l.Waiting || c.counted && len(c.waiters) >= max(l.Waiting/2, 1) {
		l.forget(of, c)
		l.mu.Unlock()
		return ErrFull
	}
	turn := make(chan struct{})
	c.waiters = append(c.waiters, turn)
	l.waiting++
	l.list(c)
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
	c.waiters = slices.Delete(c.waiters, i, i+1)
	l.waiting--
	l.forget(of, c)
	return err
}

// Give ends a turn that was taken on behalf of the client.
func (l *Line) Give(of netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.clients[of]
	l.running--
	c.running--
	l.list(c)
	for l.room() && len(l.next) > 0 {
		first := l.next[0]
		l.next = l.next[1:]
		first.listed = false
		if len(first.waiters) == 0 {
			continue // they have left
		}
		close(first.waiters[0])
		first.waiters = first.waiters[1:]
		l.waiting--
		l.running++
		first.running++
		l.list(first)
	}
	l.forget(of, c)
}

// list puts a client at the end of those who have turns next, if it waits for one
// that it may have.
func (l *Line) list(c *client) {
	if !c.listed && len(c.waiters) > 0 && l.may(c) {
		c.listed = true
		l.next = append(l.next, c)
	}
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
