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
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/kindtest"
	"freshet/internal/mirror/nginxtest"
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
	beside := watchChildren(ctx)
	report, err := engine.New(nil, []*engine.Project{p}).Sync(ctx, mirrorapi.Order{Project: "p", Force: !c.Probe})
	if err != nil {
		return err
	}
	if _, err := p.Store.Retire(ctx, 0); err != nil {
		return err
	}
	told := ended{StoreSteps: steps, Result: string(report.Result)}
	for _, s := range report.Steps {
		told.Steps = append(told.Steps, s.Step)
	}
	told.RsyncMemory = beside()
	if told.Memory, err = memoryOf("/proc/self/status", "VmHWM:"); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		return err
	}
	return store.Close()
}

// ended is what such a process tells of its sync.
type ended struct {
	StoreSteps int // -1: it was killed
	Steps      []mirrorapi.Step
	Result     string
	// Memory is the most that was resident of the process, RsyncMemory of the processes of an
	// rsync beside it.
	Memory, RsyncMemory int64
}

// memoryOf reads a line of a file of /proc, in bytes.
func memoryOf(file, line string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), line)
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kb, err := strconv.ParseInt(number, 10, 64)
	return kb << 10, err
}

// watchChildren watches what the children of this process and their children have
// together, looking often, until the function that it returns is called: that tells the
// most of it, in bytes.
func watchChildren(ctx context.Context) (most func() int64) {
	ctx, cancel := context.WithCancel(ctx)
	told := make(chan int64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var most int64
		for ctx.Err() == nil {
			most = max(most, childrenOf(os.Getpid()))
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		told <- most
	}()
	return func() int64 { cancel(); return <-told }
}

func childrenOf(pid int) (sum int64) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for word := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				continue
			}
			own, _ := memoryOf("/proc/"+word+"/smaps_rollup", "Pss:") // none: it has ended
			sum += own + childrenOf(child)
		}
	}
	return sum
}

// run runs the other process. It returns how many steps its store made, -1 if it was killed.
func (c child) run(t *testing.T) (steps int, result string) {
	t.Helper()
	told := c.tell(t)
	return told.StoreSteps, told.Result
}

// tell is run that returns all that is told.
func (c child) tell(t *testing.T) (told ended) {
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
		return ended{StoreSteps: -1}
	}
	if err == nil {
		err = json.Unmarshal(out, &told)
	}
	if err != nil {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
	return told
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
	for _, f := range kindtest.Upstreams() {
		t.Run(f.Name, func(t *testing.T) {
			needs(t, f.Needs...)
			up, dir := t.TempDir(), filepath.Join(t.TempDir(), "store")
			f.Publish(t, up, 1)
			urls := []string{rsynctest.Serve(t, up), nginxtest.Serve(t, up)}
			c := child{Store: dir, URL: urls[0], Config: f.Config}
			steps, _ := c.run(t)
			if steps < 20 {
				t.Fatalf("%d steps only", steps)
			}
			current := filepath.Join(dir, "projects/p/current")
			reader := read(t, f.Config, current)
			random := rand.New(rand.NewPCG(1, uint64(kills)))
			for v := 2; v < 2+kills; v++ {
				f.Publish(t, up, v)
				c.URL = urls[v%len(urls)]
				killed := c
				killed.KillAt = 1 + random.IntN(steps)
				before, _ := os.Readlink(current)
				if n, _ := killed.run(t); n >= 0 && n >= killed.KillAt {
					t.Fatalf("it was not killed at step %d of %d", killed.KillAt, n)
				}
				if _, err := visit(t.Context(), f.Config, current+"/tree"); err != nil {
					t.Errorf("killed at step %d of about %d, at version %d: %v", killed.KillAt, steps, v, err)
				}
				n, result := c.run(t)
				if after, _ := os.Readlink(current); before == after {
					t.Errorf("killed at step %d of about %d: the next sync of version %d ends with %s after %d steps", killed.KillAt, steps, v, result, n)
				}
				if _, err := visit(t.Context(), f.Config, current+"/tree"); err != nil {
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
