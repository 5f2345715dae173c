package generation_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/mirror/generation"
)

// release is what an upstream has at a time: the pointer names the packages. Some
// packages go, some come, one changes its place.
func release(n int) map[string]string {
	files := map[string]string{fmt.Sprintf("moved/%d/same.rpm", n): "moved", "latest.rpm": fmt.Sprintf("-> Packages/%d.rpm", n)}
	var names []string
	for i := n; i < n+5; i++ {
		name := fmt.Sprintf("Packages/%d.rpm", i)
		files[name] = strings.Repeat(name, i)
		names = append(names, name)
	}
	files["repodata/repomd.xml"] = fmt.Sprintf("%d\n%s", n, strings.Join(names, "\n"))
	return files
}

// syncTo is what an engine does: keep, link, fetch, commit, retire. Files of which the
// names begin with a question mark are fetched, but cannot be published yet.
func syncTo(ctx context.Context, p *generation.Project, files map[string]string) error {
	st, err := p.Stage(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	base := make(map[string]generation.File)
	for f, err := range st.Base().Files() {
		if err != nil {
			return err
		}
		base[f.Path] = f
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := stageOne(st, path, files[path], base); err != nil {
			return err
		}
		if strings.HasPrefix(path, "?") {
			f, _ := content(path, files[path])
			if err := st.SetAside(f); err != nil {
				return err
			}
		}
	}
	if _, err := st.Commit(ctx, generation.Meta{}); err != nil {
		return err
	}
	return p.Stamp("lastsync", []byte("now"))
}

func stageOne(st *generation.Staging, path, data string, base map[string]generation.File) error {
	if target, ok := strings.CutPrefix(data, "-> "); ok {
		return st.Symlink(path, target)
	}
	f, data := content(path, data)
	if was := base[path]; was == f {
		if ok, err := st.Keep(st.Base(), was); ok || err != nil {
			return err
		}
	}
	if ok, err := st.LinkObject(f); ok || err != nil {
		return err
	}
	return fetch(st, f, data)
}

// whole returns the number of the release that a project has, after it has checked
// that the project has all of this one and nothing else.
func wholeRelease(t testing.TB, p *generation.Project) int {
	t.Helper()
	g := p.Current()
	pointer, _, err := read(p, "repodata/repomd.xml")
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(pointer, &n); err != nil {
		t.Fatal(pointer, err)
	}
	want := slices.Sorted(maps.Keys(release(n)))
	if got := paths(t, g.Files()); !slices.Equal(got, want) {
		t.Fatalf("release %d has %q", n, got)
	}
	for path, data := range release(n) {
		if _, link := strings.CutPrefix(data, "-> "); link {
			path, data = "latest.rpm", release(n)[fmt.Sprintf("Packages/%d.rpm", n)]
		}
		if got, id, err := read(p, path); got != data || id != g.ID() || err != nil {
			t.Fatalf("release %d: %s is %q of %s, %v", n, path, got, id, err)
		}
	}
	if err := p.Verify(t.Context(), g, generation.VerifyOptions{}, func(_ generation.File, err error) error { return err }); err != nil {
		t.Fatal(err)
	}
	return n
}

// tidy checks that nothing is left over when only the current generation is kept.
func tidy(t testing.TB, dir string, p *generation.Project) {
	t.Helper()
	if _, err := p.Retire(t.Context(), -time.Hour); err != nil {
		t.Fatal(err)
	}
	names, had := objectNames(t, dir), make(map[string]bool)
	for f, err := range p.Current().Files() {
		if err != nil {
			t.Fatal(err)
		}
		sum := fmt.Sprintf("%x", f.SHA256)
		if names[sum] == 0 && !f.IsLink() {
			t.Errorf("there is no object of %s", f.Path)
		}
		had[sum] = true
	}
	maps.DeleteFunc(names, func(sum string, _ uint64) bool { return had[sum] })
	if len(names) > 0 {
		t.Fatalf("objects that nobody has: %v", names)
	}
	var left []string
	for _, pattern := range []string{"/staging", "/trash/*", "/.durable-*", "/generations/.*", "/generations/*/.*"} {
		found, _ := filepath.Glob(filepath.Join(dir, "projects/demo") + pattern)
		left = append(left, found...)
	}
	if len(left) > 0 {
		t.Fatal("left over:", left)
	}
}

var errFault = errors.New("fault")

// TestFaultAtEveryStep fails each step of a sync in turn: once it alone, as a full
// disk does, and once with all behind it, as if the program had been killed there.
func TestFaultAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, dead := range []bool{false, true} {
		t.Run(fmt.Sprintf("dead=%t", dead), func(t *testing.T) {
			t.Parallel()
			for n := 1; faultAt(t, n, dead); n++ {
			}
		})
	}
}

// faultAt reports whether there was an n-th step.
func faultAt(t *testing.T, n int, dead bool) bool {
	dir := t.TempDir()
	ctx := t.Context()
	steps, last := 0, ""
	count := false
	s, err := generation.Open(ctx, dir, generation.Options{UnlinksPerSecond: 1 << 20, Fault: func(step, name string) error {
		if !count {
			return nil
		}
		if steps++; steps == n || dead && steps > n {
			if steps == n {
				last = step + " " + name
			}
			return errFault
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := project(t, s)
	for i := 1; i <= 2; i++ {
		if err := syncTo(ctx, p, release(i)); err != nil {
			t.Fatal(err)
		}
	}
	files := release(3)
	files["?/held-1.rpm"], files["?/held-2.rpm"] = "held", "held, too"
	count = true
	err = syncTo(ctx, p, files)
	if err == nil {
		_, err = p.Retire(ctx, -time.Hour)
	}
	count = false
	if err == nil && steps >= n {
		t.Errorf("step %d (%s) failed, and nobody heard of it", n, last)
	}
	if !dead {
		before := wholeRelease(t, p)
		if before < 2 {
			t.Errorf("step %d (%s): back to %d", n, last, before)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	p = project(t, s)
	if got := wholeRelease(t, p); got < 2 || got > 3 {
		t.Errorf("step %d (%s): release %d", n, last, got)
	}
	for _, i := range []int{3, 4} {
		if err := syncTo(ctx, p, release(i)); err != nil {
			t.Fatalf("step %d (%s): %v", n, last, err)
		}
		if got := wholeRelease(t, p); got != i {
			t.Fatalf("step %d (%s): release %d", n, last, got)
		}
	}
	tidy(t, dir, p)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if steps < n {
		t.Logf("%d steps", steps)
	}
	return steps >= n
}

const killEnv = "GENERATION_TEST_KILL"

// TestKilled kills a program that syncs release after release at random moments. The
// next one finds a whole release, never one from before, and loses no time.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killEnv); dir != "" {
		syncForever(t, dir)
		return
	}
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := open(t, dir)
	if err := syncTo(t.Context(), project(t, s), release(1)); err != nil {
		t.Fatal(err)
	}
	rounds := 50
	if testing.Short() {
		rounds = 10
	}
	at := 1
	for range rounds {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		killedAfter(t, exe, dir, rand.IntN(400))
		s = open(t, dir)
		n := wholeRelease(t, project(t, s))
		if n < at {
			t.Fatalf("release %d after %d", n, at)
		}
		at = n
	}
	if err := syncTo(t.Context(), project(t, s), release(at+1)); err != nil {
		t.Fatal(err)
	}
	tidy(t, dir, project(t, s))
	if at < 10 {
		t.Errorf("only %d releases: it was killed too early to try anything", at)
	}
}

// killedAfter runs the program until it has told of so many steps.
func killedAfter(t *testing.T, exe, dir string, steps int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), killEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.CopyN(io.Discard, out, int64(steps)); err != nil {
		t.Errorf("it ended after %d steps: %v", got, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
}

func syncForever(t *testing.T, dir string) {
	s, err := generation.Open(t.Context(), dir, generation.Options{UnlinksPerSecond: 1 << 20, Fault: func(string, string) error {
		_, err := os.Stdout.WriteString(".")
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := project(t, s)
	for n := wholeRelease(t, p) + 1; ; n++ {
		if err := syncTo(t.Context(), p, release(n)); err != nil {
			t.Fatal(err)
		}
		if n%3 == 0 {
			if _, err := p.Retire(t.Context(), -time.Hour); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestReadersCrossSwitches has clients read the pointer and then what it names, while
// the mirror switches and goes back.
func TestReadersCrossSwitches(t *testing.T) {
	t.Parallel()
	p := project(t, open(t, t.TempDir()))
	if err := syncTo(t.Context(), p, release(1)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				client(t, p)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	defer clients.Wait()
	defer close(done)
	for n := 2; n < 30; n++ {
		if err := syncTo(t.Context(), p, release(n)); err != nil {
			t.Fatal(err)
		}
		if n%7 == 0 {
			if _, err := p.Rollback(t.Context(), p.Generations()[2].ID()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestReadersWhileRetiring has clients read what each generation has, while the former
// one ends with each switch.
func TestReadersWhileRetiring(t *testing.T) {
	t.Parallel()
	p := project(t, open(t, t.TempDir()))
	publish(t, p, map[string]string{"a": "0"})
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				if _, _, err := read(p, "a"); err != nil {
					t.Error(err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	defer clients.Wait()
	defer close(done)
	for n := range 100 {
		publish(t, p, map[string]string{"a": fmt.Sprint(n)})
		if _, err := p.Retire(t.Context(), -time.Hour); err != nil {
			t.Fatal(err)
		}
	}
}

func client(t *testing.T, p *generation.Project) {
	pointer, _, err := read(p, "repodata/repomd.xml")
	if err != nil {
		t.Error(err)
	}
	for _, name := range strings.Split(pointer, "\n")[1:] {
		var n int
		if _, err := fmt.Sscanf(name, "Packages/%d.rpm", &n); err != nil {
			t.Error(name, err)
		}
		if data, _, err := read(p, name); err != nil || data != strings.Repeat(name, n) {
			t.Errorf("%s: %q %v", name, data, err)
		}
	}
}

// A removal that breaks at any step is completed after the next start, from the note on the
// disk, and what another project has stays.
func TestRemoveBreaksAtEveryStep(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		dir := t.TempDir()
		s, err := generation.Open(t.Context(), dir, generation.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"demo", "other"} {
			p, err := s.Project(name, nil)
			if err != nil {
				t.Fatal(err)
			}
			publish(t, p, map[string]string{"same": "data", "own": name})
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		steps, broken := 0, errors.New("broken")
		removing := false
		if s, err = generation.Open(t.Context(), dir, generation.Options{Fault: func(string, string) error {
			if removing {
				if steps++; steps >= n {
					return broken
				}
			}
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
		removing = true
		failed := s.Remove(t.Context(), "demo")
		removing = false
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = generation.Open(t.Context(), dir, generation.Options{}); err != nil {
			t.Fatal(err)
		}
		if n > 1 && slices.Contains(s.Names(), "demo") {
			p, err := s.Project("demo", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, drained := p.Drained(); !drained {
				t.Errorf("step %d: it is not known any more that the project is to go", n)
			}
		}
		if err := s.Remove(t.Context(), "demo"); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		other, err := s.Project("other", nil)
		if err != nil {
			t.Fatal(err)
		}
		if data, _, err := read(other, "same"); data != "data" || err != nil {
			t.Errorf("step %d: %q, %v", n, data, err)
		}
		if got := objectNames(t, dir); len(got) != 2 || !slices.Equal(s.Names(), []string{"other"}) {
			t.Errorf("step %d: %v, %q", n, got, s.Names())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if failed == nil {
			if n < 8 {
				t.Fatalf("it has %d steps only", n)
			}
			return
		}
	}
}
