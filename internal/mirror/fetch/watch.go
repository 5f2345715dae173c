package fetch

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"freshet/internal/mirror/budget"
)

// slowWindow is the time over which a source has to bring as much as it must.
const slowWindow = 30 * time.Second

// watcher ends a transfer whose source is too slow.
type watcher struct {
	received atomic.Int64
	counters []*atomic.Int64 // of the bytes that come in
	cancel   context.CancelCauseFunc
	stopped  chan struct{}
}

// watch returns a context that ends with [ErrSlow] when less comes in than must.
func watch(ctx context.Context, o Order, share *budget.Share) (context.Context, *watcher) {
	w := &watcher{stopped: make(chan struct{})}
	w.counters = append(w.counters, &w.received)
	if o.Progress != nil {
		w.counters = append(w.counters, &o.Progress.Received)
	}
	ctx, w.cancel = context.WithCancelCause(ctx)
	if o.Least > 0 {
		go w.run(ctx, o.Least, share)
	} else {
		close(w.stopped)
	}
	return ctx, w
}

func (w *watcher) stop() {
	w.cancel(nil)
	<-w.stopped
}

func (w *watcher) run(ctx context.Context, least int64, share *budget.Share) {
	defer close(w.stopped)
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
