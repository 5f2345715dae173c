package catalog

import (
	"context"
	"sync"
	"time"

	"freshet/internal/sqldb"
)

// channel is the NOTIFY channel by which processes that share a PostgreSQL
// database wake each other.
const channel = "freshet_hub"

// pollInterval is how often Watch looks for changes made by other processes.
const pollInterval = time.Second

// broadcast wakes all who wait. The zero value is ready.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // closed by the next send
}

// next returns a channel that the next send closes.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// EventsChanged returns a channel that is closed when there is a new event.
// Take the channel first, then look at the events, then wait.
func (c *Catalog) EventsChanged() <-chan struct{} { return c.events.next() }

// JobsChanged returns a channel that is closed when a job was queued, wrote to
// its log or ended, or the state of a build changed. Take the channel first,
// then look, then wait.
func (c *Catalog) JobsChanged() <-chan struct{} { return c.jobs.next() }

// touchJobs counts a change of jobs in the transaction, for other processes.
func touchJobs(ctx context.Context, tx *sqldb.Tx) error {
	if _, err := next(ctx, tx, "job-change"); err != nil {
		return err
	}
	return tx.Notify(ctx, channel, "job")
}

// Watch closes the channels of EventsChanged and JobsChanged for changes made
// by other processes too, within about a second, until ctx ends. Changes made
// through this Catalog are announced at once and do not need it. A database
// that does not answer is asked again; Watch returns nil when ctx ends.
func (c *Catalog) Watch(ctx context.Context) error {
	hint := make(chan struct{}, 1)
	var listening sync.WaitGroup
	defer listening.Wait()
	listening.Go(func() { c.db.Hints(ctx, channel, 5*pollInterval, hint) })
	var event, job int64
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		newEvent, newJob, err := c.marks(ctx)
		if err == nil {
			if newEvent != event {
				c.events.send()
			}
			if newJob != job {
				c.jobs.send()
			}
			event, job = newEvent, newJob
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-hint:
		}
	}
}

// marks returns the counters that move with every event and every change of a
// job.
func (c *Catalog) marks(ctx context.Context) (event, job int64, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		row := tx.QueryRow(ctx, `SELECT e.value, j.value FROM counters e, counters j WHERE e.name = 'event' AND j.name = 'job-change'`)
		return row.Scan(&event, &job)
	})
	return event, job, err
}
