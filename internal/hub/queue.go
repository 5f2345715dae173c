package hub

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"freshet/internal/hub/repository"
	"freshet/internal/sign"
)

// What a queue may wait for, as people and metrics are told.
const (
	waitsForKey      = "key"
	waitsForSpace    = "space"
	waitsForDatabase = "database"
	waitsForStorage  = "storage"
)

// waitReasons returns all of them.
func waitReasons() []string {
	return []string{waitsForKey, waitsForSpace, waitsForDatabase, waitsForStorage}
}

const (
	// gatePoll is how often a worker looks whether its queue goes on.
	gatePoll = time.Second
	// minQueuePause is the time between the first two attempts at what the
	// queue waits for; it doubles each time up to maxQueuePause.
	minQueuePause = 2 * time.Second
	maxQueuePause = time.Minute
)

// queue is the queue of one repository as its worker sees it. While something
// is missing that every publish needs, none is begun: a job that went aside
// alone would be overtaken, and take back what was published meanwhile. The
// zero value goes on; so does nil, the queue of jobs that may overtake one
// another.
type queue struct {
	// ready says why no job could be done now; nil if there is nothing to ask.
	// It is asked while the queue waits and before each job, so it is cheap.
	ready func(context.Context) error
	// show tells what the queue waits for, "" for nothing; may be nil.
	show func(reason string)

	mu     sync.Mutex
	reason string // "": it goes on
	cause  error
	tries  int
	again  time.Time // when it is tried again
}

// gate returns why no job may be begun now.
func (q *queue) gate(ctx context.Context) error {
	if q == nil {
		return nil
	}
	q.mu.Lock()
	cause, again := q.cause, q.again
	q.mu.Unlock()
	if cause != nil && time.Now().Before(again) {
		return cause
	}
	if q.ready == nil {
		return nil
	}
	if err := q.ready(ctx); err != nil {
		q.hold(waitReason(err), err)
		return err
	}
	return nil
}

// hold makes the queue wait, and reports whether it did not before, or for
// something else.
func (q *queue) hold(reason string, cause error) (changed bool) {
	if q == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	changed = q.reason != reason
	if changed {
		q.tries = 0
	}
	pause := min(minQueuePause<<min(q.tries, 16), maxQueuePause)
	q.reason, q.cause, q.again = reason, cause, time.Now().Add(pause)
	q.tries++
	if changed && q.show != nil {
		q.show(reason)
	}
	return changed
}

// resume says that nothing is missing any more.
func (q *queue) resume() {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.reason != "" && q.show != nil {
		q.show("")
	}
	q.reason, q.cause, q.tries = "", nil, 0
}

// waiting returns in words what the queue waits for; "" when it goes on.
func (q *queue) waiting() string {
	if q == nil {
		return ""
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cause == nil {
		return ""
	}
	return q.reason + ": " + reason(q.cause)
}

// waitReason returns the reason word of an error that is not the fault of the
// job that met it and passes without it; "" for others.
func waitReason(err error) string {
	if _, away := sign.Away(err); away {
		return waitsForKey
	}
	if noSpace(err) {
		return waitsForSpace
	}
	if storageAway(err) {
		return waitsForStorage
	}
	return ""
}

// waiting says what the queue of a repository waits for; "" when it goes on.
func (s *server) waiting(repo string) string { return s.queues[repo].waiting() }

// newQueue is the queue of a repository, or that of commits.
func (s *server) newQueue(repo string, ready func(context.Context) error) *queue {
	q := &queue{show: func(reason string) { s.metrics.repoWaits(repo, reason) }, ready: ready}
	q.show("")
	return q
}

// readyWith asks whether the keys of a signer are there; nil when there is
// nothing to ask.
func readyWith(signer sign.Signer) func(context.Context) error {
	if w, ok := signer.(interface {
		Ready(ctx context.Context) error
	}); ok {
		return w.Ready
	}
	return nil
}

// readyRepo asks the same for a repository, and signs what could not be signed
// when it was opened.
func (s *server) readyRepo(name string, keys func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if keys != nil {
			if err := keys(ctx); err != nil {
				return err
			}
		}
		if !s.repos[name].Stale() {
			return nil
		}
		p := publish{server: s, repo: name, log: s.logOf()}
		err := s.repos[name].Refresh(ctx, func(result repository.Result) error { return p.record(ctx, result, false) })
		if err != nil && waitReason(err) == "" && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "a repository could not be brought up to date", slog.String("repo", name), slog.Any("error", err))
			return nil // what is published stays as it is
		}
		return err
	}
}
