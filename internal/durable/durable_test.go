package durable_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"freshet/internal/durable"
)

func open(t testing.TB, path string) durable.Dir {
	t.Helper()
	d, err := durable.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Root.Close() })
	return d
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestWriteFileReplaces(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	d := open(t, dir)
	if err := d.MkdirAll("a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"one", "", strings.Repeat("three", 1<<16)} {
		if err := d.WriteFile("a/b/f", []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "a/b/f"))
		if err != nil || string(got) != content {
			t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(content))
		}
	}
	info, err := os.Stat(filepath.Join(dir, "a/b/f"))
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got := names(t, filepath.Join(dir, "a/b")); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestWriteErrorLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir)
	want := errors.New("source dried up")
	err := d.Write("f", 0o644, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return want
	})
	if !errors.Is(err, want) {
		t.Errorf("error %v", err)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestNamesStayInside(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	dir := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir)
	for _, name := range []string{"../f", "out/f", "/f", "x/../../f", "a\x00b"} {
		if err := d.WriteFile(name, nil, 0o644); err == nil {
			t.Errorf("%q was written", name)
		}
		if err := d.MkdirAll(name, 0o755); err == nil {
			t.Errorf("%q was made", name)
		}
	}
	if got := names(t, outside); len(got) != 0 {
		t.Errorf("outside: %v", got)
	}
}

// TestFailAtEveryStep makes the n-th step of a write fail, for n = 1, 2, …
// until it succeeds.
func TestFailAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		var seen []string
		for n := 1; ; n++ {
			dir := t.TempDir()
			d := open(t, dir)
			if err := d.WriteFile("f", []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			steps := 0
			d.Fault = func(step, _ string) error {
				if steps++; steps != n {
					return nil
				}
				seen = append(seen, step)
				return cause
			}
			err := d.WriteFile("f", []byte("new"), 0o644)
			got, readErr := os.ReadFile(filepath.Join(dir, "f"))
			if readErr != nil {
				t.Fatal(readErr)
			}
			if left := names(t, dir); len(left) != 1 {
				t.Errorf("step %d: left behind: %v", n, left)
			}
			if err == nil {
				if string(got) != "new" {
					t.Errorf("no error, and the content is %q", got)
				}
				break
			}
			if !errors.Is(err, cause) || durable.IsNoSpace(err) != errors.Is(cause, syscall.ENOSPC) {
				t.Errorf("step %d: error %v", n, err)
			}
			if want := map[bool]string{true: "new", false: "old"}[seen[n-1] == "fsync-dir"]; string(got) != want {
				t.Errorf("step %d (%s): content %q, want %q", n, seen[n-1], got, want)
			}
		}
		if want := "create fsync rename fsync-dir"; strings.Join(seen, " ") != want {
			t.Errorf("steps %v, want %s", seen, want)
		}
	}
}

const killEnv = "DURABLE_TEST_KILL_AT"

// TestKillAtEveryStep ends a process by SIGKILL before the n-th step of a
// write, for n = 1, 2, … until it lives.
func TestKillAtEveryStep(t *testing.T) {
	t.Parallel()
	if at, dir, ok := strings.Cut(os.Getenv(killEnv), ":"); ok {
		killedWriter(t, at, dir)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	swept := 0
	for n := 1; ; n++ {
		dir := t.TempDir()
		d := open(t, dir)
		if err := d.WriteFile("f", []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestKillAtEveryStep$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%s", killEnv, n, dir))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if err != nil && !killed {
			t.Fatalf("%v\n%s", err, out)
		}
		got, err := os.ReadFile(filepath.Join(dir, "f"))
		if err != nil || string(got) != "old" && string(got) != "new" {
			t.Fatalf("step %d: %q, %v", n, got, err)
		}
		removed, err := d.Sweep(".")
		if err != nil {
			t.Fatal(err)
		}
		swept += removed
		if left := names(t, dir); len(left) != 1 {
			t.Errorf("step %d: left behind: %v", n, left)
		}
		if !killed {
			if n < 4 || swept == 0 || string(got) != "new" {
				t.Errorf("lived at step %d with %q, %d temporary files on the way", n, got, swept)
			}
			return
		}
	}
}

func killedWriter(t *testing.T, at, dir string) {
	t.Helper()
	n, err := strconv.Atoi(at)
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, dir)
	d.Fault = func(string, string) error {
		if n--; n == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
		return nil
	}
	if err := d.WriteFile("f", []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir)
	first, err := d.Lock("lock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir).Lock("lock"); !errors.Is(err, durable.ErrInUse) || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("second lock: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := d.Lock("lock")
	if err != nil {
		t.Fatal(err)
	}
	// Whoever removes the file makes room for a second owner; then the lock is
	// that of the file which has the name.
	if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	other, err := d.Lock("lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(again.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestMoveNewNeverReplaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir)
	for _, name := range []string{"from", "to"} {
		if err := d.MkdirAll(name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := d.WriteFile(name+"/taken", []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	from, err := d.Folder("from")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := d.Folder("to")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := to.MoveNew("taken", from, "taken"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "to/taken")); string(got) != "to" {
		t.Errorf("the file became %q", got)
	}
	if err := to.Link("linked", from, "taken"); err != nil {
		t.Error(err)
	}
	if err := to.MoveNew("moved", from, "taken"); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "to/moved")); string(got) != "from" {
		t.Errorf("moved %q", got)
	}
	for _, bad := range []string{"", ".", "..", "../x", "a/b", "a\x00"} {
		if err := to.Link(bad, to, "moved"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("link to %q: %v", bad, err)
		}
	}
}

func TestSymlinkReplaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir)
	for _, target := range []string{"one", "two"} {
		if err := d.Symlink(target, "current"); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(filepath.Join(dir, "current")); err != nil || got != target {
			t.Errorf("link to %q, %v; want %q", got, err, target)
		}
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestSyncfs(t *testing.T) {
	t.Parallel()
	if err := open(t, t.TempDir()).Syncfs(); err != nil {
		t.Error(err)
	}
}

func BenchmarkWriteFile(b *testing.B) {
	d := open(b, b.TempDir())
	data := make([]byte, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.WriteFile("f", data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCheckFolder(t *testing.T) {
	dir := t.TempDir()
	touch := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.CheckFolder(filepath.Join(dir, "absent"), "own"); err != nil {
		t.Errorf("absent: %v", err)
	}
	if err := durable.CheckFolder(dir, "own"); err != nil {
		t.Errorf("empty: %v", err)
	}
	touch("lost+found")
	if err := durable.CheckFolder(dir, "own"); err != nil {
		t.Errorf("a new file system: %v", err)
	}
	touch("thesis.tex")
	if err := durable.CheckFolder(dir, "own"); err == nil || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("somebody else's: %v", err)
	}
	touch("own")
	if err := durable.CheckFolder(dir, "own"); err != nil {
		t.Errorf("ours: %v", err)
	}
}
