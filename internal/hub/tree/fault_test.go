package tree

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"freshet/internal/durable"
)

// prepared makes trees with the first generation of "x" and, if uploaded, a
// push of the second with all its contents; it returns the push.
func prepared(t testing.TB, dir string, generations int) string {
	t.Helper()
	trees := begin(t, dir, Options{})
	l := new(ledger)
	if generations > 0 {
		publish(t, trees, "x", 1000, first, l)
	}
	push, err := trees.Begin(t.Context(), "x", second.files(2000))
	if err != nil {
		t.Fatal(err)
	}
	if err := upload(trees, second, push); err != nil {
		t.Fatal(err)
	}
	if err := trees.Close(); err != nil {
		t.Fatal(err)
	}
	return push.ID
}

// which says whether readers see "old" or "new", completely.
func which(t testing.TB, trees *Trees, dir string, generations int) string {
	t.Helper()
	now := current(t, dir, "x")
	old := contents{}
	if generations > 0 {
		old = first
	}
	info, err := trees.Info("x")
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	served := func(c contents) bool {
		for name, content := range c {
			if !strings.HasPrefix(content, "@") && read(t, trees, "x", name) != content {
				return false
			}
		}
		return true
	}
	switch {
	case maps.Equal(now, old) && info.Current == int64(generations) && served(old):
		return "old"
	case maps.Equal(now, second) && info.Current == int64(generations+1) && served(second):
		return "new"
	}
	return fmt.Sprintf("neither: %v, %+v", now, info)
}

// remains lists what must not be on the disk: temporary files, and generations
// that are not readable.
func remains(t testing.TB, trees *Trees, dir string) []string {
	t.Helper()
	known := make(map[string]bool)
	if info, err := trees.Info("x"); err == nil {
		for _, g := range info.Generations {
			known[strconv.FormatInt(g.ID, 10)] = true
		}
	}
	var left []string
	for _, name := range all(t, dir) {
		rest, inGeneration := strings.CutPrefix(name, "trees/x/generations/")
		id, _, _ := strings.Cut(strings.TrimSuffix(rest, ".json"), "/")
		if strings.Contains(name, durable.TempPrefix) || inGeneration && !known[id] {
			left = append(left, name)
		}
	}
	return left
}

const killEnv = "TREE_TEST_KILL_AT"

// TestKillAtEveryStep kills a process with SIGKILL before the n-th change it
// makes to the disk while it publishes, for n = 1, 2, … until it lives.
func TestKillAtEveryStep(t *testing.T) {
	if args := strings.SplitN(os.Getenv(killEnv), ":", 3); len(args) == 3 {
		killed(t, args[0], args[1], args[2])
		return
	}
	for _, generations := range []int{0, 1} {
		t.Run(strconv.Itoa(generations), func(t *testing.T) {
			t.Parallel()
			base := quickDir(t)
			seen := make(map[string]int)
			for n := 1; ; n++ {
				dir := filepath.Join(base, strconv.Itoa(n))
				push := prepared(t, dir, generations)
				dead := runKilled(t, n, push, dir)
				if dead && n%7 == 0 { // the repair is killed as well
					for m := 1; runKilled(t, -m, push, dir); m++ {
					}
				}
				trees := begin(t, dir, Options{})
				state := which(t, trees, dir, generations)
				seen[state]++
				pending, err := trees.Pending(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if state != "old" && state != "new" || state == "old" && len(pending) > 0 {
					t.Fatalf("step %d: %s, pending %+v", n, state, pending)
				}
				if left := remains(t, trees, dir); len(left) > 0 {
					t.Errorf("step %d: left behind: %q", n, left)
				}
				l := new(ledger)
				if err := trees.Recover(t.Context(), l.commit); err != nil {
					t.Errorf("step %d: %v", n, err)
				}
				if len(l.switches) != len(pending) || len(pending) == 1 && l.switches[0].Push != push {
					t.Errorf("step %d: committed %+v, pending were %+v", n, l.switches, pending)
				}
				// The client asks again, and gets its generation.
				s, err := trees.Publish(t.Context(), push, l.commit)
				if err != nil || s.Generation.ID != int64(generations+1) {
					t.Errorf("step %d: again: %+v, %v", n, s, err)
				}
				if state := which(t, trees, dir, generations); state != "new" {
					t.Errorf("step %d: in the end %s", n, state)
				}
				if r, err := trees.Retire(t.Context()); err != nil || r != (Retired{}) {
					t.Errorf("step %d: %+v, %v", n, r, err)
				}
				for _, name := range all(t, dir) {
					if strings.HasPrefix(name, "pushes/") || strings.HasPrefix(name, "incoming/") || strings.HasSuffix(name, "intent.json") {
						t.Errorf("step %d: in the end there is %s", n, name)
					}
				}
				if err := trees.Close(); err != nil {
					t.Fatal(err)
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				if !dead {
					if state != "new" || seen["old"] < 20 || seen["new"] < 10 {
						t.Errorf("lived at step %d with %s; on the way %v", n, state, seen)
					}
					return
				}
			}
		})
	}
}

func runKilled(t *testing.T, n int, push, dir string) bool {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestKillAtEveryStep$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%s:%s", killEnv, n, push, dir))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	dead := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if err != nil && !dead {
		t.Fatalf("step %d: %v\n%s", n, err, out)
	}
	return dead
}

func killed(t *testing.T, at, push, dir string) {
	t.Helper()
	n, err := strconv.Atoi(at)
	if err != nil {
		t.Fatal(err)
	}
	onlyOpen := n < 0
	if onlyOpen {
		n = -n
	}
	trees, err := open(dir, Options{}, countdown(n, func() error {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}))
	if err != nil {
		t.Fatal(err)
	}
	if onlyOpen {
		return
	}
	if _, err := trees.Publish(t.Context(), push, new(ledger).commit); err != nil {
		t.Fatal(err)
	}
}

// countdown calls fn at the n-th step. Steps of concurrent builders are counted
// one after the other.
func countdown(n int, fn func() error) func(step, name string) error {
	turn := make(chan int, 1)
	turn <- n
	return func(string, string) error {
		left := <-turn - 1
		defer func() { turn <- left }()
		if left == 0 {
			return fn()
		}
		return nil
	}
}

// TestFailAtEveryStep makes the n-th change fail, for n = 1, 2, … until the
// publish succeeds, and goes on in the same process.
func TestFailAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, generations := range []int{0, 1} {
		base := quickDir(t)
		seen := make(map[string]int)
		for n := 1; ; n++ {
			dir := filepath.Join(base, strconv.Itoa(n))
			push := prepared(t, dir, generations)
			failed, armed := "", false
			left := n
			turn := make(chan struct{}, 1)
			trees, err := open(dir, Options{}, func(step, name string) error {
				turn <- struct{}{}
				defer func() { <-turn }()
				if !armed {
					return nil
				}
				if left--; left == 0 {
					failed = step + " " + name
					return syscall.ENOSPC
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			armed = true
			l := new(ledger)
			_, err = trees.Publish(t.Context(), push, l.commit)
			armed = false
			if err == nil && failed == "" {
				if seen["old"] < 15 || seen["new"] < 3 || seen["broken"] != 0 {
					t.Errorf("lived at step %d; on the way %v", n, seen)
				}
				if err := trees.Close(); err != nil {
					t.Fatal(err)
				}
				break
			}
			state := which(t, trees, dir, generations)
			seen[state]++
			if errors.Is(err, ErrBroken) {
				seen["broken"]++
			}
			// With an error, the old state; or the new one, when the event is
			// out and only the cleaning up failed.
			if !durable.IsNoSpace(err) || state == "new" && len(l.switches) != 1 || state == "old" && len(l.switches) != 0 {
				t.Errorf("step %d (%s): %s, %d commits, %v", n, failed, state, len(l.switches), err)
			}
			if left := remains(t, trees, dir); len(left) > 0 {
				t.Errorf("step %d (%s): left behind: %q", n, failed, left)
			}
			s, err := trees.Publish(t.Context(), push, l.commit)
			if err != nil || s.Generation.ID != int64(generations+1) || len(l.switches) != 1 {
				t.Errorf("step %d (%s): again: %+v, %d commits, %v", n, failed, s, len(l.switches), err)
			}
			if state := which(t, trees, dir, generations); state != "new" {
				t.Errorf("step %d (%s): in the end %s", n, failed, state)
			}
			if err := trees.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFailForGood makes everything fail from the n-th change on; the next
// opening decides.
func TestFailForGood(t *testing.T) {
	t.Parallel()
	base := quickDir(t)
	seen := make(map[string]int)
	for n := 1; ; n++ {
		dir := filepath.Join(base, strconv.Itoa(n))
		push := prepared(t, dir, 1)
		left := n
		turn := make(chan struct{}, 1)
		failed := false
		trees, err := open(dir, Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		fault := func(string, string) error {
			turn <- struct{}{}
			defer func() { <-turn }()
			if left--; left <= 0 {
				failed = true
				return syscall.EIO
			}
			return nil
		}
		trees.dir.Fault, trees.blobs.Fault, trees.incoming.Fault = fault, fault, fault
		_, err = trees.Publish(t.Context(), push, new(ledger).commit)
		if (err != nil) != failed {
			t.Errorf("step %d: failed %t, %v", n, failed, err)
		}
		if errors.Is(err, ErrBroken) {
			seen["broken"]++
		}
		if err := trees.Close(); err != nil {
			t.Fatal(err)
		}
		trees = begin(t, dir, Options{})
		state := which(t, trees, dir, 1)
		seen[state]++
		if left := remains(t, trees, dir); len(left) > 0 || state != "old" && state != "new" {
			t.Errorf("step %d: %s, left behind: %q", n, state, left)
		}
		if err := trees.Close(); err != nil {
			t.Fatal(err)
		}
		if !failed {
			if seen["old"] < 15 || seen["new"] < 5 || seen["broken"] < 3 {
				t.Errorf("on the way: %v", seen)
			}
			return
		}
	}
}

// TestFullDisk fills a small file system of its own.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=1m,nr_inodes=120"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(mount, syscall.MNT_DETACH) })
	dir := filepath.Join(mount, "trees")
	trees := begin(t, dir, Options{})
	l := new(ledger)
	publish(t, trees, "x", 1, first, l)

	// Out of bytes while uploading.
	big := contents{"a": strings.Repeat("a", 400<<10), "b": strings.Repeat("b", 400<<10), "c": strings.Repeat("c", 400<<10)}
	push, err := trees.Begin(t.Context(), "x", big.files(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := upload(trees, big, push); !durable.IsNoSpace(err) {
		t.Errorf("upload: %v", err)
	}
	if now, err := trees.Push(t.Context(), push.ID); err != nil || len(now.Missing) != 1 {
		t.Errorf("%+v, %v", now, err)
	}
	if err := trees.Cancel(push.ID); err != nil {
		t.Fatal(err)
	}
	// Out of inodes while building: a folder for each file.
	wide := make(contents)
	for i := range 100 {
		wide[fmt.Sprintf("%d/x", i)] = "the same"
	}
	push, err = trees.Begin(t.Context(), "x", wide.files(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := upload(trees, wide, push); err != nil {
		t.Fatal(err)
	}
	if _, err := trees.Publish(t.Context(), push.ID, l.commit); !durable.IsNoSpace(err) {
		t.Errorf("publish: %v", err)
	}
	if left := remains(t, trees, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	equal(t, current(t, dir, "x"), first)
	if err := trees.Cancel(push.ID); err != nil {
		t.Fatal(err)
	}
	publish(t, trees, "x", 2, second, l)
	equal(t, current(t, dir, "x"), second)
}

func BenchmarkPublish(b *testing.B) {
	for _, files := range []int{100, 10_000} {
		b.Run(strconv.Itoa(files), func(b *testing.B) {
			trees := begin(b, b.TempDir(), Options{})
			l := new(ledger)
			c := make(contents, files)
			for i := range files {
				c[fmt.Sprintf("Packages/%02x/package-%d.rpm", i%64, i)] = fmt.Sprint(i)
			}
			publish(b, trees, "x", 1, c, l) // the contents are there
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				c["index"] = strconv.Itoa(i)
				publish(b, trees, "x", 1, c, l)
			}
			b.ReportMetric(float64(files)*float64(b.N)/b.Elapsed().Seconds(), "files/s")
		})
	}
}
