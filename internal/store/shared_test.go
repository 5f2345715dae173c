package store

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet/internal/durable"
	"freshet/internal/layout"
)

func beginShared(t testing.TB, dir string, fault func(step, name string) error) *Store {
	t.Helper()
	s, err := openShared(dir, fault)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func lead(t testing.TB, s *Store, fence int64) {
	t.Helper()
	if err := s.Lead(t.Context(), fence); err != nil {
		t.Fatal(err)
	}
}

// laterState is what a later leader makes of the old or the new state: it
// touches every path that the transaction of the fault loops touches.
func laterState(t testing.TB, s *Store) {
	t.Helper()
	tx := s.Begin()
	for _, name := range []string{"summary", "summary.sig", "refs/heads/gone", "refs/heads/app/new"} {
		put(t, tx, layout.Pointer, name, "later")
	}
	for _, name := range []string{"delta-indexes/1", "summaries/old", "summaries/new"} {
		put(t, tx, layout.Index, name, "later")
	}
	put(t, tx, layout.Payload, "objects/aa/unwanted", "old payload")
	commit(t, tx)
}

// isLater tells whether the repository is what laterState makes of it.
func isLater(t testing.TB, dir string) bool {
	t.Helper()
	var got []string
	for _, file := range tree(t, dir) {
		if !strings.HasPrefix(file, lockName) && !strings.HasPrefix(file, tmpDir+"/") && !strings.HasSuffix(file, "=new payload") {
			got = append(got, file)
		}
	}
	return slices.Equal(got, []string{
		"delta-indexes/1=later", "objects/aa/old=old payload", "objects/aa/unwanted=old payload",
		"refs/heads/app/new=later", "refs/heads/gone=later", "summaries/new=later", "summaries/old=later",
		"summary=later", "summary.sig=later",
	})
}

// TestOvertakenAtEveryStep stops a leader before the n-th change that it makes to
// the disk, for n = 1, 2, …; another takes over and publishes; then the first goes
// on. What it had decided is published by the other, before what that publishes
// itself, and it changes nothing any more.
func TestOvertakenAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, fails := range []int{0, 1, 2} { // changes of the first leader that fail after it was overtaken
		seen := map[string]int{}
		for n := 1; ; n++ {
			dir := filepath.Join(quickDir(t), "repo")
			oldState(t, dir)
			var second *Store
			steps, failing := 0, fails
			first := beginShared(t, dir, func(string, string) error {
				steps++
				if steps == n {
					second = beginShared(t, dir, nil)
					lead(t, second, 8)
					seen[stateOf(t, dir, 1)]++
					for _, p := range second.Pending() {
						seen["pending "+string(p.Note)]++
						if err := second.Done(p.ID); err != nil {
							t.Fatal(err)
						}
					}
					laterState(t, second)
				}
				if steps > n && failing > 0 {
					failing--
					return errors.New("the disk fails")
				}
				return nil
			})
			err := first.Lead(t.Context(), 7)
			if err == nil {
				var tx *Tx
				if tx, err = newTransaction(first, 1); err == nil {
					if err = tx.Commit(t.Context(), []byte("first")); err == nil {
						err = tx.Done()
					}
				}
				_ = tx.Abort()
			}
			if steps < n {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			if second == nil {
				t.Fatal("nobody took over")
			}
			if !isLater(t, dir) {
				t.Fatalf("step %d: the leader that was overtaken (%v) changed the repository: %q", n, err, tree(t, dir))
			}
			if err != nil && !errors.Is(err, ErrNotLeading) && failing == fails {
				t.Errorf("step %d: error %v", n, err)
			}
			// It can lead again.
			failing = 0
			if err := first.Lead(t.Context(), 7); !errors.Is(err, ErrNotLeading) {
				t.Errorf("step %d: led once more with an old number: %v", n, err)
			}
			lead(t, first, 9)
			if pending := first.Pending(); len(pending) > 0 {
				t.Errorf("step %d: pending: %s", n, pending[0].Note)
			}
			oldAgain := first.Begin()
			put(t, oldAgain, layout.Pointer, "summary", "first again")
			commit(t, oldAgain)
			tx := second.Begin()
			if err := tx.PutBytes(layout.Pointer, "summary", nil); !errors.Is(err, ErrNotLeading) {
				t.Errorf("step %d: the second leader stages: %v", n, err)
			}
			if err := errors.Join(first.Close(), second.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if seen["old"] == 0 || seen["new"] == 0 || seen["pending first"] == 0 || seen["new"] < seen["pending first"] {
			t.Errorf("takeovers found: %v", seen)
		}
		for state := range seen {
			if state != "old" && state != "new" && state != "pending first" {
				t.Errorf("a takeover found %s", state)
			}
		}
	}
}

// TestTakeoverOfTakeover stops a leader in the middle of a transaction, then at
// every step whoever takes over, and lets a third one lead.
func TestTakeoverOfTakeover(t *testing.T) {
	t.Parallel()
	stop := errors.New("stopped for good")
	for n := 1; ; n++ {
		for m := 1; ; m++ {
			dir := filepath.Join(quickDir(t), "repo")
			oldState(t, dir)
			stopAt := func(n int) func(string, string) error {
				steps := 0
				return func(string, string) error {
					if steps++; steps >= n {
						return stop
					}
					return nil
				}
			}
			first := beginShared(t, dir, nil)
			lead(t, first, 1)
			tx, err := newTransaction(first, 1)
			if err != nil {
				t.Fatal(err)
			}
			first.dir.Fault, tx.stage.Fault = stopAt(n), nil
			firstErr := tx.Commit(t.Context(), []byte("first"))
			decided := firstErr == nil || len(recordsIn(t, first, 1)) > 0
			second := beginShared(t, dir, stopAt(m))
			secondErr := second.Lead(t.Context(), 2)
			third := beginShared(t, dir, nil)
			lead(t, third, 3)
			want := map[bool]string{true: "new", false: "old"}[decided]
			if len(third.Pending()) == 0 {
				want = "old" // or taken back
			}
			if got := stateOf(t, dir, 1); got != want || want == "new" && !bytes.Equal(third.Pending()[0].Note, []byte("first")) {
				t.Fatalf("steps %d and %d (%v, %v): %s, want %s", n, m, firstErr, secondErr, got, want)
			}
			if err := errors.Join(first.Close(), second.Close(), third.Close()); err != nil {
				t.Fatal(err)
			}
			if firstErr == nil && secondErr == nil {
				return
			}
			if secondErr == nil {
				break
			}
		}
	}
}

func recordsIn(t testing.TB, s *Store, fence int64) []string {
	t.Helper()
	names, err := s.list(ledBy(fence).records)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, intentPrefix) })
}

func TestSharedAndAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	oldState(t, dir)
	s := beginShared(t, dir, nil)
	if _, err := Open(dir); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("open alone beside others: %v", err)
	}
	tx := s.Begin()
	if err := tx.PutBytes(layout.Pointer, "summary", nil); !errors.Is(err, ErrNotLeading) {
		t.Errorf("stage without leading: %v", err)
	}
	if got := content(t, s.Open, "summary"); got != "old" {
		t.Errorf("summary %q", got)
	}
	lead(t, s, 4)
	if tx, err := newTransaction(s, 1); err != nil || tx.Commit(t.Context(), []byte("note")) != nil {
		t.Fatal("no commit", err)
	}
	s.Resign()
	tx = s.Begin()
	if err := tx.PutBytes(layout.Pointer, "summary", nil); !errors.Is(err, ErrNotLeading) {
		t.Errorf("stage after resigning: %v", err)
	}
	if fence, err := s.Fence(); err != nil || fence != 4 {
		t.Errorf("fence %d, %v", fence, err)
	}
	if err := s.Lead(t.Context(), 3); !errors.Is(err, ErrNotLeading) {
		t.Errorf("lead with a lower number: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Alone again, and what was decided by a leader is pending.
	a := begin(t, dir)
	if p := a.Pending(); len(p) != 1 || string(p[0].Note) != "note" {
		t.Fatalf("pending %v", p)
	}
	if got := stateOf(t, dir, 1); got != "new" {
		t.Error(got)
	}
	if _, err := OpenShared(dir); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("open shared beside one alone: %v", err)
	}
	if left := leftBehind(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	// And shared again, with the pending one of the time alone.
	s = beginShared(t, dir, nil)
	lead(t, s, 5)
	if p := s.Pending(); len(p) != 1 || string(p[0].Note) != "note" || s.Done(p[0].ID) != nil {
		t.Fatalf("pending %v", p)
	}
	if s.Overtaken() {
		t.Error("overtaken by nobody")
	}
	for i := range 3 {
		tx := s.Begin()
		put(t, tx, layout.Pointer, "summary", fmt.Sprint(i))
		commit(t, tx)
	}
	if err := s.Lead(t.Context(), 5); err != nil {
		t.Errorf("lead once more with the same number: %v", err)
	}
}
