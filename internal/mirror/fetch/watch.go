package fetch

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"freshet/internal/mirror/budget"
)

// slowWindow is the time over which a source has to bring as much as it must.
const slowWindow = 30 * time.Second

// lookEvery is how often is looked whether a source has sent too much.
const lookEvery = time.Second

// errFlood is that of a source that does not come to an end.
var errFlood = fmt.Errorf("%w: it sends more than it has told of", ErrAnswer)

// watcher ends a transfer whose source is too slow, or sends too much.
type watcher struct {
	received atomic.Int64
	counters []*atomic.Int64 // of the bytes that come in
	cancel   context.CancelCauseFunc
	stopped  func() // waits for who watches
}

// watch returns a context that ends with [ErrSlow] when less comes in than must, and with
// errFlood when more bytes do than most; 0: any number.
func watch(ctx context.Context, o Order, share *budget.Share, most int64) (context.Context, *watcher) {
	w := new(watcher)
	w.counters = append(w.counters, &w.received)
	if o.Progress != nil {
		w.counters = append(w.counters, &o.Progress.Received)
	}
	ctx, w.cancel = context.WithCancelCause(ctx)
	var working sync.WaitGroup
	if o.Least > 0 {
		working.Go(func() { w.run(ctx, o.Least, share) })
	}
	if most > 0 {
		working.Go(func() { w.bound(ctx, most) })
	}
	w.stopped = working.Wait
	return ctx, w
}

// bound ends the transfer when too much has come.
func (w *watcher) bound(ctx context.Context, most int64) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if came := w.received.Load(); came > most {
			w.cancel(fmt.Errorf("%w: %d bytes came, where %d are more than enough", errFlood, came, most))
			return
		}
	}
}

func (w *watcher) stop() {
	w.cancel(nil)
	w.stopped()
}

func (w *watcher) run(ctx context.Context, least int64, share *budget.Share) {
	tick := time.NewTicker(slowWindow)
	defer tick.Stop()
	before, held := w.received.Load(), share.Held()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		came, waited := w.received.Load()-before, share.Held()-held
		if waited < slowWindow/2 && came < least*int64(slowWindow/time.Second) {
			w.cancel(fmt.Errorf("%w: %d bytes in %v", ErrSlow, came, slowWindow))
			return
		}
		before, held = before+came, held+waited
	}
}
