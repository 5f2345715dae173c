package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// ErrLateUpload says that a build took no uploads any more when one was complete,
// or even before: its Commit had begun, or it was removed. In the latter case the
// error is fs.ErrNotExist too.
var ErrLateUpload = errors.New("the build takes no more uploads")

// errRemoved says that a build is gone.
var errRemoved = fmt.Errorf("it was removed: %w", fs.ErrNotExist)

// gatePatience is how long those wait at a gate who cannot be cancelled.
const gatePatience = time.Minute

// A gate is held by many who use a build, or by one who changes it as a whole.
// Nobody who holds it may wait for the network, and everybody may give up
// waiting for it.
type gate struct {
	build   int64
	holders *semaphore.Weighted
	sealed  atomic.Bool  // somebody holds it alone
	epoch   atomic.Int64 // how often somebody did
	removed atomic.Bool  // set by who holds it alone
}

func newGate(build int64) *gate {
	return &gate{build: build, holders: semaphore.NewWeighted(math.MaxInt64)}
}

// begin keeps Commit and Remove away until done is called.
func (g *gate) begin(ctx context.Context) (done func(), err error) {
	return g.acquire(ctx, 1)
}

// seal waits until nobody uses the build and lets nobody in until done is called.
// Uploads in progress fail from here on.
func (g *gate) seal(ctx context.Context) (done func(), err error) {
	release, err := g.acquire(ctx, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	g.epoch.Add(1)
	g.sealed.Store(true)
	return func() {
		g.sealed.Store(false)
		release()
	}, nil
}

func (g *gate) acquire(ctx context.Context, weight int64) (release func(), err error) {
	if g.holders.Acquire(ctx, weight) != nil {
		return nil, fmt.Errorf("wait for build %d: %w", g.build, context.Cause(ctx))
	}
	release = func() { g.holders.Release(weight) }
	if g.removed.Load() {
		release()
		return nil, fmt.Errorf("build %d: %w", g.build, errRemoved)
	}
	return release, nil
}

// admit is begin for an upload, which is not to wait for a Commit to end. The
// epoch is that in which the upload has to be complete.
func (g *gate) admit(ctx context.Context) (epoch int64, done func(), err error) {
	if g.sealed.Load() {
		return 0, nil, fmt.Errorf("build %d: %w", g.build, ErrLateUpload)
	}
	done, err = g.begin(ctx)
	if errors.Is(err, errRemoved) {
		err = fmt.Errorf("%w: %w", ErrLateUpload, err)
	}
	if err != nil {
		return 0, nil, err
	}
	return g.epoch.Load(), done, nil
}

// readmit is admit for the end of an upload.
func (g *gate) readmit(ctx context.Context, epoch int64) (done func(), err error) {
	if err := g.inTime(epoch); err != nil {
		return nil, err
	}
	now, done, err := g.admit(ctx)
	if err != nil {
		return nil, err
	}
	if now != epoch {
		done()
		return nil, g.inTime(epoch)
	}
	return done, nil
}

// inTime tells whether an upload of an epoch can still be completed.
func (g *gate) inTime(epoch int64) error {
	if g.epoch.Load() == epoch {
		return nil
	}
	if g.removed.Load() {
		return fmt.Errorf("%w: build %d: %w", ErrLateUpload, g.build, errRemoved)
	}
	return fmt.Errorf("build %d: %w", g.build, ErrLateUpload)
}

// patience bounds a wait that ctx may not bound.
func patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, gatePatience,
		fmt.Errorf("it was in use for more than %v", gatePatience))
}
