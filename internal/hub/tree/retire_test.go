package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestGraceAndRetirement(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	synctest.Test(t, func(t *testing.T) {
		trees := begin(t, dir, Options{
			Grace:   func(tree string) time.Duration { return map[string]time.Duration{"x": time.Hour}[tree] },
			PushTTL: 30 * time.Minute,
		})
		l := new(ledger)
		publish(t, trees, "x", 1, first, l)
		publish(t, trees, "x", 2, second, l)
		forgotten, err := trees.Begin(t.Context(), "x", contents{"only": "forgotten"}.files(1))
		if err != nil {
			t.Fatal(err)
		}
		if err := upload(trees, contents{"only": "forgotten"}, forgotten); err != nil {
			t.Fatal(err)
		}
		open, err := trees.Lookup("x", "Packages/hello-1.rpm")
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()

		time.Sleep(59 * time.Minute)
		r, err := trees.Retire(t.Context())
		equal(t, r, Retired{Pushes: 1})
		if err != nil {
			t.Error(err)
		}
		if got := read(t, trees, "x", "Packages/hello-1.rpm"); got != "hello one" {
			t.Errorf("within grace: %q", got)
		}
		if _, err := trees.Push(t.Context(), forgotten.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("the forgotten push: %v", err)
		}
		// Whoever announces a content that is about to go, keeps it.
		saved := contents{"saved": "hello one"}
		push, err := trees.Begin(t.Context(), "y", saved.files(1))
		if err != nil || len(push.Missing) != 0 {
			t.Fatalf("%+v, %v", push, err)
		}

		time.Sleep(time.Minute)
		if got := read(t, trees, "x", "Packages/hello-1.rpm"); got != "(none)" {
			t.Errorf("after grace: %q", got)
		}
		r, err = trees.Retire(t.Context())
		if err != nil {
			t.Error(err)
		}
		equal(t, r, Retired{Generations: 1, Blobs: 3, Bytes: int64(len(first["repodata/repomd.xml"]) + len(primaryOne))})
		if data, err := io.ReadAll(open); err != nil || string(data) != "hello one" {
			t.Errorf("a file that was open: %q, %v", data, err)
		}
		if _, err := trees.Publish(t.Context(), push.ID, l.commit); err != nil {
			t.Error(err)
		}
		equal(t, current(t, dir, "y"), saved)
		equal(t, current(t, dir, "x"), second)

		blobs := 0
		for _, name := range all(t, dir) {
			if strings.HasPrefix(name, "blobs/") {
				blobs++
			}
			if strings.HasPrefix(name, "trees/x/generations/1") || strings.HasPrefix(name, "incoming/") {
				t.Errorf("left behind: %s", name)
			}
		}
		if blobs != 5 {
			t.Errorf("%d blobs", blobs)
		}
		// What a crash left, the next start finds.
		orphan := sum("orphan")
		if err := os.MkdirAll(filepath.Join(dir, "blobs", orphan[:2]), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "blobs", blobPath(orphan)), []byte("orphan"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := trees.Close(); err != nil {
			t.Fatal(err)
		}
		trees = begin(t, dir, Options{})
		r, err = trees.Retire(t.Context())
		if err != nil {
			t.Error(err)
		}
		equal(t, r, Retired{Blobs: 1, Bytes: 6})
	})
}

// TestConcurrent pushes, publishes, reads and retires at the same time.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	trees := begin(t, dir, Options{Grace: func(string) time.Duration { return time.Millisecond }})
	l := new(ledger)
	done := make(chan struct{})
	var background, pushers sync.WaitGroup
	background.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := trees.Retire(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	background.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			for _, tree := range trees.Names() {
				if got := read(t, trees, tree, "shared"); got != "shared by all" {
					t.Errorf("%s: %q", tree, got)
				}
				// A pointer leads to what it names, within grace or anew.
				if v := read(t, trees, tree, "x.db"); len(v) != 4 {
					t.Errorf("%s: pointer %q", tree, v)
				}
			}
		}
	})
	for w := range 4 {
		pushers.Go(func() {
			for n := range 12 {
				v := fmt.Sprintf("%d-%02d", w, n)
				c := contents{"x.db": v, "shared": "shared by all", "d/" + v + ".rpm": v, "every third": fmt.Sprint(n % 3)}
				publish(t, trees, fmt.Sprintf("tree%d", w%2), int64(n), c, l)
			}
		})
	}
	pushers.Wait()
	close(done)
	background.Wait()
	for _, tree := range trees.Names() {
		info, err := trees.Info(tree)
		if err != nil || info.Current != 24 {
			t.Errorf("%s: %+v, %v", tree, info, err)
		}
		v := read(t, trees, tree, "x.db")
		equal(t, current(t, dir, tree), contents{
			"x.db": v, "shared": "shared by all", "d/" + v + ".rpm": v, "every third": read(t, trees, tree, "every third"),
		})
	}
	if len(l.switches) != 48 || len(trees.wanted) != 0 || len(trees.pushes) != 0 {
		t.Errorf("%d switches; wanted %v, pushes %v", len(l.switches), trees.wanted, trees.pushes)
	}
}
