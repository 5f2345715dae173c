package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"freshet/internal/pause"
)

const (
	// attempts is how often a file is asked for while the server does not give it.
	attempts = 3
	// firstPause is the time before the second attempt.
	firstPause = time.Second
	// mostFailures in a row, of whatever files, and the server is given up.
	mostFailures = 20
	// defaultMisses in a row, and a sibling is not asked any more.
	defaultMisses = 64
	// siblingFailures in a row, and a sibling is given up: there are others.
	siblingFailures = 4
)

// webOrder is an order to a server of HTTP while it is carried out.
type webOrder struct {
	s      *webSource
	order  Order
	root   *os.Root
	watch  *watcher
	cancel context.CancelCauseFunc

	failures, misses atomic.Int32 // in a row

	mu     sync.Mutex
	report func(Result)
}

// Fetch fetches several files at once, and long ones in several parts at once.
func (s *webSource) Fetch(ctx context.Context, o Order, report func(Result)) error {
	root, err := os.OpenRoot(o.Folder)
	if err == nil {
		defer func() { _ = root.Close() }()
		err = makeParts(root)
	}
	if err != nil {
		return failAll(o.Wants, s.url, err, report)
	}
	ctx, watch := watch(ctx, o, s.o.Network, 0) // each file has a bound
	defer watch.stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &webOrder{s: s, order: o, root: root, watch: watch, cancel: cancel, report: report}
	var next atomic.Int64
	var working sync.WaitGroup
	for range cap(s.slots) {
		working.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(o.Wants)) {
					return
				}
				f.tell(f.file(ctx, o.Wants[i]))
			}
		})
	}
	working.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return nil
}

// errEnough ends an order to a sibling that has nothing of what is wanted.
var errEnough = errors.New("the sibling has next to nothing of this")

func (f *webOrder) mostFailures() int32 {
	if f.s.byHash {
		return siblingFailures
	}
	return mostFailures
}

func (f *webOrder) tell(r Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report(r)
}

// file gets one file, and judges the source by that.
func (f *webOrder) file(ctx context.Context, w Want) Result {
	r := Result{Want: w, From: f.s.url}
	err := context.Cause(ctx)
	if err == nil {
		err = f.persist(ctx, &r)
	}
	r.Outcome = Fetched
	if err != nil {
		r.Outcome = f.judge(err)
		r.Err = fmt.Errorf("%s: %w", w.Path, err)
	}
	if r.Outcome != Failed {
		f.failures.Store(0)
	}
	if r.Outcome == Fetched {
		f.misses.Store(0)
	}
	return r
}

// judge is what an error of a file means, for it and for what is left of the order.
func (f *webOrder) judge(err error) Outcome {
	switch outcome := outcomeOf(err); {
	case errors.Is(err, errWrong):
		return Wrong
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		f.cancel(err)
		return Failed
	case errors.Is(err, ErrUnreachable):
		if f.failures.Add(1) == f.mostFailures() {
			f.cancel(err)
		}
		return Failed
	case outcome == Absent:
		if f.misses.Add(1) == int32(cmp.Or(f.order.Misses, defaultMisses)) && f.s.byHash {
			f.cancel(errEnough)
		}
		return Absent
	default:
		return outcome
	}
}

// persist gets a file, and tries again where that may help, for as long as each attempt
// comes further than all before it.
func (f *webOrder) persist(ctx context.Context, r *Result) error {
	if done, err := f.have(ctx, r); done || err != nil {
		return err
	}
	p, err := openPart(f.root, r.Want)
	if err != nil {
		return err
	}
	wait, furthest := firstPause, p.reach()
	for attempt := 1; err == nil; attempt++ {
		if err = f.get(ctx, p, r); err == nil {
			break
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
		if reach := p.reach(); reach > furthest {
			attempt, wait, furthest = 1, firstPause, reach
		}
		if !errors.Is(err, ErrUnreachable) || attempt == attempts || f.s.byHash {
			break
		}
		if busy, ok := errors.AsType[*busyError](err); ok {
			wait = max(wait, busy.after)
		}
		if err = nil; !pause.For(ctx, wait) {
			err = context.Cause(ctx)
		}
		wait *= 4
	}
	p.close(errors.Is(err, errWrong))
	return err
}

// have reports whether the file has come already, in an order before this one. It is known
// again by its checksum, or by size and time.
func (f *webOrder) have(ctx context.Context, r *Result) (bool, error) {
	info, err := f.root.Lstat(r.Want.Path)
	if err != nil || !info.Mode().IsRegular() {
		return false, nil //nolint:nilerr // it is not there, or something is in the way
	}
	if r.Want.Sum.Value == "" && (r.Want.Size < 0 || !info.ModTime().Equal(r.Want.ModTime)) {
		return false, nil
	}
	err = f.inspect(ctx, r)
	if errors.Is(err, errWrong) {
		return false, nil
	}
	return err == nil, err
}

// inspect reads the file at its place.
func (f *webOrder) inspect(ctx context.Context, r *Result) error {
	folder, err := f.root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() // it is only read
	i := inspector{folder: int(folder.Fd()), o: &f.s.o}
	return i.examine(ctx, r)
}

// get gets what is missing of a file, and puts it in its place.
func (f *webOrder) get(ctx context.Context, p *part, r *Result) error {
	if p.pieces != nil {
		err := f.inPieces(ctx, p)
		if err == nil {
			if err = p.place(f.modTime(p)); err != nil {
				return err
			}
			return f.inspect(ctx, r)
		}
		if !errors.Is(err, errNoRanges) {
			return err
		}
		if err := p.restart(false); err != nil {
			return err
		}
	}
	if err := f.stream(ctx, p); err != nil {
		return err
	}
	if err := p.check(r); err != nil {
		return err
	}
	r.ModTime = f.modTime(p)
	return p.place(r.ModTime)
}

// modTime is the time that a file gets: the one that its server tells. A sibling may have
// it in another project, with another time.
func (f *webOrder) modTime(p *part) time.Time {
	t := p.version.ModTime
	if t.IsZero() || f.s.byHash && !p.want.ModTime.IsZero() {
		t = p.want.ModTime
	}
	if t.IsZero() {
		t = time.Now()
	}
	return t.UTC().Truncate(time.Second)
}
