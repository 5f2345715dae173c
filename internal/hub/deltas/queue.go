package deltas

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"freshet/internal/ostree"
)

// Task is a static delta to be made.
type Task struct {
	Delta

	Repo string
	// Build is the build whose commits the delta leads to; 0: it leads to what is
	// published. A publish waits for the deltas of a build, so they come first.
	Build int64
	// Engine is the name of the engine that is to make it, in the words of the
	// configuration.
	Engine string
	// Stale tells, right before it is begun, that nobody wants it any more. It must
	// not call the queue. Nil: it is wanted.
	Stale func() bool
}

// Made is a delta that is made, in a folder of its own that is now the submitter's.
type Made struct {
	Dir     string
	Report  Report
	Seconds float64
	Worker  string // who made it
}

// Outcome is what became of a task. Made counts when Err is nil.
type Outcome struct {
	Task Task
	Made Made
	Err  error
}

var (
	// ErrStale is the outcome of a task that nobody wanted any more.
	ErrStale = errors.New("nobody wants the delta any more")
	// ErrLeaseLost tells who holds a lease that it is over: it was not extended in
	// time, somebody else has the task, or nobody wants it any more.
	ErrLeaseLost = errors.New("the lease is over")
	// ErrJudged is what comes too late: the work is being judged.
	ErrJudged = errors.New("the work was handed in")
	// errExpired is why a task went back to the queue whose worker was not heard of.
	errExpired = errors.New("the worker was not heard of in time")
	// errDied is the same, when the worker was begun anew.
	errDied = errors.New("the worker died")
)

// MaxAttempts is how often a task is given to workers that are not part of the hub
// before it counts as failed.
const MaxAttempts = 3

// rememberedVerdicts is how many ended leases are remembered, for workers that did
// not get the answer.
const rememberedVerdicts = 256

// Queue hands deltas out to those who make them, the most urgent first, each to one
// at a time: by a lease, which a worker has to extend. Its zero value is empty. Its
// methods may be called concurrently. Nothing of it is kept over a restart: what is
// wanted is found again.
type Queue struct {
	mu       sync.Mutex
	waiting  []*queued // the most urgent first
	leases   map[string]*Lease
	changed  chan struct{} // closed when a task comes
	count    int64
	verdicts []verdict // the oldest first
}

type verdict struct {
	id  string
	err error
}

// queued is a task with its history.
type queued struct {
	task     Task
	number   int64
	attempts int
	done     func(Outcome)
	gone     bool // withdrawn
}

// Submit queues a task. done is called once with what became of it, unless ctx ends
// before: then the task is withdrawn, and whoever makes it loses the lease. done
// may be called by any goroutine.
func (q *Queue) Submit(ctx context.Context, task Task, done func(Outcome)) {
	q.mu.Lock()
	q.count++
	e := &queued{task: task, number: q.count, done: done}
	q.insert(e)
	q.mu.Unlock()
	context.AfterFunc(ctx, func() { q.withdraw(e) })
}

// insert puts a task into its place.
func (q *Queue) insert(e *queued) {
	at, _ := slices.BinarySearchFunc(q.waiting, e, before)
	q.waiting = slices.Insert(q.waiting, at, e)
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
}

// before is the order of the queue.
func before(a, b *queued) int {
	later := func(e *queued) int {
		if e.task.Build != 0 {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(later(a), later(b)),
		cmp.Compare(urgency(a.task.Delta), urgency(b.task.Delta)),
		cmp.Compare(b.task.Newest, a.task.Newest),
		cmp.Compare(a.number, b.number),
	)
}

func (q *Queue) withdraw(e *queued) {
	q.mu.Lock()
	e.gone = true
	q.waiting = slices.DeleteFunc(q.waiting, func(w *queued) bool { return w == e })
	var held *Lease
	for _, l := range q.leases {
		if l.entry == e {
			held = l
			q.drop(l, ErrLeaseLost)
		}
	}
	q.mu.Unlock()
	if held != nil {
		held.lose(ErrStale)
	}
}

// Worker is who takes tasks.
type Worker struct {
	Name string
	// Owner is whose token the worker has.
	Owner string
	// ID is that of the worker's folder, and Run that of the process which uses it. A
	// new one says that the former is dead: its leases are over. "" says nothing.
	ID, Run string
	// TTL is how long a lease lives after it was taken or extended; 0: until it is
	// ended.
	TTL time.Duration
	// Accepts tells which tasks the worker can do; nil: all. It must not call the
	// queue.
	Accepts func(Task) bool
	// Lost is told of a lease that ended without the worker's doing, and why; may be
	// nil.
	Lost func(l *Lease, why error)
}

// Take waits for a task for the worker. The error is that of ctx, when it ends.
func (q *Queue) Take(ctx context.Context, w Worker) (*Lease, error) {
	q.bury(w)
	for {
		l, stale, changed := q.pick(w)
		for _, e := range stale {
			e.done(Outcome{Task: e.task, Err: ErrStale})
		}
		if l != nil {
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// bury ends the leases of former runs of a worker.
func (q *Queue) bury(w Worker) {
	if w.ID == "" {
		return
	}
	q.mu.Lock()
	var dead []*Lease
	for _, l := range q.leases {
		if l.holder.ID == w.ID && l.holder.Run != w.Run && l.judge == nil {
			dead = append(dead, l)
		}
	}
	q.mu.Unlock()
	for _, l := range dead {
		if l.Fail(errDied, true) == nil {
			l.lose(errDied)
		}
	}
}

// pick leases the first task that suits, and takes those away that are stale.
func (q *Queue) pick(w Worker) (l *Lease, stale []*queued, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := 0; i < len(q.waiting); {
		e := q.waiting[i]
		if w.Accepts != nil && !w.Accepts(e.task) {
			i++
			continue
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		if e.task.Stale != nil && e.task.Stale() {
			stale = append(stale, e)
			continue
		}
		return q.lease(e, w), stale, nil
	}
	if q.changed == nil {
		q.changed = make(chan struct{})
	}
	return nil, stale, q.changed
}

func (q *Queue) lease(e *queued, w Worker) *Lease {
	e.attempts++
	l := &Lease{ID: rand.Text(), Task: e.task, Worker: w.Name, Owner: w.Owner, Since: time.Now(), Attempt: e.attempts, Room: new(Room), queue: q, entry: e, holder: w}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	if w.TTL > 0 {
		l.until = l.Since.Add(w.TTL)
		l.timer = time.AfterFunc(w.TTL, l.expire)
	}
	if q.leases == nil {
		q.leases = make(map[string]*Lease)
	}
	q.leases[l.ID] = l
	return l
}

// Lease returns the lease of an id. The error is [ErrLeaseLost] when there is none.
func (q *Queue) Lease(id string) (*Lease, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.leases[id]; l != nil {
		return l, nil
	}
	return nil, ErrLeaseLost
}

// Held returns the lease of a delta of a repository. The error is [ErrLeaseLost] when
// nobody has one.
func (q *Queue) Held(repo string, name ostree.DeltaName) (*Lease, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.leases {
		if l.Task.Repo == repo && l.Task.Name == name {
			return l, nil
		}
	}
	return nil, ErrLeaseLost
}

// Verdict returns how a lease was judged that is over; false when that is not
// known.
func (q *Queue) Verdict(id string) (error, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, v := range q.verdicts {
		if v.id == id {
			return v.err, true
		}
	}
	return nil, false
}

// Status is a task as people see it.
type Status struct {
	Task    Task
	Making  bool // false: it waits
	Worker  string
	Owner   string // of the worker
	Since   time.Time
	Step    string // what the worker does
	Attempt int
}

// Status lists the tasks: those under way in no order, then those that wait, in that
// in which they will be begun.
func (q *Queue) Status() []Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Status, 0, len(q.leases)+len(q.waiting))
	for _, l := range q.leases {
		all = append(all, Status{Task: l.Task, Making: true, Worker: l.Worker, Owner: l.Owner, Since: l.Since, Step: l.step, Attempt: l.Attempt})
	}
	for _, e := range q.waiting {
		all = append(all, Status{Task: e.task, Attempt: e.attempts})
	}
	return all
}

// Commits are those that the tasks of a repository need.
func (q *Queue) Commits(repo string) []ostree.Checksum {
	var all []ostree.Checksum
	for _, s := range q.Status() {
		if s.Task.Repo != repo {
			continue
		}
		all = append(all, s.Task.Name.To)
		if !s.Task.Name.FromScratch() {
			all = append(all, s.Task.Name.From)
		}
	}
	return all
}

// drop ends a lease, whatever becomes of its task. It tells whether the lease was
// still there.
func (q *Queue) drop(l *Lease, why error) bool {
	if q.leases[l.ID] != l {
		return false
	}
	delete(q.leases, l.ID)
	if l.timer != nil {
		l.timer.Stop()
	}
	l.cancel(why)
	return true
}

// end ends a lease with the outcome of its task.
func (q *Queue) end(l *Lease, outcome Outcome) error {
	q.mu.Lock()
	held, gone := q.drop(l, ErrLeaseLost), l.entry.gone
	q.mu.Unlock()
	if !held {
		return ErrLeaseLost
	}
	if !gone {
		l.entry.done(outcome)
	}
	return nil
}

// back ends a lease and puts the task back, with so many attempts made.
func (q *Queue) back(l *Lease, attempts int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.drop(l, ErrLeaseLost) {
		return ErrLeaseLost
	}
	l.entry.attempts = attempts
	q.insert(l.entry)
	return nil
}

// Lease is the right to make a delta, and to be the only one. Its fields do not
// change.
type Lease struct {
	// ID is not to be guessed: who knows it holds the lease.
	ID      string
	Task    Task
	Worker  string
	Owner   string // of the worker
	Since   time.Time
	Attempt int // counted from 1
	// Room is that of the files which the worker hands in.
	Room *Room

	queue  *Queue
	entry  *queued
	holder Worker
	ctx    context.Context //nolint:containedctx // the life of the lease
	cancel context.CancelCauseFunc
	timer  *time.Timer

	// Guarded by queue.mu.
	until time.Time // when it expires
	step  string
	judge chan struct{} // not nil: the delta is being judged; closed at the end
	found error         // the verdict, after that
}

// Context ends with the lease.
func (l *Lease) Context() context.Context { return l.ctx }

// Extend says that the worker is alive, and what it does.
func (l *Lease) Extend(step string) error {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	if l.queue.leases[l.ID] != l {
		return ErrLeaseLost
	}
	l.step = step
	if l.timer != nil && l.judge == nil {
		l.until = time.Now().Add(l.holder.TTL)
		l.timer.Reset(l.holder.TTL)
	}
	return nil
}

// Done ends the lease with a delta that is made.
func (l *Lease) Done(made Made) error {
	made.Worker = l.Worker
	return l.queue.end(l, Outcome{Task: l.Task, Made: made})
}

// Fail ends the lease without a delta. With again, the task is given to somebody
// else, up to [MaxAttempts] times.
func (l *Lease) Fail(err error, again bool) error {
	if again && l.Attempt < MaxAttempts {
		return l.queue.back(l, l.Attempt)
	}
	if again {
		err = fmt.Errorf("given up after %d attempts: %w", l.Attempt, err)
	}
	return l.queue.end(l, Outcome{Task: l.Task, Err: err})
}

// Release gives the task back, as if it had not been taken.
func (l *Lease) Release() error {
	return l.queue.back(l, l.Attempt-1)
}

// Judge ends the lease with what judge makes of the work: a delta, or why it is
// refused, which is also what Judge returns; the task then goes to somebody else.
// The lease does not expire meanwhile. Of several calls, the first judges, and the
// others wait for its verdict.
func (l *Lease) Judge(judge func(context.Context) (Made, error)) error {
	l.queue.mu.Lock()
	if l.queue.leases[l.ID] != l {
		l.queue.mu.Unlock()
		if err, known := l.queue.Verdict(l.ID); known {
			return err
		}
		return ErrLeaseLost
	}
	if wait := l.judge; wait != nil {
		l.queue.mu.Unlock()
		<-wait
		return l.found
	}
	l.judge = make(chan struct{})
	if l.timer != nil {
		l.timer.Stop()
	}
	l.queue.mu.Unlock()

	made, err := judge(l.ctx)
	l.queue.remember(l, err)
	if err != nil {
		return errors.Join(err, l.Fail(err, true))
	}
	return l.Done(made)
}

// remember keeps a verdict.
func (q *Queue) remember(l *Lease, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l.found = err
	close(l.judge)
	q.verdicts = append(q.verdicts, verdict{l.ID, err})
	if excess := len(q.verdicts) - rememberedVerdicts; excess > 0 {
		q.verdicts = slices.Delete(q.verdicts, 0, excess)
	}
}

// Put calls put, which changes the work. It returns what put does, [ErrJudged] when
// the work is being judged, and [ErrLeaseLost] when the lease is over. No judging
// begins meanwhile: put is short.
func (l *Lease) Put(put func() error) error {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	if l.queue.leases[l.ID] != l {
		return ErrLeaseLost
	}
	if l.judge != nil {
		return ErrJudged
	}
	return put()
}

// Judged tells whether the work is being judged: nothing of it changes then.
func (l *Lease) Judged() bool {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.judge != nil
}

// expire is called when the worker was not heard of for the time of the lease.
func (l *Lease) expire() {
	l.queue.mu.Lock()
	alive := l.judge != nil || time.Now().Before(l.until)
	l.queue.mu.Unlock()
	if !alive && l.Fail(errExpired, true) == nil {
		l.lose(errExpired)
	}
}

// lose tells the worker that it has lost the lease.
func (l *Lease) lose(why error) {
	if l.holder.Lost != nil {
		l.holder.Lost(l, why)
	}
}
