package hubapi

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Cursor is a place in an event log: after the event with that serial. The
// zero Cursor is the begin of whatever log the hub has. A consumer stores it
// after it has acted on the events.
type Cursor struct {
	Log    string `json:"log"`
	Serial int64  `json:"serial"`
}

// ErrNoEventLog says that the server has no event log: it is no hub, or
// nothing between it and us passes the path on.
var ErrNoEventLog = errors.New("server has no event log")

// CursorError says that a cursor does not name a place in the hub's log any
// more: another log took its place, the log ends before the cursor (it was
// restored from a copy), or the events after the cursor are gone. The consumer
// compares its state with the hub's, whatever that means for it, and follows
// again from Now.
type CursorError struct {
	// Cursor is the one that has become useless, Now the log's end.
	Cursor, Now Cursor
	// Reason is one of the three, in words.
	Reason string
}

func (e *CursorError) Error() string {
	return fmt.Sprintf("event log: cursor %d of log %q is void: %s", e.Cursor.Serial, e.Cursor.Log, e.Reason)
}

// Batch is the outcome of one successful request to the event log.
type Batch struct {
	// Events are new, in order and without a gap. There may be none.
	Events []Event
	// Cursor is the place after them; it is what to store.
	Cursor Cursor
	// Head is the newest serial the hub had when it answered.
	Head int64
	// Report is [EventPage].Report; empty for a page that is not of the tail.
	Report string
}

// CaughtUp reports whether the consumer, once it has acted on the batch, knew
// all that had happened when the hub answered.
func (b Batch) CaughtUp() bool { return b.Cursor.Serial >= b.Head }

// FollowOptions are the wishes of a consumer of the event log. The zero value
// works.
type FollowOptions struct {
	// Wait is how long the hub may hold back an answer while there is nothing
	// new; 30 s if zero. A batch, possibly empty, comes at least that often
	// while the hub is reachable.
	Wait time.Duration
	// Reporter, if not nil, is told to the hub with each request of the tail, so
	// that it knows how far the consumer has come. It needs a token.
	Reporter *Reporter
	// Trouble, if not nil, is called when a request failed, with the pause
	// until the next one. From then to the next batch the consumer does not
	// know what it missed. It runs in the goroutine of the loop.
	Trouble func(err error, pause time.Duration)
}

// Events reads the log's tail once: at most limit (0: the hub's default)
// events after the serial. While there are none, the hub waits for the given
// time before it answers.
func (c *Client) Events(ctx context.Context, after int64, limit int, wait time.Duration) (EventPage, error) {
	var page EventPage
	err := c.do(ctx, eventsCall(after, limit, wait), &page)
	return page, eventsErr(err)
}

// EventPage reads page n of the log. Full pages never change, so they may come
// from a cache. A page beyond the log's end does not exist.
func (c *Client) EventPage(ctx context.Context, n int64) (EventPage, error) {
	var page EventPage
	if err := c.send(ctx, http.MethodGet, EventPagePath(n), nil, &page); err != nil {
		return page, fmt.Errorf("event log: page %d: %w", n, err)
	}
	return page, nil
}

// Follow yields every event after the cursor, in order, as long as ctx lives.
// It survives a hub that is away. The loop ends with a single error: that of
// ctx, [ErrNoEventLog], or a [*CursorError]. See [Client.FollowBatches] for
// consumers that must know when they have caught up.
func (c *Client) Follow(ctx context.Context, after Cursor) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for batch, err := range c.FollowBatches(ctx, after, FollowOptions{}) {
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, event := range batch.Events {
				if !yield(event, nil) {
					return
				}
			}
		}
	}
}

// FollowBatches yields what each successful request to the event log brought.
// A consumer far behind reads the log's immutable pages, one near the end its
// tail by long poll; the first answer, and the first after trouble, is never
// delayed, so that the consumer learns at once whether it has caught up. A
// batch is complete and in order, or it is not yielded: an answer with a gap
// counts as trouble. The loop ends as that of [Client.Follow].
func (c *Client) FollowBatches(ctx context.Context, after Cursor, opts FollowOptions) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		f := follower{client: *c, cursor: after, head: -1, wait: opts.Wait, reporter: opts.Reporter}
		if f.wait == 0 {
			f.wait = 30 * time.Second
		}
		f.client.RetryFor = -1 // the loop below is the one that repeats
		for failures := 0; ; {
			if ctx.Err() != nil {
				yield(Batch{}, context.Cause(ctx))
				return
			}
			asked := time.Now()
			batch, err := f.next(ctx)
			if err == nil {
				failures = 0
				if !yield(batch, nil) {
					return
				}
				if f.waited && len(batch.Events) == 0 && time.Since(asked) < min(f.wait, hurried) {
					// A hub with too many followers does not hold answers back.
					sleep(ctx, hurried)
				}
				continue
			}
			if ctx.Err() != nil {
				continue
			}
			if _, void := errors.AsType[*CursorError](err); void || errors.Is(err, ErrNoEventLog) && !f.connected {
				yield(Batch{}, err)
				return
			}
			f.head = -1
			pause := backoff(failures)
			if !Retryable(err) {
				pause = max(pause, maxPause/2) // a token or a proxy that a person must repair
			}
			failures++
			if opts.Trouble != nil {
				opts.Trouble(err, pause)
			}
			sleep(ctx, pause)
		}
	}
}

// follower is the state of one FollowBatches loop.
type follower struct {
	client    Client
	cursor    Cursor
	head      int64 // as last heard of; -1 if that must be asked first
	wait      time.Duration
	reporter  *Reporter
	connected bool // an answer was received before
	waited    bool // the last request asked the hub to wait
}

// hurried is the pause after an empty answer that came before its time.
const hurried = 5 * time.Second

// next makes one request, checks the answer and moves the cursor.
func (f *follower) next(ctx context.Context) (Batch, error) {
	f.waited = false
	n := f.cursor.Serial / EventPageSize
	if (n+1)*EventPageSize <= f.head && f.head-f.cursor.Serial > EventPageSize {
		return f.page(ctx, n)
	}
	var wait time.Duration
	if f.head >= 0 && f.cursor.Serial >= f.head {
		wait, f.waited = f.wait, true
	}
	request := eventsCall(f.cursor.Serial, 0, wait)
	if f.reporter != nil && f.cursor.Log != "" {
		maps.Copy(request.header, f.reporter.header(f.cursor))
	}
	var page EventPage
	if err := eventsErr(f.client.do(ctx, request, &page)); err != nil {
		return Batch{}, err
	}
	f.connected = true
	if err := f.check(page); err != nil {
		return Batch{}, err
	}
	if events := page.Events; len(events) > 0 && events[0].Serial > f.cursor.Serial+1 ||
		len(events) == 0 && page.Head > f.cursor.Serial {
		// The tail does not reach back to the cursor; the pages may.
		return f.page(ctx, n)
	}
	return f.accept(page)
}

// page reads the immutable page n, in which the event after the cursor is.
func (f *follower) page(ctx context.Context, n int64) (Batch, error) {
	page, err := f.client.EventPage(ctx, n)
	if e, ok := errors.AsType[*Error](err); ok && (e.Status == http.StatusNotFound || e.Status == http.StatusGone) {
		return Batch{}, &CursorError{
			Cursor: f.cursor, Now: Cursor{Log: f.cursor.Log, Serial: f.head},
			Reason: fmt.Sprintf("the hub does not hold page %d any more", n),
		}
	}
	if err != nil {
		return Batch{}, err
	}
	page.Head = max(page.Head, f.head) // a page may be old, the log is not shorter for that
	if err := f.check(page); err != nil {
		return Batch{}, err
	}
	for len(page.Events) > 0 && page.Events[0].Serial <= f.cursor.Serial {
		page.Events = page.Events[1:]
	}
	if len(page.Events) == 0 {
		return Batch{}, fmt.Errorf("event log: page %d lacks event %d", n, f.cursor.Serial+1)
	}
	return f.accept(page)
}

// check compares the log of an answer with that of the cursor.
func (f *follower) check(page EventPage) error {
	void := &CursorError{Cursor: f.cursor, Now: Cursor{Log: page.Log, Serial: page.Head}}
	switch {
	case page.Log == "":
		return errors.New("event log: answer without the log's identity")
	case f.cursor.Log != "" && f.cursor.Log != page.Log:
		void.Reason = fmt.Sprintf("the hub's log is now %q", page.Log)
		return void
	case page.Head < f.cursor.Serial:
		void.Reason = fmt.Sprintf("the hub's log ends at %d", page.Head)
		return void
	}
	f.cursor.Log = page.Log
	f.head = page.Head
	return nil
}

// accept checks that the answer's events follow the cursor without a gap.
func (f *follower) accept(page EventPage) (Batch, error) {
	next := f.cursor.Serial
	for _, event := range page.Events {
		if next++; event.Serial != next {
			return Batch{}, fmt.Errorf("event log: event %d where %d was due", event.Serial, next)
		}
	}
	f.cursor.Serial = next
	f.head = max(f.head, next)
	return Batch{Events: page.Events, Cursor: f.cursor, Head: f.head, Report: page.Report}, nil
}

func eventsCall(after int64, limit int, wait time.Duration) call {
	query := url.Values{"after": {strconv.FormatInt(after, 10)}}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	if wait > 0 {
		query.Set("wait", wait.String())
	}
	// No cache may answer for the tail: an old answer would hide events.
	header := http.Header{"Cache-Control": {"no-cache"}}
	return call{
		method: http.MethodGet, path: EventsPath, query: query, header: header,
		stall: wait + 10*time.Second,
	}
}

func eventsErr(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		return fmt.Errorf("%w (%w)", ErrNoEventLog, err)
	}
	return fmt.Errorf("event log: %w", err)
}
