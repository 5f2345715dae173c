package budget

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Budget is a rate in bytes per second. It may be used by several goroutines at once. The
// zero value has no limit. It must not be copied.
type Budget struct {
	rate atomic.Int64 // read without the lock where there is no limit

	mu      sync.Mutex
	tokens  float64 // negative: bytes that went ahead
	at      time.Time
	virtual float64 // the tag of what was let through last
	waiting queue
	timer   *time.Timer
}

// catchUp is the part of a second whose bytes are not lost if nobody takes them in time.
const catchUp = 0.25

// New returns a budget of so many bytes per second; 0 or less: without a limit.
func New(bytesPerSecond int64) *Budget {
	b := new(Budget)
	b.Set(bytesPerSecond)
	return b
}

// Set changes the rate; 0 or less: no limit. Who waits is let through by the new one.
func (b *Budget) Set(bytesPerSecond int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.rate.Store(max(0, bytesPerSecond))
	b.tokens = min(b.tokens, b.most())
	b.serve()
}

// Rate is the rate in bytes per second, 0 if there is no limit.
func (b *Budget) Rate() int64 { return b.rate.Load() }

// Share returns a share of a budget with a weight; one below 1 counts as 1. A nil budget
// has shares too, which nothing limits.
func (b *Budget) Share(weight int) *Share {
	return &Share{budget: b, weight: float64(max(1, weight))}
}

// take waits until n bytes of a share may pass. It is false if done is closed before.
func (b *Budget) take(done <-chan struct{}, s *account, weight float64, n int64) bool {
	if b == nil || b.rate.Load() == 0 {
		return true
	}
	w := b.admit(s, weight, n)
	if w == nil {
		return true
	}
	select {
	case <-w.ready:
		return true
	case <-done:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.at >= 0 {
		heap.Remove(&b.waiting, w.at)
		return false
	}
	return true // it was let through just now
}

// admit lets n bytes pass at once, or returns who waits for them.
func (b *Budget) admit(s *account, weight float64, n int64) *waiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	w := &waiter{tag: max(b.virtual, s.finish), n: float64(n)}
	s.finish = w.tag + w.n/weight
	if b.rate.Load() == 0 || len(b.waiting) == 0 && b.tokens > 0 {
		b.pass(w)
		return nil
	}
	w.ready = make(chan struct{})
	heap.Push(&b.waiting, w)
	b.serve()
	return w
}

// pass lets through what w stands for.
func (b *Budget) pass(w *waiter) {
	b.virtual = w.tag
	if b.rate.Load() > 0 {
		b.tokens -= w.n
	}
}

// serve lets through who may pass, in the order of their tags, and sees to it that it is
// called when the next may.
func (b *Budget) serve() {
	for len(b.waiting) > 0 && (b.tokens > 0 || b.rate.Load() == 0) {
		w := heap.Pop(&b.waiting).(*waiter)
		b.pass(w)
		close(w.ready)
	}
	if len(b.waiting) == 0 {
		return
	}
	// A byte more than is owed, so that there is something when the timer fires.
	wait := time.Duration((1 - b.tokens) / float64(b.rate.Load()) * float64(time.Second))
	if b.timer == nil {
		b.timer = time.AfterFunc(wait, b.tick)
		return
	}
	b.timer.Reset(wait)
}

func (b *Budget) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.serve()
}

// refill adds what the time since it was last called is worth.
func (b *Budget) refill() {
	now := time.Now()
	if !b.at.IsZero() {
		b.tokens = min(b.most(), b.tokens+now.Sub(b.at).Seconds()*float64(b.rate.Load()))
	}
	b.at = now
}

// most is how many bytes may be waiting to be taken.
func (b *Budget) most() float64 { return max(1, catchUp*float64(b.rate.Load())) }

// waiter is somebody who waits, in the order of a fair queue: what begins to be served
// first goes first, where the bytes of a share follow one another in a time of their own
// that its weight makes shorter.
type waiter struct {
	tag   float64
	n     float64
	at    int // in the queue; -1: not any more
	ready chan struct{}
}

type queue []*waiter

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].tag < q[j].tag }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

func (q *queue) Push(x any) {
	w := x.(*waiter)
	w.at = len(*q)
	*q = append(*q, w)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	w.at = -1
	return w
}

// account is what a budget knows of a share, under its lock.
type account struct{ finish float64 }

// Share is what one user has of a budget, a project for instance. It may be used by
// several goroutines at once. A nil share is one of no budget.
type Share struct {
	budget  *Budget
	weight  float64
	account account
	own     Budget
	alone   account
	next    *Share
	taken   atomic.Int64
	held    atomic.Int64 // nanoseconds
}

// Limit sets a rate of the share's own, in bytes per second, within that of the budget;
// 0 or less: none.
func (s *Share) Limit(bytesPerSecond int64) { s.own.Set(bytesPerSecond) }

// Through has what this share takes be taken of another one, too, of another budget: what
// comes in over the network is written to a disk. It is called before the share is used.
func (s *Share) Through(next *Share) { s.next = next }

// Taken is how many bytes it has taken so far.
func (s *Share) Taken() int64 {
	if s == nil {
		return 0
	}
	return s.taken.Load()
}

// Take waits until n more bytes may pass, and counts them. The error is the cause of the
// end of ctx, if that comes first.
func (s *Share) Take(ctx context.Context, n int64) error {
	if !s.take(ctx.Done(), n) {
		return context.Cause(ctx)
	}
	return nil
}

func (s *Share) take(done <-chan struct{}, n int64) bool {
	if s == nil || n <= 0 {
		return true
	}
	if s.limit() > 0 {
		begun := time.Now()
		defer func() { s.held.Add(int64(time.Since(begun))) }()
	}
	if !s.own.take(done, &s.alone, 1, n) || !s.budget.take(done, &s.account, s.weight, n) || !s.next.take(done, n) {
		return false
	}
	s.taken.Add(n)
	return true
}

// Held is how long all takers together have waited so far.
func (s *Share) Held() time.Duration {
	if s == nil {
		return 0
	}
	return time.Duration(s.held.Load())
}

// limit is the rate that holds for the share, 0 for none.
func (s *Share) limit() (least int64) {
	if s == nil {
		return 0
	}
	rates := [...]int64{s.own.Rate(), 0, s.next.limit()}
	if s.budget != nil {
		rates[1] = s.budget.Rate()
	}
	for _, rate := range rates {
		if least == 0 || rate > 0 && rate < least {
			least = rate
		}
	}
	return least
}
