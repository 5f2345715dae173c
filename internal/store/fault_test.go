package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"freshet/internal/durable"
	"freshet/internal/layout"
)

// The transaction of the fault loops takes oldState to newState. It has every
// kind of change, in folders that are there and in new ones.

func oldState(t testing.TB, dir string) {
	t.Helper()
	s := begin(t, dir)
	tx := s.Begin()
	put(t, tx, layout.Payload, "objects/aa/old", "old payload")
	put(t, tx, layout.Payload, "objects/aa/unwanted", "old payload")
	put(t, tx, layout.Index, "delta-indexes/1", "old index")
	put(t, tx, layout.Index, "summaries/old", "old index")
	put(t, tx, layout.Pointer, "summary", "old")
	put(t, tx, layout.Pointer, "summary.sig", "old")
	put(t, tx, layout.Pointer, "refs/heads/gone", "old")
	commit(t, tx)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func newTransaction(s *Store, payload int) (*Tx, error) {
	tx := s.Begin()
	errs := []error{
		tx.PutBytes(layout.Pointer, "summary", []byte("new")),
		tx.PutBytes(layout.Pointer, "refs/heads/app/new", []byte("new")),
		tx.Remove(layout.Pointer, "refs/heads/gone"),
		tx.PutBytes(layout.Pointer, "summary.sig", []byte("new")),
		tx.PutBytes(layout.Index, "delta-indexes/1", []byte("new index")),
		tx.PutBytes(layout.Index, "summaries/new", []byte("new index")),
		tx.Remove(layout.Index, "summaries/old"),
		tx.Remove(layout.Payload, "objects/aa/unwanted"),
		tx.PutBytes(layout.Payload, "objects/aa/old", []byte("other bytes")),
	}
	var linked []string
	for i := range payload {
		if name := fmt.Sprintf("objects/%02x/new", i); i%2 == 0 {
			linked = append(linked, name)
		} else {
			errs = append(errs, tx.PutBytes(layout.Payload, name, []byte("new payload")))
		}
	}
	return tx, errors.Join(append(errs, linkNew(tx, s.dir.Root.Name()+".build", linked))...)
}

// linkNew links payload that is in a folder beside the repository.
func linkNew(tx *Tx, from string, names []string) error {
	for _, name := range names {
		file := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte("new payload"), 0o644); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	return errors.Join(tx.LinkPayload(context.Background(), root, names), root.Close())
}

var (
	oldIndex = []string{"delta-indexes/1=old index", "summaries/old=old index"}
	oldRefs  = []string{"refs/heads/gone=old", "summary=old", "summary.sig=old"}
	newIndex = []string{"delta-indexes/1=new index", "summaries/new=new index"}
	newRefs  = []string{"refs/heads/app/new=new", "summary=new", "summary.sig=new"}
)

// stateOf returns "old" or "new" if the repository is completely that, and the
// number of new payload files. Anything else is an error.
func stateOf(t testing.TB, dir string, payload int) string {
	t.Helper()
	var objects, rest []string
	count := 0
	for _, file := range tree(t, dir) {
		switch {
		case strings.HasPrefix(file, lockName), strings.HasPrefix(file, tmpDir+"/") && strings.Contains(file, "/"+intentPrefix):
		case strings.HasSuffix(file, "/new=new payload"):
			count++
		case strings.HasPrefix(file, "objects/"):
			objects = append(objects, file)
		default:
			rest = append(rest, file)
		}
	}
	wantOld := append(slices.Clone(oldIndex[:1]), append(slices.Clone(oldRefs[:1]), append(slices.Clone(oldIndex[1:]), oldRefs[1:]...)...)...)
	wantNew := append(slices.Clone(newIndex[:1]), append(slices.Clone(newRefs[:1]), append(slices.Clone(newIndex[1:]), newRefs[1:]...)...)...)
	switch {
	case slices.Equal(rest, wantOld) && slices.Equal(objects, []string{"objects/aa/old=old payload", "objects/aa/unwanted=old payload"}):
		return "old"
	case slices.Equal(rest, wantNew) && slices.Equal(objects, []string{"objects/aa/old=old payload"}) && count == payload:
		return "new"
	}
	return fmt.Sprintf("neither: %q %q, %d of %d payload files", rest, objects, count, payload)
}

func leftBehind(t testing.TB, dir string) []string {
	t.Helper()
	var left []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); strings.HasPrefix(d.Name(), durable.TempPrefix) ||
			strings.HasPrefix(rel, tmpDir+"/") && !strings.HasPrefix(rel, tmpDir+"/"+intentPrefix) {
			left = append(left, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

const killEnv = "STORE_TEST_KILL_AT"

// TestKillAtEveryStep kills a process with SIGKILL before the n-th change it
// makes to the disk while it commits, for n = 1, 2, … until it lives. With many
// files it takes the path that syncs the file system.
func TestKillAtEveryStep(t *testing.T) {
	if args := strings.SplitN(os.Getenv(killEnv), ":", 3); len(args) == 3 {
		killed(t, args[0], args[1], args[2])
		return
	}
	for _, payload := range []int{3, 2 * batch} {
		t.Run(strconv.Itoa(payload), func(t *testing.T) {
			t.Parallel()
			seen := make(map[string]int)
			for n := 1; ; n++ {
				dir := filepath.Join(quickDir(t), "repo")
				oldState(t, dir)
				dead := runKilled(t, n, payload, dir)
				// The second opening is killed as well, at every step in turn,
				// to see that a repair can be repeated.
				if dead && n%5 == 0 {
					for m := 1; runKilled(t, -m, payload, dir); m++ {
					}
				}
				s := begin(t, dir)
				state, pending := stateOf(t, dir, payload), s.Pending()
				seen[state]++
				if left := leftBehind(t, dir); len(left) > 0 {
					t.Errorf("step %d: left behind: %q", n, left)
				}
				if dead {
					if want := map[string]int{"old": 0, "new": 1}[state]; len(pending) != want {
						t.Fatalf("step %d: state %s, pending %v", n, state, pending)
					}
				}
				for _, p := range pending {
					if string(p.Note) != "the note" {
						t.Errorf("step %d: note %q", n, p.Note)
					}
					if err := s.Done(p.ID); err != nil {
						t.Error(err)
					}
				}
				// A later commit works.
				tx := s.Begin()
				put(t, tx, layout.Pointer, "later", "")
				commit(t, tx)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if !dead {
					if state != "new" || seen["old"] < 10 || seen["new"] < 10 {
						t.Errorf("lived at step %d with state %s; on the way %v", n, state, seen)
					}
					return
				}
			}
		})
	}
}

// runKilled runs a commit, or with a negative n only the opening, in a process
// that is killed at the n-th step, and reports whether it was.
func runKilled(t *testing.T, n, payload int, dir string) bool {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestKillAtEveryStep$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%d:%s", killEnv, n, payload, dir))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if err != nil && !killed {
		t.Fatalf("step %d: %v\n%s", n, err, out)
	}
	return killed
}

func killed(t *testing.T, at, payload, dir string) {
	t.Helper()
	n, errN := strconv.Atoi(at)
	count, errCount := strconv.Atoi(payload)
	if err := errors.Join(errN, errCount); err != nil {
		t.Fatal(err)
	}
	onlyOpen := n < 0
	if onlyOpen {
		n = -n
	}
	s, err := open(dir, func(string, string) error {
		if n--; n == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !onlyOpen {
		tx, err := newTransaction(s, count)
		if err := errors.Join(err, tx.Commit(t.Context(), []byte("the note"))); err != nil {
			t.Fatal(err)
		}
		if err := tx.Done(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFailAtEveryStep makes the n-th change fail, for n = 1, 2, … until the
// commit succeeds, and goes on in the same process.
func TestFailAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, payload := range []int{3, 2 * batch} {
		undone := 0
		for n := 1; ; n++ {
			dir := filepath.Join(quickDir(t), "repo")
			oldState(t, dir)
			steps, failed, armed := 0, "", false
			s, err := open(dir, func(step, name string) error {
				if !armed {
					return nil
				}
				if steps++; steps != n {
					return nil
				}
				failed = step + " " + name
				return syscall.ENOSPC
			})
			if err != nil {
				t.Fatal(err)
			}
			armed = true
			tx, err := newTransaction(s, payload)
			if err != nil {
				err = errors.Join(err, tx.Abort())
			} else {
				err = tx.Commit(t.Context(), []byte("the note"))
			}
			armed = false
			if err == nil && n > steps {
				if undone < 5 {
					t.Errorf("only %d steps were undone after the decision", undone)
				}
				break
			}
			state := stateOf(t, dir, payload)
			switch {
			case err == nil:
				t.Errorf("step %d (%s): no error", n, failed)
			case !durable.IsNoSpace(err):
				t.Errorf("step %d (%s): error %v", n, failed, err)
			case errors.Is(err, ErrBroken):
				// Only what comes after the switch may end like this.
				if !strings.HasPrefix(failed, "remove") && !strings.HasPrefix(failed, "fsync-dir") && !strings.HasPrefix(failed, "syncfs") {
					t.Errorf("step %d (%s): %v", n, failed, err)
				}
				tx := s.Begin()
				put(t, tx, layout.Pointer, "x", "")
				if err := tx.Commit(t.Context(), nil); !errors.Is(err, ErrBroken) {
					t.Errorf("step %d (%s): a broken store commits: %v", n, failed, err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = begin(t, dir)
				if state := stateOf(t, dir, payload); state != "new" || len(s.Pending()) != 1 {
					t.Errorf("step %d (%s): after the repair %s, pending %v", n, failed, state, s.Pending())
				}
			default:
				if strings.HasPrefix(failed, "rename summar") || strings.HasPrefix(failed, "rename refs") || strings.HasPrefix(failed, "remove refs") {
					undone++
				}
				if state != "old" || len(s.Pending()) != 0 {
					t.Errorf("step %d (%s): %s, pending %v", n, failed, state, s.Pending())
				}
				if left := leftBehind(t, dir); len(left) > 0 {
					t.Errorf("step %d (%s): left behind: %q", n, failed, left)
				}
				// The same again works.
				tx, err := newTransaction(s, payload)
				if err := errors.Join(err, tx.Commit(t.Context(), nil)); err != nil {
					t.Fatal(err)
				}
				if state := stateOf(t, dir, payload); state != "new" {
					t.Errorf("step %d (%s): then %s", n, failed, state)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFailTwice makes the n-th change fail and everything after it, so that the
// taking back fails as well; then the next opening decides.
func TestFailTwice(t *testing.T) {
	t.Parallel()
	seen := make(map[string]int)
	for n := 1; ; n++ {
		dir := filepath.Join(quickDir(t), "repo")
		oldState(t, dir)
		steps := 0
		s, err := open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.dir.Fault = func(string, string) error {
			if steps++; steps >= n {
				return syscall.EIO
			}
			return nil
		}
		tx, err := newTransaction(s, 1)
		if err == nil {
			err = tx.Commit(t.Context(), []byte("the note"))
		}
		if closeErr := s.Close(); closeErr != nil {
			t.Fatal(closeErr)
		}
		s = begin(t, dir)
		state := stateOf(t, dir, 1)
		seen[state]++
		if want := map[string]int{"old": 0, "new": 1}[state]; len(s.Pending()) != want || want == 0 && state != "old" {
			t.Errorf("step %d: %s, pending %v", n, state, s.Pending())
		}
		if left := leftBehind(t, dir); len(left) > 0 {
			t.Errorf("step %d: left behind: %q", n, left)
		}
		if err == nil {
			if seen["old"] < 5 || seen["new"] < 5 {
				t.Errorf("states on the way: %v", seen)
			}
			return
		}
	}
}

func TestCancelledCommit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(quickDir(t), "repo")
	oldState(t, dir)
	s := begin(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tx, err := newTransaction(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if state := stateOf(t, dir, 1); state != "old" {
		t.Error(state)
	}
	if left := leftBehind(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestFullDisk fills a small file system of its own.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=1m,nr_inodes=200"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(mount, syscall.MNT_DETACH) })
	dir := filepath.Join(mount, "repo")
	oldState(t, dir)
	s := begin(t, dir)
	t.Cleanup(func() { _ = s.Close() })

	// Out of bytes.
	tx := s.Begin()
	var err error
	for i := 0; err == nil; i++ {
		err = tx.PutBytes(layout.Payload, fmt.Sprintf("objects/bb/%d", i), make([]byte, 100<<10))
	}
	if !durable.IsNoSpace(err) {
		t.Errorf("error %v", err)
	}
	if err := tx.Abort(); err != nil {
		t.Error(err)
	}
	// Out of files: folders for payload are made during the commit.
	for _, files := range []int{60, 80, 95, 110, 150, 190} {
		tx := s.Begin()
		var err error
		for i := 0; i < files && err == nil; i++ {
			err = tx.PutBytes(layout.Payload, fmt.Sprintf("objects/%d-%d/x", files, i), nil)
		}
		err = errors.Join(err, tx.PutBytes(layout.Pointer, "summary", []byte("old")))
		if err == nil {
			err = tx.Commit(t.Context(), nil)
		} else {
			err = errors.Join(err, tx.Abort())
		}
		switch {
		case err == nil:
			if err := tx.Done(); err != nil {
				t.Error(err)
			}
			if err := os.RemoveAll(filepath.Join(dir, "objects")); err != nil {
				t.Fatal(err)
			}
		case !durable.IsNoSpace(err):
			t.Errorf("%d files: %v", files, err)
		}
		if left := leftBehind(t, dir); len(left) > 0 {
			t.Errorf("%d files: left behind: %q", files, left)
		}
		if err := os.RemoveAll(filepath.Join(dir, "objects")); err != nil {
			t.Fatal(err)
		}
	}
	tx, err = newTransaction(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, tx)
	if got := content(t, s.Open, "summary"); got != "new" {
		t.Errorf("summary %q", got)
	}
}
