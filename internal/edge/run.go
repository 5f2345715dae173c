package edge

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/config"
	"freshet/internal/doors"
	"freshet/internal/h1"
	"freshet/internal/role"
)

// Run serves until ctx ends, then drains. A clean stop returns nil.
func Run(ctx context.Context, cfg Config, env role.Env) error {
	return RunReloading(ctx, cfg, env, nil)
}

// RunReloading is [Run] that also takes over settings while it serves: those
// that say so. Each Config that reloads yields is the whole configuration;
// certificates are read anew with it. What is wrong with it is logged, and
// changes nothing.
func RunReloading(ctx context.Context, cfg Config, env role.Env, reloads <-chan Config) (err error) {
	ballast := make([]byte, ballastSize)
	defer runtime.KeepAlive(ballast)
	env = env.WithDefaults()
	e, err := New(ctx, cfg, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if err := e.setGates(e.cfg); err != nil {
		return err
	}
	e.registerAdmin()
	access := e.newAccess()
	doors, err := e.openDoors(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	working, endWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endWork(nil)
	serving, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var work sync.WaitGroup // whatever changes the store by itself
	work.Add(1)
	group.Go(func() error {
		defer work.Done()
		return e.Follow(working)
	})
	if reloads != nil {
		group.Go(func() error {
			for {
				select {
				case cfg := <-reloads:
					e.reload(ctx, cfg, doors.Certificates())
				case <-ctx.Done():
					return nil
				}
			}
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		cause := context.Cause(ctx)
		if _, over := errors.AsType[role.Handover](cause); !over {
			stop(cause)
			endWork(cause)
			return nil
		}
		doors.LeaveH3() // while all others are served
		endWork(cause)
		work.Wait()
		stop(cause)
		err := e.store.Release()
		env.Released()
		return err
	})
	group.Go(func() error {
		env.Ready()
		return e.serve(serving, doors, access)
	})
	return group.Wait()
}

// ballastSize is how much memory is held and never touched, so that it is none.
// The runtime collects garbage when the heap has doubled. That of an edge is
// small, what it keeps is elsewhere: without this a collection would come every
// few hundred misses, and take a tenth of the processor.
const ballastSize = 16 << 20

// newAccess returns what records the requests of the edge and makes its metrics
// from the records. It is called once.
func (e *Edge) newAccess() *role.Access {
	access := role.NewAccess("edge", e.env.Log, e.env.Metrics).To(e.env.Access)
	access.Each = e.metrics.note
	return access
}

// openDoors opens all listeners, or none.
func (e *Edge) openDoors(ctx context.Context) (*doors.Doors, error) {
	limits := e.cfg.Limits
	d, err := e.cfg.Open(ctx, doors.Options{
		Role: "edge", Env: e.env, Limits: limits.Limits, Hosts: e.cfg.hosts(), H3: e.cfg.ListenH3, Streams: limits.Streams, Released: true,
	})
	if err != nil {
		return nil, err
	}
	e.portTLS.Store(int32(d.PortTLS()))
	return d, nil
}

// serve answers fresh hits by the front, and everything else by the way through
// the gates.
func (e *Edge) serve(ctx context.Context, d *doors.Doors, access *role.Access) error {
	front := &front{e: e, access: access, hots: newHots(), altSvc: d.AltSvc()}
	group, ctx := errgroup.WithContext(ctx)
	served := make(chan struct{})
	defer close(served)
	context.AfterFunc(ctx, func() { e.endLate(role.DrainTime(ctx), served) })
	group.Go(func() error {
		front.hots.hugePages(ctx)
		return nil
	})
	group.Go(func() error {
		return d.Serve(ctx, doors.Inside{
			Ready: front, All: access.Wrap(e.gated(e, d.Certificates(), front.altSvc)),
			Refused: func(r *h1.Refused) { noteRefused(access, r) }, //nolint:contextcheck // it is of no request
		})
	})
	return group.Wait()
}

// endLate ends the fetches if they outlast the drain time. The clients are cut
// then, and no answer is to wait for an origin any more.
func (e *Edge) endLate(drain time.Duration, served <-chan struct{}) {
	late := time.NewTimer(drain)
	defer late.Stop()
	select {
	case <-late.C:
		e.end()
	case <-served:
	}
}

// noteRefused records what was no request. It is of no site.
func noteRefused(access *role.Access, r *h1.Refused) {
	rec := r.Record()
	rec.Outcome = outcomeError.String()
	access.Note(context.Background(), rec)
}

// check validates a configuration that did not come through a file.
func check(cfg Config) error {
	if err := config.Check(cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}
