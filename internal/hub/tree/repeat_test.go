package tree

import (
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestUnchanged pushes what is there: no generation, no event, and the answer
// stays the same however often it is asked for.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	trees := begin(t, dir, Options{})
	l := new(ledger)
	one := publish(t, trees, "x", 1000, first, l)
	if one.Unchanged {
		t.Errorf("%+v", one)
	}
	same := publish(t, trees, "x", 2000, first, l)
	equal(t, same, Switch{Tree: "x", Generation: one.Generation, Push: same.Push, Unchanged: true})
	again := func() {
		t.Helper()
		got, err := trees.Publish(t.Context(), same.Push, l.commit)
		if err != nil || !got.Unchanged || got.Generation.ID != 1 || got.Push != same.Push {
			t.Errorf("again: %+v, %v", got, err)
		}
		if first, err := trees.Publish(t.Context(), one.Push, l.commit); err != nil || first.Unchanged || first.Key != one.Key {
			t.Errorf("the first: %+v, %v", first, err)
		}
	}
	again()
	for _, name := range all(t, dir) {
		if strings.HasPrefix(name, "pushes/") || strings.HasPrefix(name, "trees/x/generations/2") {
			t.Errorf("left behind: %s", name)
		}
	}
	if err := trees.Close(); err != nil {
		t.Fatal(err)
	}
	trees = begin(t, dir, Options{})
	again()
	if info, err := trees.Info("x"); err != nil || len(info.Generations) != 1 || info.Generations[0].Unchanged || len(l.switches) != 1 {
		t.Errorf("%+v, %v, %d commits", info, err, len(l.switches))
	}
	f, err := trees.Lookup("x", "empty")
	if err != nil {
		t.Fatal(err)
	}
	if when := f.Info.ModTime().Unix(); when != 1000 {
		t.Errorf("modified %d", when)
	}
	_ = f.Close()

	for i, c := range []contents{
		with(first, contents{"latest": "@Packages/common-1.rpm"}),
		with(first, contents{"empty": "no more"}),
		with(first, contents{"more": ""}),
		without(first, "empty"),
		with(without(first, "empty"), contents{"void": ""}),
		first,
	} {
		if s := publish(t, trees, "x", 1000, c, l); s.Unchanged || s.Generation.ID != int64(i+2) || len(l.switches) != i+2 {
			t.Errorf("%d: %+v", i, s)
		}
	}
	again() // it was the answer then
	// Rolling back to the same content is no change either.
	if s, err := trees.Rollback(t.Context(), "x", 1, l.commit); err != nil || !s.Unchanged || s.Generation.ID != 7 {
		t.Errorf("%+v, %v", s, err)
	}
	// Another tree knows nothing of this one.
	if s := publish(t, trees, "y", 1000, first, l); s.Unchanged || s.Generation.ID != 1 {
		t.Errorf("%+v", s)
	}
	for range 3 * maxRepeats {
		publish(t, trees, "y", 1000, first, l)
	}
	if n := len(trees.lookup("y").records()[0].Repeats); n != maxRepeats {
		t.Errorf("%d pushes are remembered", n)
	}
}

// TestUnchangedFails makes the n-th change to the disk fail, for n = 1, 2, …
// until the publish of an unchanged tree succeeds, and goes on in the same
// process or in the next one.
func TestUnchangedFails(t *testing.T) {
	t.Parallel()
	base := quickDir(t)
	for n := 1; ; n++ {
		dir := filepath.Join(base, strconv.Itoa(n))
		trees := begin(t, dir, Options{})
		l := new(ledger)
		publish(t, trees, "x", 1000, first, l)
		push, err := trees.Begin(t.Context(), "x", first.files(2000))
		if err != nil {
			t.Fatal(err)
		}
		fault := countdown(n, func() error { return syscall.EIO })
		trees.dir.Fault, trees.blobs.Fault, trees.incoming.Fault = fault, fault, fault
		s, failed := trees.Publish(t.Context(), push.ID, l.commit)
		if failed == nil && (!s.Unchanged || n < 5) {
			t.Errorf("step %d: %+v", n, s)
		}
		trees.dir.Fault, trees.blobs.Fault, trees.incoming.Fault = nil, nil, nil
		if n%2 == 0 {
			if err := trees.Close(); err != nil {
				t.Fatal(err)
			}
			trees = begin(t, dir, Options{})
		}
		if s, err := trees.Publish(t.Context(), push.ID, l.commit); err != nil || !s.Unchanged || s.Generation.ID != 1 || len(l.switches) != 1 {
			t.Errorf("step %d: again: %+v, %v, %d commits", n, s, err, len(l.switches))
		}
		equal(t, current(t, dir, "x"), first)
		for _, name := range all(t, dir) {
			if strings.HasPrefix(name, "pushes/") || strings.Contains(name, "generations/2") || strings.HasSuffix(name, "intent.json") {
				t.Errorf("step %d: in the end there is %s", n, name)
			}
		}
		if failed == nil {
			return
		}
	}
}
