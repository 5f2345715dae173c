// Package cancel has contexts for work that is mostly over before anybody waits
// for its cancellation: they cost no more than their own memory until somebody
// asks for the channel, and nothing is registered with a parent.
package cancel

import (
	"context"
	"sync"
	"time"
)

// Context is a [context.Context] that ends when [Context.Cancel] is called, and
// by nothing else. It must be begun, is safe for concurrent use, and is not
// copied.
//
// [context.Cause] returns what it was cancelled with, and so does Err: wrapped,
// so that it is [context.Canceled] as well.
type Context struct {
	parent context.Context //nolint:containedctx // has the values
	key    any             // of value, nil if there is none
	value  any

	mu    sync.Mutex
	done  chan struct{} // made when somebody asks for it
	err   error         // not nil: it has ended
	hooks *Hook         // called at the end
}

// New returns a context with the values of parent, which must be one that never
// ends, as those of [context.WithoutCancel].
func New(parent context.Context) *Context {
	c := new(Context)
	c.Begin(parent)
	return c
}

// Begin prepares a zero Context, as New does.
func (c *Context) Begin(parent context.Context) { c.parent = parent }

// Carry adds one value. It reports false, and does nothing, if there is one
// already. Nobody else may use the context yet.
func (c *Context) Carry(key, value any) bool {
	if c.key != nil {
		return false
	}
	c.key, c.value = key, value
	return true
}

// Deadline implements [context.Context]. There is none.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements [context.Context].
func (c *Context) Value(key any) any {
	if c.key != nil && c.key == key {
		return c.value
	}
	return c.parent.Value(key)
}

// Done implements [context.Context].
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err implements [context.Context].
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Cancel ends the context because of cause; nil is [context.Canceled]. Only the
// first call counts.
func (c *Context) Cancel(cause error) {
	err := context.Canceled
	if cause != nil {
		err = &canceled{cause}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
	for h := c.hooks; h != nil; {
		go h.f()
		next := h.next
		h.next, h.prev = nil, nil
		h = next
	}
	c.hooks = nil
}

// AfterFunc lets package context know of the end without a goroutine that waits
// for it.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	h := new(Hook)
	h.Set(c, f)
	return h.Drop
}

// canceled is why a context ended.
type canceled struct{ cause error }

func (e *canceled) Error() string { return e.cause.Error() }

func (e *canceled) Unwrap() []error { return []error{e.cause, context.Canceled} }

// Hook calls a function when a context ends. It does for [Context] what
// [context.AfterFunc] does for any, without allocations. The zero value is not
// set; one goroutine sets and drops it.
type Hook struct {
	f    func()
	stop func() bool // of a context of another kind

	of         *Context // nil: not set, or called at once
	next, prev *Hook    // under of.mu
}

// Set has f called, in a goroutine of its own, when ctx ends, or at once if it
// has. The hook must not be set.
func (h *Hook) Set(ctx context.Context, f func()) {
	c, ok := ctx.(*Context)
	if !ok {
		h.stop = context.AfterFunc(ctx, f)
		return
	}
	h.f, h.of = f, c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		h.of = nil
		return
	}
	if h.next = c.hooks; h.next != nil {
		h.next.prev = h
	}
	c.hooks = h
}

// Drop takes the function back. It reports whether it was not and will not be
// called.
func (h *Hook) Drop() bool {
	if stop := h.stop; stop != nil {
		h.stop = nil
		return stop()
	}
	c := h.of
	if c == nil {
		return false
	}
	h.of = nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		c.hooks = h.next
	}
	h.next, h.prev = nil, nil
	return true
}
