package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
	"freshet/internal/rsync"
	"freshet/internal/rsync/rsynctest"
)

// childEnv has, for a process of this program that only syncs once, what to sync.
const childEnv = "FRESHET_ENGINE_CHILD"

// killsEnv is how often syncs of each kind are killed; the normal run takes a sample.
const killsEnv = "FRESHET_ENGINE_KILLS"

// child is what such a process does.
type child struct {
	Store, URL string
	Config     kind.Config
	// Probe leaves it to the probe whether anything is new.
	Probe bool
	// KillAt is the step of the store before which the process ends as by kill -9; 0: none.
	KillAt int
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := syncOnce(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// syncOnce is the other process: it opens the store, syncs, and prints how many steps the
// store has made.
func syncOnce(text string) error {
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ctx, steps := context.Background(), 0
	store, err := generation.Open(ctx, c.Store, generation.Options{Fault: func(string, string) error {
		if steps++; steps == c.KillAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}})
	if err != nil {
		return err
	}
	program, err := rsync.Find(ctx, rsync.Options{AnyVersion: true})
	if err != nil {
		return err
	}
	source, err := fetch.Open(c.URL, fetch.Options{Rsync: program})
	if err != nil {
		return err
	}
	p := &engine.Project{Name: "p", Upstream: engine.Upstream{Sources: []fetch.Source{source}}}
	if p.Kind, err = kind.New(c.Config); err != nil {
		return err
	}
	if p.Store, err = store.Project("p", nil); err != nil {
		return err
	}
	report, err := engine.New(nil, []*engine.Project{p}).Sync(ctx, mirrorapi.Order{Project: "p", Force: !c.Probe})
	if err != nil {
		return err
	}
	if _, err := p.Store.Retire(ctx, 0); err != nil {
		return err
	}
	fmt.Println(steps, report.Result)
	return store.Close()
}

// start runs the other process. It returns how many steps it made, -1 if it was killed.
func (c child) run(t *testing.T) (steps int, result string) {
	t.Helper()
	steps, result, _ = c.measure(t)
	return steps, result
}

// measure is run that tells how much memory the process has taken at most, in bytes.
func (c child) measure(t *testing.T) (steps int, result string, memory int64) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return -1, "", 0
	}
	if err != nil {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
	count, result, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if steps, err = strconv.Atoi(count); err != nil {
		t.Fatal(err)
	}
	return steps, result, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
}

// A process that ends at any step leaves what was served before, or the new version, whole;
// and the next process publishes the new one. A client that reads meanwhile, again and
// again, finds every file that its index names.
func TestKill(t *testing.T) {
	kills := 3
	if text := os.Getenv(killsEnv); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range fixtures() {
		t.Run(f.name, func(t *testing.T) {
			needs(t, f.needs...)
			up, dir := t.TempDir(), filepath.Join(t.TempDir(), "store")
			f.publish(t, up, 1)
			c := child{Store: dir, URL: rsynctest.Serve(t, up), Config: f.config}
			steps, _ := c.run(t)
			if steps < 20 {
				t.Fatalf("%d steps only", steps)
			}
			current := filepath.Join(dir, "projects/p/current")
			reader := read(t, f.config, current)
			random := rand.New(rand.NewPCG(1, uint64(kills)))
			for v := 2; v < 2+kills; v++ {
				f.publish(t, up, v)
				killed := c
				killed.KillAt = 1 + random.IntN(steps)
				before, _ := os.Readlink(current)
				if n, _ := killed.run(t); n >= 0 && n >= killed.KillAt {
					t.Fatalf("it was not killed at step %d of %d", killed.KillAt, n)
				}
				if _, err := visit(t.Context(), f.config, current+"/tree"); err != nil {
					t.Errorf("killed at step %d of about %d, at version %d: %v", killed.KillAt, steps, v, err)
				}
				n, result := c.run(t)
				if after, _ := os.Readlink(current); before == after {
					t.Errorf("killed at step %d of about %d: the next sync of version %d ends with %s after %d steps", killed.KillAt, steps, v, result, n)
				}
				if _, err := visit(t.Context(), f.config, current+"/tree"); err != nil {
					t.Errorf("version %d: %v", v, err)
				}
			}
			if rounds := reader(); rounds < kills {
				t.Errorf("the client has read it %d times only", rounds)
			}
			if boot, err := filepath.Glob(dir + "/projects/p/staging/objects/*/*/*"); err != nil || len(boot) > 0 {
				t.Errorf("left behind: %q, %v", boot, err)
			}
		})
	}
}

// read reads what is served all the time, each time from one generation as a client with a
// fast connection does, until the function that it returns is called. That returns how
// often it was read.
func read(t *testing.T, c kind.Config, current string) (stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	rounds := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			at, err := os.Readlink(current)
			if err == nil {
				_, err = visit(ctx, c, filepath.Join(filepath.Dir(current), at, "tree"))
			}
			if now, _ := os.Readlink(current); err != nil && ctx.Err() == nil && now == at {
				t.Errorf("a client, in round %d: %v", n, err)
			}
		}
		rounds <- n
	}()
	return func() int { cancel(); return <-rounds }
}
