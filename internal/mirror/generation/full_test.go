package generation_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"freshet/internal/disktest"
	"freshet/internal/durable"
	"freshet/internal/mirror/generation"
)

// large is a release that takes some room.
func large(n int) map[string]string {
	files := release(n)
	for i := range 8 {
		files[fmt.Sprintf("large/%d-%d", n, i)] = strings.Repeat(fmt.Sprintf("%d %d\n", n, i), 32<<10)
	}
	return files
}

// On a disk without a free byte or inode a sync fails and changes nothing; old generations
// can be dropped, and a whole project; and then a sync works again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for what, fill := range map[string]func(d *disktest.Disk) func(){
		"bytes":  func(d *disktest.Disk) func() { return d.Fill(0) },
		"inodes": func(d *disktest.Disk) func() { return d.FillInodes(0) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			disk := disktest.New(t, 64<<20, 3000)
			dir := disk.Path + "/mirror"
			s := open(t, dir)
			p := project(t, s)
			for n := 1; n <= 3; n++ {
				if err := syncTo(t.Context(), p, large(n)); err != nil {
					t.Fatal(err)
				}
			}
			empty := fill(disk)
			if err := syncTo(t.Context(), p, large(4)); !durable.IsNoSpace(err) {
				t.Fatal(err)
			}
			if g := p.Current(); g.ID() != "000003" {
				t.Fatal(g.ID())
			}
			// The next start finds the same disk.
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
			p = project(t, s)
			if _, err := p.DropStaged(t.Context()); err != nil {
				t.Error(err)
			}
			fill(disk)
			before, inodes := disk.Free()
			for _, id := range []string{"000001", "000002"} {
				if err := p.Drop(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			if after, more := disk.Free(); after <= before || more <= inodes {
				t.Errorf("%d bytes and %d inodes are free, %d and %d were", after, more, before, inodes)
			}
			fill(disk)
			ended, err := p.Drain(t.Context())
			if err != nil || len(ended) != 1 || p.Current() != nil {
				t.Fatal(ended, err)
			}
			empty()
			if since, drained := p.Drained(); !drained || time.Since(since) > time.Hour {
				t.Error(since, drained)
			}
			if err := syncTo(t.Context(), p, large(5)); err != nil {
				t.Fatal(err)
			}
			if _, drained := p.Drained(); drained || p.Current().ID() != "000004" {
				t.Error(p.Current().ID(), drained)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A drain that is interrupted at any step is completed by the next start, or has not begun.
func TestDrainInterrupted(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		dir, steps, counting := t.TempDir(), 0, false
		s, err := generation.Open(t.Context(), dir, generation.Options{UnlinksPerSecond: 1 << 20, Fault: func(string, string) error {
			if counting {
				if steps++; steps >= n {
					return errFault
				}
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		p := project(t, s)
		for i := 1; i <= 3; i++ {
			if err := syncTo(t.Context(), p, release(i)); err != nil {
				t.Fatal(err)
			}
		}
		counting = true
		_, err = p.Drain(t.Context())
		if _, drained := p.Drained(); err == nil && !drained {
			t.Error("it is not noted")
		}
		if closed := s.Close(); closed != nil {
			t.Fatal(closed)
		}
		s = open(t, dir)
		p = project(t, s)
		if _, drained := p.Drained(); drained == (p.Current() != nil) {
			t.Errorf("step %d: drained %t, and %v is served", n, drained, p.Current())
		} else if !drained {
			wholeRelease(t, p)
		}
		if err := syncTo(t.Context(), p, release(4)); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		if id := p.Current().ID(); id != "000004" {
			t.Errorf("step %d: generation %s", n, id)
		}
		tidy(t, dir, p)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if steps < n {
			return
		}
	}
}

// What an interrupted sync has fetched can be dropped, unless a sync is under way.
func TestDropStaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := project(t, open(t, dir))
	if err := syncTo(t.Context(), p, release(1)); err != nil {
		t.Fatal(err)
	}
	st, err := p.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, data := content("new", "new")
	if err := fetch(st, f, data); err != nil {
		t.Fatal(err)
	}
	if dropped, err := p.DropStaged(t.Context()); dropped || err != nil {
		t.Error(dropped, err)
	}
	if _, err := p.Drain(t.Context()); !errors.Is(err, generation.ErrBusy) {
		t.Error(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if dropped, err := p.DropStaged(t.Context()); !dropped || err != nil {
		t.Error(dropped, err)
	}
	if dropped, err := p.DropStaged(t.Context()); dropped || err != nil {
		t.Error("twice:", dropped, err)
	}
	if err := syncTo(t.Context(), p, release(2)); err != nil {
		t.Fatal(err)
	}
	tidy(t, dir, p)
}
