package schedule_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/schedule"
)

// While a project is held, nothing of it is synced, whatever asks for it and whoever restarts; what
// was asked for begins when it is released. Other projects go on.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, project(t, "held", "every 1h"), project(t, "free", "every 1h"))
		s, stop := b.start()
		time.Sleep(time.Second) // the first syncs run
		running, err := s.Hold("held", mirrorapi.Hold{Since: time.Now().UTC(), By: "ops", Generation: "000001"})
		if err != nil || running == nil {
			t.Fatalf("%v, %v", running, err)
		}
		<-running.Done()
		if r := running.Report(); r.Result != mirrorapi.Canceled {
			t.Errorf("the sync that ran: %+v", r)
		}
		time.Sleep(24 * time.Hour)
		if _, err := s.Trigger(mirrorapi.Order{Project: "held", Cause: mirrorapi.CauseTrigger, By: "master"}, "master", time.Now(), 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		s, stop = b.start()
		time.Sleep(24 * time.Hour)
		st := s.Status("held")
		if st.State != mirrorapi.Held || st.Hold == nil || st.Hold.Generation != "000001" || st.Pending == nil || st.Pending.By != "master" || !st.Next.IsZero() {
			t.Errorf("after the restart: %+v", st)
		}
		orders, _ := b.took()
		for _, o := range orders[2:] {
			if o.Project == "held" {
				t.Errorf("it was synced: %+v", o)
			}
		}
		if len(orders) < 40 {
			t.Errorf("%d syncs of both: the other one does not go on", len(orders))
		}
		if held, err := s.Release("held"); err != nil || !held {
			t.Errorf("%v, %v", held, err)
		}
		time.Sleep(time.Second)
		orders, _ = b.took()
		if len(orders) != 1 || orders[0].Project != "held" || orders[0].Cause != mirrorapi.CauseTrigger || s.Status("held").State != mirrorapi.Running {
			t.Errorf("after the release: %+v, %+v", orders, s.Status("held"))
		}
		if held, err := s.Release("held"); err != nil || held {
			t.Errorf("released again: %v, %v", held, err)
		}
		time.Sleep(time.Hour)
		stop()
		s, stop = b.start()
		if s.Status("held").Hold != nil {
			t.Error("a restart holds it again")
		}
		stop()
	})
}

// A project that missed its time while it was held is synced as soon as it is released; one
// that nobody wants is not.
func TestReleaseCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, project(t, "timed", "every 1h"), project(t, "never", "never"))
		s, stop := b.start()
		time.Sleep(time.Minute)
		for _, name := range []string{"timed", "never"} {
			if _, err := s.Hold(name, mirrorapi.Hold{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Hour)
		b.took()
		for name, want := range map[string]mirrorapi.State{"timed": mirrorapi.Waiting, "never": mirrorapi.Idle} {
			if _, err := s.Release(name); err != nil {
				t.Fatal(err)
			}
			if st := s.Status(name).State; st != want {
				t.Errorf("%s: %s, want %s", name, st, want)
			}
		}
		time.Sleep(time.Second)
		if orders, _ := b.took(); len(orders) != 1 || orders[0].Project != "timed" {
			t.Errorf("%+v", orders)
		}
		stop()
	})
}

// A hold that cannot be kept over a restart is none, and the sync that runs goes on.
func TestHoldUnsaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, project(t, "p", "every 1h"))
		s, stop := b.start()
		time.Sleep(time.Second)
		full := errors.New("the disk is full")
		b.store.fail(full)
		if _, err := s.Hold("p", mirrorapi.Hold{}); !errors.Is(err, full) {
			t.Errorf("%v", err)
		}
		if st := s.Status("p"); st.Hold != nil || st.State != mirrorapi.Running {
			t.Errorf("%+v", st)
		}
		if _, err := s.Hold("q", mirrorapi.Hold{}); !errors.Is(err, schedule.ErrUnknown) {
			t.Errorf("%v", err)
		}
		stop()
	})
}
