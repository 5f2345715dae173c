package edge

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"freshet/internal/pause"
)

// budget paces what is fetched for one order. Safe for concurrent use.
type budget struct {
	rate  int64        // bytes per second; 0: no bound
	bytes atomic.Int64 // that came

	mu   sync.Mutex
	free time.Time // when what came so far is paid for
}

type budgetKey struct{}

// with returns a context whose requests are paced by b.
func (b *budget) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, budgetKey{}, b)
}

// budgetOf returns the budget of a request, nil if there is none.
func budgetOf(ctx context.Context) *budget {
	b, _ := ctx.Value(budgetKey{}).(*budget)
	return b
}

// maxPause bounds one pause, so that a reader who comes meanwhile does not wait
// longer.
const maxPause = time.Second

// spend notes n bytes and returns how long to pause after them.
func (b *budget) spend(n int, now time.Time) time.Duration {
	b.bytes.Add(int64(n))
	if b.rate <= 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free.Before(now) {
		b.free = now
	}
	b.free = b.free.Add(time.Duration(float64(n) / float64(b.rate) * float64(time.Second)))
	return b.free.Sub(now)
}

// pacedBody is a body that comes within a budget, unless somebody else reads
// along.
type pacedBody struct {
	io.ReadCloser
	f *flight
	b *budget
}

// Read reads little at a time where the rate is low.
func (p *pacedBody) Read(buf []byte) (int, error) {
	if p.b.rate > 0 {
		buf = buf[:min(len(buf), int(max(p.b.rate/4, 1<<10)))]
	}
	n, err := p.ReadCloser.Read(buf)
	for wait := p.b.spend(n, time.Now()); wait > 0 && !p.f.isWanted(); wait -= maxPause {
		if !pause.For(p.f.ctx, min(wait, maxPause)) {
			return n, err // the next read tells
		}
	}
	return n, err
}

// isWanted reports whether more than one reads along: the one who ordered the
// flight, and clients.
func (f *flight) isWanted() bool {
	f.mu.Lock()
	fl := f.fill
	f.mu.Unlock()
	if fl == nil {
		return false
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.readers > 1
}
