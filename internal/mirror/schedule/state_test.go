package schedule_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/mirror/schedule"
)

// A state that a loss of power, or a disk, has damaged is put aside, and the mirror begins
// without one.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "cut": `{"seed": 3, "proj`, "zeros": strings.Repeat("\x00", 4096), "other": `["a"]`, "wrong type": `{"seed": "x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			if err := os.WriteFile(filepath.Join(path, "schedule.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			dir, err := durable.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Root.Close()
			file := schedule.File{Dir: dir, Name: "schedule.json"}
			times, err := schedule.Parse("every 1h")
			if err != nil {
				t.Fatal(err)
			}
			s, err := schedule.New(schedule.Options{Projects: []schedule.Project{{Name: "p", Times: times}}, Store: file})
			if err != nil {
				t.Fatal(err)
			}
			if !errors.Is(s.Lost(), schedule.ErrDamaged) {
				t.Errorf("nobody says that it is lost: %v", s.Lost())
			}
			if next := s.Status("p").Next; time.Until(next) > time.Minute {
				t.Errorf("the next sync is at %v", next)
			}
			if aside, err := os.ReadFile(filepath.Join(path, "schedule.json.damaged")); string(aside) != text || err != nil {
				t.Errorf("%q, %v", aside, err)
			}
			if state, err := file.Load(); err != nil || state.Seed == 0 {
				t.Errorf("afterwards: %+v, %v", state, err)
			}
		})
	}
}

// A scheduler whose state cannot be saved works, and says so.
func TestUnsaved(t *testing.T) {
	t.Parallel()
	store := &memory{failed: errors.New("full")}
	times, err := schedule.Parse("every 1h")
	if err != nil {
		t.Fatal(err)
	}
	s, err := schedule.New(schedule.Options{
		Projects: []schedule.Project{{Name: "p", Times: times}}, Store: store,
		Run: func(_ context.Context, order mirrorapi.Order) mirrorapi.Report {
			return mirrorapi.Report{Project: order.Project, Result: mirrorapi.Unchanged}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Unsaved() == nil {
		t.Error("nobody says that it is not saved")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	for s.Status("p").Good.IsZero() {
		time.Sleep(time.Millisecond)
	}
	store.fail(nil)
	if _, err := s.Submit(mirrorapi.Order{Project: "p", Cause: mirrorapi.CauseOrder}, 0); err != nil {
		t.Error(err)
	}
	cancel()
	<-ended
}

// What could not be saved is when the disk takes it, without anything new.
func TestSavedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(memory)
		s, err := schedule.New(schedule.Options{Projects: []schedule.Project{{Name: "p"}}, Store: store})
		if err == nil {
			_, err = s.Hold("p", mirrorapi.Hold{By: "ops"})
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go s.Run(ctx)
		store.fail(errors.New("full"))
		if _, err := s.Release("p"); err == nil || s.Unsaved() == nil {
			t.Error("nobody says that it is not saved")
		}
		time.Sleep(10 * time.Minute)
		store.fail(nil)
		time.Sleep(2 * time.Minute)
		if err := s.Unsaved(); err != nil {
			t.Error(err)
		}
		if state, err := store.Load(); err != nil || state.Projects["p"].Hold != nil {
			t.Errorf("a restart would hold it again: %+v, %v", state, err)
		}
	})
}

// A file that the disk does not give is put aside like one that is damaged.
func TestUnreadableState(t *testing.T) {
	t.Parallel()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Root.Close()
	if err := dir.Root.Mkdir("schedule.json", 0o755); err != nil { // which cannot be read as a file
		t.Fatal(err)
	}
	file := schedule.File{Dir: dir, Name: "schedule.json"}
	s, err := schedule.New(schedule.Options{Projects: []schedule.Project{{Name: "p"}}, Store: file})
	if err != nil || !errors.Is(s.Lost(), schedule.ErrDamaged) {
		t.Fatal(err)
	}
	if state, err := file.Load(); err != nil || state.Seed == 0 {
		t.Errorf("afterwards: %+v, %v", state, err)
	}
}
