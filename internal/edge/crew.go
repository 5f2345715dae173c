package edge

import "sync"

// crew are the goroutines that fly. One that has landed waits for its next
// flight: a new one would cost more than a short flight does, because its stack
// has to grow first. The zero value has none. Safe for concurrent use.
type crew struct {
	mu    sync.Mutex
	idle  []chan *flight // of those that wait, the last one at the end
	ended bool
}

// maxIdle bounds the goroutines that wait: their stacks are held meanwhile.
const maxIdle = 64

// send gives a flight to one that waits. It reports false if none does.
func (c *crew) send(f *flight) bool {
	c.mu.Lock()
	n := len(c.idle)
	if n == 0 {
		c.mu.Unlock()
		return false
	}
	next := c.idle[n-1]
	c.idle = c.idle[:n-1]
	c.mu.Unlock()
	next <- f // it has room for one
	return true
}

// rest adds one that waits, and reports whether it is to do so.
func (c *crew) rest(next chan *flight) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || len(c.idle) == maxIdle {
		return false
	}
	c.idle = append(c.idle, next)
	return true
}

// end sends those who wait home. Others follow when they have landed.
func (c *crew) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for _, next := range c.idle {
		close(next)
	}
	c.idle = nil
}

// launch has a flight flown.
func (e *Edge) launch(f *flight) {
	if e.crew.send(f) {
		return
	}
	next := make(chan *flight, 1)
	next <- f
	e.wg.Go(func() {
		for f := range next {
			if e.fly(f); !e.crew.rest(next) {
				return
			}
		}
	})
}
