// Package follow follows the event log of a hub on behalf of somebody who keeps a state
// that depends on what the hub publishes.
//
// Events hint, state decides: where it is not known what was missed, because there is no
// cursor yet or the log has another one in its place, whoever follows is told to compare
// all of its state with the hub's, and follows from the end of the log that there was
// before. The cursor moves after what it stands for is done, so an event may be told
// twice but never not at all. A hub that is away is asked again, later each time, at
// moments that are not those of other followers. See docs/formats/event-log.md.
package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/pause"
)

// State is how a follower stands to a hub.
type State int

// How a follower stands to a hub.
const (
	// CatchingUp: the hub answers, or was not asked yet, and something may have happened
	// that is not known.
	CatchingUp State = iota
	// Following: all is known that the hub has told of.
	Following
	// Away: the hub does not answer; what it publishes is not known.
	Away
	// NoLog: there is no event log. It is looked again after Follower.Absent.
	NoLog
)

// String is one word for people and metrics.
func (s State) String() string {
	return [...]string{"catching_up", "following", "away", "no_log"}[s]
}

// Cursors keeps a cursor.
type Cursors interface {
	// Load returns the cursor that was saved last for this hub, the zero one if there is
	// none. With an error it is begun anew.
	Load() (hubapi.Cursor, error)
	// Save keeps a cursor. When it returns, what the cursor stands for must be kept as well.
	Save(c hubapi.Cursor) error
}

// Follower follows one hub. Client, Begin and Apply are needed.
type Follower struct {
	// Client speaks with the hub. Its Token is sent only to a server that has an event log.
	Client hubapi.Client
	// Options are those of the log. Trouble is the follower's own.
	Options hubapi.FollowOptions
	// Cursors keeps the cursor over restarts. Nil: it begins at the end of the log.
	Cursors Cursors
	// Begin compares all state with the hub's, which is at least that of the end of the log
	// when Begin is called, or sees to it that this is done. After an error it is called
	// again.
	Begin func(ctx context.Context) error
	// Apply acts on a batch, or sees to it that this is done; it may have no events. After
	// an error it gets the same events again.
	Apply func(ctx context.Context, b hubapi.Batch) error
	// Told is called with each state, also with the one that there was, and why it is
	// not Following, if that is known. Nil: nobody is told.
	Told func(ctx context.Context, s State, why error)
	// Retry is the wait after a failure that is not one of the network; 0: 5 s. Absent is
	// when somebody without an event log is asked again; 0: ten minutes.
	Retry, Absent time.Duration

	last hubapi.Cursor // without Cursors
}

const (
	defaultRetry  = 5 * time.Second
	defaultAbsent = 10 * time.Minute
	firstRetry    = time.Second // of a hub that starts at the same moment
)

// Run follows until ctx ends. It is called once.
func (f *Follower) Run(ctx context.Context) {
	var begun time.Time // anew
	for first := true; ctx.Err() == nil; first = false {
		err := f.follow(ctx)
		if void, ok := errors.AsType[*hubapi.CursorError](err); ok && ctx.Err() == nil {
			f.told(ctx, CatchingUp, err)
			if err = f.begin(ctx, void.Now); err == nil && time.Since(begun) < orElse(f.Retry, defaultRetry) {
				pause.For(ctx, orElse(f.Retry, defaultRetry)) // two logs, in turn
			}
			begun = time.Now()
		}
		switch {
		case ctx.Err() != nil || err == nil:
		case errors.Is(err, hubapi.ErrNoEventLog):
			f.told(ctx, NoLog, err)
			pause.For(ctx, orElse(f.Absent, defaultAbsent))
		default:
			f.told(ctx, Away, err)
			wait := orElse(f.Retry, defaultRetry)
			if first {
				wait = min(wait, firstRetry)
			}
			pause.For(ctx, wait)
		}
	}
}

func orElse(d, other time.Duration) time.Duration {
	if d == 0 {
		return other
	}
	return d
}

func (f *Follower) told(ctx context.Context, s State, why error) {
	if f.Told != nil && ctx.Err() == nil {
		f.Told(ctx, s, why)
	}
}

// follow follows until something breaks.
func (f *Follower) follow(ctx context.Context) error {
	client := f.Client
	client.RetryFor = -1 // Run and FollowBatches repeat
	cursor, err := f.load()
	if err != nil {
		f.told(ctx, CatchingUp, fmt.Errorf("it is begun anew: %w", err))
	}
	if cursor.Log == "" {
		client.Token = "" // it may be no hub
		page, err := client.Events(ctx, 0, 1, 0)
		if err != nil {
			return err
		}
		cursor = hubapi.Cursor{Log: page.Log, Serial: page.Head}
		if err := f.begin(ctx, cursor); err != nil {
			return err
		}
		client.Token = f.Client.Token
	}
	opts := f.Options
	opts.Trouble = func(err error, _ time.Duration) { f.told(ctx, Away, err) }
	for batch, err := range client.FollowBatches(ctx, cursor, opts) {
		if err != nil {
			return err
		}
		if !batch.CaughtUp() {
			f.told(ctx, CatchingUp, nil)
		}
		if err := f.apply(ctx, batch); err != nil {
			return fmt.Errorf("events up to %d: %w", batch.Cursor.Serial, err)
		}
		if batch.CaughtUp() {
			f.told(ctx, Following, nil)
		}
	}
	return ctx.Err()
}

func (f *Follower) apply(ctx context.Context, b hubapi.Batch) error {
	if err := f.Apply(ctx, b); err != nil {
		return err
	}
	if len(b.Events) == 0 {
		return nil
	}
	return f.save(b.Cursor)
}

// begin has all state compared, and goes on from now.
func (f *Follower) begin(ctx context.Context, now hubapi.Cursor) error {
	if err := f.Begin(ctx); err != nil {
		return err
	}
	return f.save(now)
}

func (f *Follower) load() (hubapi.Cursor, error) {
	if f.Cursors == nil {
		return f.last, nil
	}
	c, err := f.Cursors.Load()
	if err != nil {
		return hubapi.Cursor{}, err
	}
	return c, nil
}

func (f *Follower) save(c hubapi.Cursor) error {
	f.last = c
	if f.Cursors == nil {
		return nil
	}
	return f.Cursors.Save(c)
}
