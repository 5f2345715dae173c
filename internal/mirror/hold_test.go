package mirror_test

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/project"
)

// What was rolled back stays so, whatever is triggered, over a restart, until it is released;
// status, doctor and metrics tell of it.
func TestRollbackHolds(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := mirrorapi.TriggerKey{Name: "master", Public: public}
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "every 1h", Triggers: []string{key.String()}})
	w.write("a", "first")
	w.start()
	w.sync(mirrorapi.SyncRequest{})
	w.write("a", "the second")
	if r := w.sync(mirrorapi.SyncRequest{Force: true}); !strings.HasPrefix(r.Generation, "000002") {
		t.Fatalf("%+v", r)
	}
	list, err := w.client.Rollback(t.Context(), "p", mirrorapi.GenerationRequest{ID: "1", Reason: "a broken kernel"})
	if err != nil || list.Hold == nil || list.Hold.Generation != "000001" || list.Hold.By != "ops" || list.Hold.Reason != "a broken kernel" {
		t.Fatalf("%+v, %v", list, err)
	}
	rolledBack := func(what string) mirrorapi.ProjectStatus {
		t.Helper()
		st, err := w.client.Project(t.Context(), "p")
		if err != nil || !strings.HasPrefix(st.Generation, "000001") || st.State != mirrorapi.Held || st.Hold == nil {
			t.Fatalf("%s: %+v, %v", what, st, err)
		}
		return st
	}
	rolledBack("at once")
	if _, err := w.client.Sync(t.Context(), "p", mirrorapi.SyncRequest{}); !isRefused(err, "conflict") || !strings.Contains(err.Error(), "freshet mirror release p") {
		t.Errorf("an order to sync: %v", err)
	}
	w.stop()
	w.start()
	trigger, err := mirrorapi.Trigger{Project: "p", Sent: time.Now(), Host: "mirror.mem"}.Sign(private)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := w.public.Trigger(t.Context(), trigger); err != nil || a.State != mirrorapi.Held {
		t.Errorf("a trigger: %+v, %v", a, err)
	}
	w.stop()
	w.start()
	if st := rolledBack("after restarts"); st.Pending == nil || st.Pending.Cause != mirrorapi.CauseTrigger {
		t.Errorf("the trigger is lost: %+v", st)
	}
	d, err := w.client.Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	told := false
	for _, f := range d.Findings {
		told = told || f.Level == mirrorapi.LevelWarning && strings.Contains(f.Message, "rolled back to 000001: a broken kernel; a sync waits") && strings.Contains(f.Do, "mirror release p")
	}
	if !told {
		t.Errorf("the doctor does not tell: %+v", d.Findings)
	}
	held := func(want float64) {
		t.Helper()
		families, err := w.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "freshet_mirror_held" {
				if got := f.GetMetric()[0].GetGauge().GetValue(); got != want {
					t.Errorf("freshet_mirror_held is %v, want %v", got, want)
				}
				return
			}
		}
		t.Error("there is no metric freshet_mirror_held")
	}
	held(1)
	if w.finding("was damaged when the mirror started") != "" {
		t.Error("something is damaged")
	}
	if _, err := w.client.Release(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	w.await("what upstream has", func(st mirrorapi.ProjectStatus) bool {
		return st.State == mirrorapi.Idle && st.Last != nil && st.Last.Result == mirrorapi.Published && st.Last.Order.By == "master"
	})
	held(0)
	if _, err := w.client.Release(t.Context(), "p"); !isRefused(err, "conflict") {
		t.Errorf("released again: %v", err)
	}
	if _, err := w.client.Hold(t.Context(), "p", mirrorapi.HoldRequest{Reason: strings.Repeat("x", 2000)}); !isRefused(err, "bad_request") {
		t.Errorf("a long reason: %v", err)
	}
	if _, err := w.client.Rollback(t.Context(), "p", mirrorapi.GenerationRequest{ID: "77"}); !isRefused(err, "not_found") {
		t.Errorf("to what is not there: %v", err)
	}
	if st, err := w.client.Project(t.Context(), "p"); err != nil || st.Hold != nil {
		t.Errorf("what is refused holds: %+v, %v", st, err)
	}
}

// What was held before the file of the schedule was damaged is not known any more: the doctor
// says so.
func TestHoldIsLost(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never"})
	w.write("a", "first")
	w.start()
	if _, err := w.client.Hold(t.Context(), "p", mirrorapi.HoldRequest{}); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if err := os.WriteFile(filepath.Join(w.cfg.Directory, "state/schedule.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	if got := w.finding("was damaged when the mirror started"); !strings.Contains(got, "what was held") {
		t.Errorf("the doctor says %q", got)
	}
}

// finding is what the doctor says with these words, "" if it does not.
func (w *world) finding(words string) string {
	w.t.Helper()
	d, err := w.client.Doctor(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range d.Findings {
		if strings.Contains(f.Message, words) {
			return f.Message
		}
	}
	return ""
}

// isRefused reports whether an order was refused for this reason.
func isRefused(err error, reason string) bool {
	e, ok := errors.AsType[*mirrorapi.Error](err)
	return ok && e.Reason == reason
}
