// Package pause waits for a while, but no longer than somebody wants the result.
package pause

import (
	"context"
	"time"
)

// For waits for d, and tells whether there is a reason to go on: it returns true
// after d, and false as soon as ctx has ended. When ctx had ended before it is
// false at once, whatever d is. No timer is left behind.
func For(ctx context.Context, d time.Duration) bool { return Until(ctx, nil, d) }

// Until is [For] that ends early, with true, when there is something on news or it
// is closed. A nil channel never has anything.
func Until(ctx context.Context, news <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-news:
		return ctx.Err() == nil
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
