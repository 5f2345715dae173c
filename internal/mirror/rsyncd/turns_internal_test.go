package rsyncd

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/pause"
)

// At most so many begin at a time; one that does not want a processor, or is not there, has
// begun, and nobody waits for ever.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		since := func(want time.Duration) {
			t.Helper()
			if got := time.Since(began); got != want {
				t.Errorf("it is %v, want %v", got, want)
			}
		}
		turns := newTurns(2)
		turns.wanted = func(pid int) (time.Duration, error) {
			switch at := time.Since(began); pid {
			case 1: // reads a list for a second, and waits then
				return min(at, time.Second), nil
			case 2: // for ever
				return at, nil
			}
			return 0, errors.New("no such process")
		}
		first, second := turns.take(t.Context()), turns.take(t.Context())
		go first.watch(1)
		go second.watch(2)
		third := turns.take(t.Context())
		since(time.Second + lookEvery)
		go third.watch(3)
		fourth := turns.take(t.Context())
		since(time.Second + 2*lookEvery)
		go fourth.watch(2)
		tooLate := turns.take(t.Context())
		since(time.Second + 2*lookEvery + turnWait)
		go tooLate.watch(2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cut := turns.take(ctx)
		since(2*time.Second + 2*lookEvery + turnWait)
		for _, ends := range []*turn{first, second, third, fourth, tooLate, cut, second} {
			ends.end()
		}
		synctest.Wait()
		if len(turns.begin) != 0 {
			t.Errorf("%d turns are left", len(turns.begin))
		}
	})
}

// What a process wants of the processor is known of one that works, and of one that sleeps.
func TestWantedProcessor(t *testing.T) {
	t.Parallel()
	works, sleeps := begin(t, "while :; do :; done"), begin(t, "exec sleep 100")
	for wanted := time.Duration(0); wanted < 50*time.Millisecond; {
		var err error
		if wanted, err = wantedProcessor(works.Pid); err != nil {
			t.Fatal(err)
		}
		if !pause.For(t.Context(), time.Millisecond) {
			t.Fatal(t.Context().Err())
		}
	}
	if wanted, err := wantedProcessor(sleeps.Pid); err != nil || wanted > 30*time.Second {
		t.Errorf("one that sleeps wanted %v, %v", wanted, err)
	}
	if err := sleeps.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = sleeps.Wait() // it was killed
	if _, err := wantedProcessor(sleeps.Pid); err == nil {
		t.Error("one that has ended is there")
	}
}

// begin runs a script of the shell until the test ends.
func begin(t *testing.T, script string) *os.Process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // it is killed by then
	return cmd.Process
}
