package schedule_test

import (
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/schedule"
)

// Projects come, go, and change while syncs of them run; one is never synced twice at once.
func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := project(t, "a", "every 1h"), project(t, "b", "every 1h")
		a.Settings, b.Settings = "1", "1"
		box := newBox(t, a)
		box.takes = 10 * time.Minute
		s, stop := box.start()
		defer stop()
		set := func(parallel int, projects ...schedule.Project) {
			t.Helper()
			if err := s.Set(projects, parallel); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		began := func(want ...mirrorapi.Order) {
			t.Helper()
			synctest.Wait()
			orders, _ := box.took()
			if len(orders) != len(want) {
				t.Fatalf("%d syncs began, want %d: %+v", len(orders), len(want), orders)
			}
			for i := range want {
				if orders[i].Project != want[i].Project || orders[i].Cause != want[i].Cause || orders[i].Force != want[i].Force {
					t.Errorf("sync %d: %+v, want %+v", i, orders[i], want[i])
				}
			}
		}
		time.Sleep(time.Second)
		began(mirrorapi.Order{Project: "a", Cause: mirrorapi.CauseSchedule})

		// One that comes is synced at once, and the other goes on.
		set(2, a, b)
		began(mirrorapi.Order{Project: "b", Cause: mirrorapi.CauseSchedule})

		// What an operator wanted of the one that is ended is wanted of the next, too.
		if _, err := s.Cancel("a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		waits, err := s.Submit(mirrorapi.Order{Project: "a", Cause: mirrorapi.CauseOrder, Force: true}, 0)
		if err != nil {
			t.Fatal(err)
		}
		began(mirrorapi.Order{Project: "a", Cause: mirrorapi.CauseOrder, Force: true})
		a.Settings = "2"
		set(2, a, b)
		<-waits.Done()
		if r := waits.Report(); r.Result != mirrorapi.Canceled {
			t.Errorf("%+v", r)
		}
		began(mirrorapi.Order{Project: "a", Cause: mirrorapi.CauseOrder, Force: true})

		// One that goes ends, and is not known any more; one that comes back meanwhile begins
		// when the one before has ended.
		set(2, b)
		if _, err := s.Submit(mirrorapi.Order{Project: "a"}, 0); err == nil {
			t.Error("an order for a project that is gone is taken")
		}
		if err := s.Set([]schedule.Project{b, a}, 2); err != nil {
			t.Fatal(err)
		}
		if err := s.Set([]schedule.Project{b}, 2); err != nil {
			t.Fatal(err)
		}
		if err := s.Set([]schedule.Project{b, a}, 1); err != nil { // fewer than run
			t.Fatal(err)
		}
		time.Sleep(25 * time.Minute)
		orders, _ := box.took()
		if len(orders) == 0 || orders[0].Project != "a" {
			t.Errorf("a does not come back: %+v", orders)
		}
		if st := s.Status("a"); st.Good.IsZero() {
			t.Errorf("%+v", st)
		}

		// Times that change count from now on.
		time.Sleep(time.Hour)
		never := project(t, "a", "never")
		never.Settings = a.Settings
		set(2, never, b)
		box.took()
		time.Sleep(24 * time.Hour)
		orders, _ = box.took()
		for _, o := range orders {
			if o.Project == "a" {
				t.Fatalf("never: %+v", o)
			}
		}
	})
}

// Settings that have changed while the mirror was off are acted on at its next start.
func TestSetWhileOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := project(t, "a", "weekly on sun at 02:00")
		a.Settings = "1"
		box := newBox(t, a)
		_, stop := box.start()
		time.Sleep(time.Hour)
		stop()
		box.took()
		box.projects[0].Settings = "2"
		_, stop = box.start()
		defer stop()
		time.Sleep(time.Minute)
		if orders, _ := box.took(); len(orders) != 1 || orders[0].Cause != mirrorapi.CauseConfig {
			t.Errorf("%+v", orders)
		}
	})
}
