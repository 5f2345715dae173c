package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/mirror/schedule"
)

// memory is a store that survives what a test does with schedulers.
type memory struct {
	mu     sync.Mutex
	state  schedule.State
	failed error
}

func (m *memory) Load() (schedule.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, nil
}

func (m *memory) Save(state schedule.State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		m.state = schedule.State{Seed: state.Seed, Projects: maps.Clone(state.Projects)}
	}
	return m.failed
}

// fail has saving fail from now on, or work again.
func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = err
}

// box is a mirror whose syncs take a while and end as the test says.
type box struct {
	t        *testing.T
	store    *memory
	projects []schedule.Project
	parallel int
	takes    time.Duration
	result   func(order mirrorapi.Order) mirrorapi.Result

	mu     sync.Mutex
	orders []mirrorapi.Order // that began
	began  []time.Time
	most   int // at once
	now    int
	busy   map[string]bool        // projects of which a sync runs
	held   []mirrorapi.Repository // what reports say of them
}

// start begins the scheduler; stop ends it as the end of the process does.
func (b *box) start() (s *schedule.Scheduler, stop func()) {
	b.t.Helper()
	s, err := schedule.New(schedule.Options{Projects: b.projects, Parallel: b.parallel, Run: b.run, Store: b.store})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	return s, func() { cancel(); <-ended }
}

func (b *box) run(ctx context.Context, order mirrorapi.Order) mirrorapi.Report {
	b.mu.Lock()
	b.orders, b.began = append(b.orders, order), append(b.began, time.Now())
	b.now++
	if b.busy[order.Project] {
		b.t.Errorf("%s is synced twice at once", order.Project)
	}
	if b.busy == nil {
		b.busy = make(map[string]bool)
	}
	b.busy[order.Project] = true
	b.most = max(b.most, b.now)
	b.mu.Unlock()
	b.mu.Lock()
	report := mirrorapi.Report{Project: order.Project, Order: order, Result: mirrorapi.Published, Repositories: b.held}
	b.mu.Unlock()
	select {
	case <-time.After(b.takes):
		if b.result != nil {
			report.Result = b.result(order)
		}
	case <-ctx.Done():
		report.Result = mirrorapi.Canceled
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			report.Result = mirrorapi.Failed
		}
	}
	b.mu.Lock()
	delete(b.busy, order.Project)
	b.now--
	b.mu.Unlock()
	return report
}

// took returns what began since it was called last.
func (b *box) took() (orders []mirrorapi.Order, began []time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	orders, began = b.orders, b.began
	b.orders, b.began = nil, nil
	return orders, began
}

func project(t *testing.T, name, form string) schedule.Project {
	t.Helper()
	times, err := schedule.Parse(form)
	if err != nil {
		t.Fatal(err)
	}
	return schedule.Project{Name: name, Times: times, Jitter: times.Jitter(), Priority: 5}
}

func newBox(t *testing.T, projects ...schedule.Project) *box {
	t.Helper()
	return &box{t: t, store: new(memory), projects: projects, parallel: 2, takes: 10 * time.Second}
}

// A fleet whose boxes have the same schedule, and get their power back at the same
// moment, never begins with more than a quarter of its syncs in one minute.
func TestFleetIsSpread(t *testing.T) {
	const boxes = 43
	for _, form := range []string{"every 1h", "daily at 02:00"} {
		synctest.Test(t, func(t *testing.T) {
			fleet := make([]*box, boxes)
			for i := range fleet {
				fleet[i] = newBox(t, project(t, "epel", form))
				fleet[i].store.state.Seed = uint64(i + 1)
			}
			run := func(first bool, d time.Duration) {
				var stops []func()
				for _, b := range fleet {
					_, stop := b.start()
					stops = append(stops, stop)
				}
				if first {
					time.Sleep(time.Minute) // what was never synced begins at once
					for _, b := range fleet {
						if orders, _ := b.took(); len(orders) == 0 {
							t.Errorf("%s: a new box does not begin", form)
						}
					}
				}
				time.Sleep(d)
				for _, stop := range stops {
					stop()
				}
				perMinute, all := make(map[time.Time]int), 0
				for i, b := range fleet {
					_, began := b.took()
					if len(began) == 0 {
						t.Errorf("%s: box %d begins no sync in %v", form, i, d)
					}
					for _, at := range began {
						perMinute[at.Truncate(time.Minute)]++
						all++
					}
				}
				most := slices.Max(slices.Collect(maps.Values(perMinute)))
				t.Logf("%s: %d starts, at most %d of %d boxes in one minute", form, all, most, boxes)
				if 4*most > boxes {
					t.Errorf("%s: %d of %d boxes begin in one minute", form, most, boxes)
				}
			}
			run(true, 49*time.Hour)
			time.Sleep(36 * time.Hour) // without power
			run(false, 40*time.Minute)
		})
	}
}

// What is told while a sync runs becomes one sync after it.
func TestTriggersCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, project(t, "epel", "never"))
		s, stop := b.start()
		defer stop()
		submit := func(order mirrorapi.Order) *schedule.Sync {
			t.Helper()
			order.Project = "epel"
			sync, err := s.Submit(order, 0)
			if err != nil {
				t.Fatal(err)
			}
			return sync
		}
		first := submit(mirrorapi.Order{Cause: mirrorapi.CauseTrigger, By: "master"})
		synctest.Wait()
		if st := s.Status("epel"); st.State != mirrorapi.Running || st.Pending != nil {
			t.Errorf("%+v", st)
		}
		second := submit(mirrorapi.Order{Cause: mirrorapi.CauseOrder, By: "ops", Shrink: true})
		third := submit(mirrorapi.Order{Cause: mirrorapi.CauseTrigger, By: "master", Force: true})
		if second != third || first == second {
			t.Error("what waits is not one sync")
		}
		<-third.Done()
		time.Sleep(24 * time.Hour)
		orders, _ := b.took()
		if len(orders) != 2 {
			t.Fatalf("%d syncs, want 2: %+v", len(orders), orders)
		}
		if o := orders[1]; o.Cause != mirrorapi.CauseOrder || o.By != "ops" || !o.Shrink || !o.Force || o.Rollback {
			t.Errorf("the second: %+v", o)
		}
		if _, err := s.Submit(mirrorapi.Order{Project: "other"}, 0); !errors.Is(err, schedule.ErrUnknown) {
			t.Errorf("an unknown project: %v", err)
		}
	})
}

// A trigger counts once, whoever sends it again; the next of the same key counts.
func TestTriggersCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, project(t, "epel", "never"))
		s, stop := b.start()
		order := mirrorapi.Order{Project: "epel", Cause: mirrorapi.CauseTrigger}
		sent := time.Now()
		for i, want := range []bool{true, false} {
			if sync, err := s.Trigger(order, "master", sent, 0); err != nil || (sync != nil) != want {
				t.Errorf("time %d: %v, %v", i, sync, err)
			}
		}
		time.Sleep(time.Minute)
		stop()
		s, stop = b.start()
		defer stop()
		if sync, err := s.Trigger(order, "master", sent, 0); err != nil || sync != nil {
			t.Errorf("after a restart: %v, %v", sync, err)
		}
		if sync, err := s.Trigger(order, "other", sent, 0); err != nil || sync == nil {
			t.Errorf("of another key: %v, %v", sync, err)
		}
		b.store.fail(errors.New("disk full"))
		if _, err := s.Trigger(order, "master", sent.Add(time.Second), 0); err == nil {
			t.Error("a trigger that is not on the disk is confirmed")
		}
		b.store.fail(nil)
		if sync, err := s.Trigger(order, "master", sent.Add(time.Second), 0); err != nil || sync == nil {
			t.Errorf("sent again: %v, %v", sync, err)
		}
	})
}

// With no trigger at all, what is missed is caught up by the next look in the interval.
func TestLooksWithoutTriggers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, project(t, "epel", "every 1h"))
		_, stop := b.start()
		defer stop()
		time.Sleep(10*time.Hour + time.Minute)
		_, began := b.took()
		for i := 2; i < len(began); i++ {
			if d := began[i].Sub(began[i-1]); d != time.Hour {
				t.Errorf("looks are %v apart", d)
			}
		}
		if len(began) < 10 {
			t.Errorf("%d looks in ten hours", len(began))
		}
	})
}

// After failures it is waited longer each time, but never longer than six hours and a
// half of that, and a success ends it.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, project(t, "epel", "daily at 02:00"))
		var works atomic.Bool
		b.result = func(mirrorapi.Order) mirrorapi.Result {
			if !works.Load() {
				return mirrorapi.Failed
			}
			return mirrorapi.Unchanged
		}
		s, stop := b.start()
		defer stop()
		time.Sleep(4 * 24 * time.Hour)
		orders, began := b.took()
		last := time.Duration(0)
		for i := 1; i < len(began); i++ {
			d := began[i].Sub(began[i-1])
			if d < last-time.Second || d > 9*time.Hour+time.Minute {
				t.Errorf("wait %d is of %v after one of %v", i, d, last)
			}
			last = d
			if orders[i].Cause != mirrorapi.CauseRetry {
				t.Errorf("%d: %s", i, orders[i].Cause)
			}
		}
		if st := s.Status("epel"); len(began) < 12 || last < 6*time.Hour || st.Failures < len(began)-1 {
			t.Errorf("%d tries, the last waited %v, %+v", len(began), last, st)
		}
		works.Store(true)
		time.Sleep(10 * time.Hour)
		if st := s.Status("epel"); st.Failures != 0 || st.Good.IsZero() {
			t.Errorf("%+v", st)
		}
	})
}

// A repository that is held back is tried again soon, with longer and longer waits, and the
// others no later than ever.
func TestHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, project(t, "rocky", "every 30m"))
		b.held = []mirrorapi.Repository{{Path: "a"}, {Path: "b", Held: true, Reason: mirrorapi.ReasonInconsistent}}
		s, stop := b.start()
		defer stop()
		time.Sleep(10 * time.Hour)
		orders, began := b.took()
		for i := 1; i < len(began); i++ {
			d := began[i].Sub(began[i-1])
			if d > 31*time.Minute || i == 1 && d > 2*time.Minute {
				t.Errorf("wait %d is of %v", i, d)
			}
		}
		if st := s.Status("rocky"); len(began) < 20 || len(began) > 30 || orders[1].Cause != mirrorapi.CauseRetry || st.Failures < len(began)-1 || !st.Good.IsZero() {
			t.Errorf("%d tries, %+v", len(began), st)
		}
		b.mu.Lock()
		b.held = b.held[:1]
		b.mu.Unlock()
		time.Sleep(time.Hour)
		if st := s.Status("rocky"); st.Failures != 0 || st.Good.IsZero() {
			t.Errorf("%+v", st)
		}
	})
}

// No more run at once than may; what an operator waits for is first, then priorities.
func TestOrderOfThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		low, high, ops, timed := project(t, "low", "never"), project(t, "high", "never"), project(t, "ops", "never"), project(t, "timed", "never")
		low.Priority, high.Priority, ops.Priority = 1, 9, 1
		timed.Timeout = 2 * time.Second
		b := newBox(t, low, high, ops, timed)
		b.parallel = 1
		s, stop := b.start()
		defer stop()
		var syncs []*schedule.Sync
		for _, order := range []mirrorapi.Order{
			{Project: "timed"}, {Project: "low"}, {Project: "high"}, {Project: "ops", Cause: mirrorapi.CauseOrder},
		} {
			sync, err := s.Submit(order, 0)
			if err != nil {
				t.Fatal(err)
			}
			syncs = append(syncs, sync)
			synctest.Wait() // the first has begun
		}
		for _, sync := range syncs {
			<-sync.Done()
		}
		orders, _ := b.took()
		var names []string
		for _, o := range orders {
			names = append(names, o.Project)
		}
		if want := []string{"timed", "ops", "high", "low"}; !slices.Equal(names, want) || b.most != 1 {
			t.Errorf("%v, %d at once, want %v", names, b.most, want)
		}
		if r := syncs[0].Report(); r.Result != mirrorapi.Failed {
			t.Errorf("one that takes too long: %+v", r)
		}
	})
}

// An operator ends what runs and takes back what waits.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, project(t, "epel", "never"))
		s, stop := b.start()
		defer stop()
		order := mirrorapi.Order{Project: "epel", Cause: mirrorapi.CauseOrder}
		runs, err := s.Submit(order, 0)
		synctest.Wait()
		waits, err2 := s.Submit(order, 0)
		if any, err3 := s.Cancel("epel"); errors.Join(err, err2, err3) != nil || !any {
			t.Error(any, err, err2, err3)
		}
		<-runs.Done()
		<-waits.Done()
		for _, sync := range []*schedule.Sync{runs, waits} {
			if r := sync.Report(); r.Result != mirrorapi.Canceled {
				t.Errorf("%+v", r)
			}
		}
		if any, err := s.Cancel("epel"); any || err != nil {
			t.Error(any, err)
		}
		if orders, _ := b.took(); len(orders) == 0 {
			t.Errorf("%+v", orders)
		}
	})
}

// The end of the process, in whatever way, loses no order: a sync that ran goes on, one
// that waited waits, and what was good is not done again.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, project(t, "runs", "never"), project(t, "waits", "never"), project(t, "good", "every 6h"))
		b.parallel = 1
		b.store.state.Seed = 1 // with some seeds good is looked at while the test goes on
		s, stop := b.start()
		time.Sleep(time.Minute)
		b.took() // the first look at good
		for _, name := range []string{"runs", "waits"} {
			if _, err := s.Submit(mirrorapi.Order{Project: name, Cause: mirrorapi.CauseTrigger, By: "master"}, 0); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		killed := memory{state: b.store.state} // as the disk is at this moment
		stop()
		b.took()
		for name, store := range map[string]*memory{"killed": &killed, "stopped": b.store} {
			b.store = store
			_, stop := b.start()
			time.Sleep(2 * time.Minute)
			stop()
			orders, _ := b.took()
			causes := make(map[string]mirrorapi.Cause)
			for _, o := range orders {
				causes[o.Project] = o.Cause
			}
			want := map[string]mirrorapi.Cause{"runs": mirrorapi.CauseResume, "waits": mirrorapi.CauseTrigger}
			if !maps.Equal(causes, want) || len(orders) != 2 {
				t.Errorf("%s: %+v, want %v", name, orders, want)
			}
		}
	})
}

// The state is the same when it comes back from the disk, and a file that cannot be read
// is told of.
func TestFile(t *testing.T) {
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Root.Close() }() // read only
	f := schedule.File{Dir: dir, Name: "schedule.json"}
	if state, err := f.Load(); err != nil || state.Seed != 0 {
		t.Errorf("without a file: %+v, %v", state, err)
	}
	at := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	want := schedule.State{Seed: 7, Projects: map[string]schedule.Record{
		"epel": {Began: at, Good: at, Failures: 2, Retry: at, Pending: &mirrorapi.Order{Project: "epel", Cause: mirrorapi.CauseTrigger, Given: at}, Due: at, Triggers: map[string]time.Time{"master": at}},
	}}
	if err := f.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := f.Load()
	if text := fmt.Sprintf("%+v", *got.Projects["epel"].Pending); err != nil || got.Seed != 7 || text != fmt.Sprintf("%+v", *want.Projects["epel"].Pending) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := dir.WriteFile("schedule.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(); err == nil {
		t.Error("half a file is read")
	}
}
