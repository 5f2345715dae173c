package cancel_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"freshet/internal/cancel"
)

type key struct{}

// It is a context like any other to who asks, and to package context.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cancel.New(context.WithValue(context.WithoutCancel(t.Context()), key{}, "parent"))
		if c.Value(key{}) != "parent" {
			t.Error("the parent's value is gone")
		}
		if !c.Carry(key{}, "own") || c.Carry(key{}, "other") || c.Value(key{}) != "own" {
			t.Error("it does not carry one value")
		}
		child, stop := context.WithCancel(c)
		defer stop()
		early := c.Done()
		synctest.Wait()
		if c.Err() != nil || child.Err() != nil {
			t.Fatal("it has ended")
		}
		cause := errors.New("cause")
		c.Cancel(cause)
		c.Cancel(errors.New("too late"))
		synctest.Wait()
		<-early
		<-c.Done()
		<-child.Done()
		for name, err := range map[string]error{"Err": c.Err(), "Cause": context.Cause(c), "the child's Cause": context.Cause(child)} {
			if !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s is %v", name, err)
			}
		}
	})
}

func TestCancelWithoutCause(t *testing.T) {
	c := cancel.New(context.WithoutCancel(t.Context()))
	c.Cancel(nil)
	if <-c.Done(); !errors.Is(c.Err(), context.Canceled) || !errors.Is(context.Cause(c), context.Canceled) {
		t.Errorf("Err %v, Cause %v", c.Err(), context.Cause(c))
	}
}

// Those hooks are called that are set at the end, and those that are set later,
// each once; with contexts of both kinds.
func TestHooks(t *testing.T) {
	t.Run("own", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := cancel.New(context.WithoutCancel(t.Context()))
			testHooks(c, t, func() { c.Cancel(nil) })
		})
	})
	t.Run("standard", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, end := context.WithCancel(t.Context())
			testHooks(c, t, end)
		})
	})
}

func testHooks(ctx context.Context, t *testing.T, end func()) {
	t.Helper()
	calls := make(chan int, 10)
	hooks := make([]cancel.Hook, 5)
	set := func(i int) { hooks[i].Set(ctx, func() { calls <- i }) }
	for i := range hooks {
		set(i)
	}
	for _, i := range []int{4, 0, 2} { // the ends of the list, and its middle
		if !hooks[i].Drop() || hooks[i].Drop() {
			t.Errorf("hook %d was not dropped once", i)
		}
	}
	set(2)
	end()
	synctest.Wait()
	set(0)
	synctest.Wait()
	close(calls)
	got := 0
	for i := range calls {
		got += 1 << i
	}
	if got != 1<<0|1<<1|1<<2|1<<3 {
		t.Errorf("called were %b", got)
	}
	for i := range 4 {
		if hooks[i].Drop() {
			t.Errorf("hook %d was called, and dropped", i)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	var h cancel.Hook
	c := cancel.New(context.WithoutCancel(t.Context()))
	f := func() {}
	if n := testing.AllocsPerRun(100, func() {
		h.Set(c, f)
		h.Drop()
	}); n > 0 {
		t.Errorf("%v allocations for a hook", n)
	}
}
