package inventory_test

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"
	"time"

	"freshet/internal/inventory"

	"pgregory.net/rapid"
)

// listed yields entries and no error.
func listed(entries ...inventory.Entry) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// world is what an inventory should know, in the simplest form: per holder and path what
// it said last.
type world map[inventory.Holder]map[string]inventory.Entry

// holding returns the mirrors whose file of a path can be e.
func (w world) holding(e inventory.Entry) inventory.Set {
	var s inventory.Set
	for h, files := range w {
		if f, ok := files[e.Path]; ok && h != inventory.Origin && f.Size == e.Size && agree(f.SHA256, e.SHA256) {
			s = s.With(h)
		}
	}
	return s
}

func agree(a, b [32]byte) bool { return a == b || a == [32]byte{} || b == [32]byte{} }

// Whatever is said in whatever order, the tree knows what a list would, and the same
// after it has been written and read.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, v := make(world), new(inventory.Inventory)
		tree := v.Project("p")
		now := time.Unix(1_700_000_000, 0)
		// Hashes go with lengths here: whether a hash that only a mirror tells is to
		// be believed has tests of its own.
		entry := rapid.Custom(func(t *rapid.T) inventory.Entry {
			e := inventory.Entry{
				Path:    rapid.SampledFrom([]string{"", "a/", "a/b/", "a/c/", "d/"}).Draw(t, "folder") + fmt.Sprintf("f%03d", rapid.IntRange(0, 700).Draw(t, "file")),
				Size:    rapid.Int64Range(0, 2).Draw(t, "size"),
				ModTime: now.Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "time")) * time.Hour),
			}
			if rapid.Bool().Draw(t, "hashed") {
				e.SHA256[0] = byte(e.Size + 1)
			}
			return e
		})
		for range rapid.IntRange(1, 8).Draw(t, "updates") {
			h := inventory.Holder(rapid.Uint16Range(0, 3).Draw(t, "holder"))
			entries := rapid.SliceOfNDistinct(entry, 0, 900, func(e inventory.Entry) string { return e.Path }).Draw(t, "entries")
			if rapid.Bool().Draw(t, "sorted") {
				slices.SortFunc(entries, func(a, b inventory.Entry) int { return cmp.Compare(a.Path, b.Path) })
			}
			now = now.Add(time.Minute)
			var change inventory.Change
			var err error
			switch rapid.SampledFrom([]string{"replace", "replace", "apply", "drop"}).Draw(t, "what") {
			case "replace":
				change, err = tree.Replace(h, inventory.Listing{At: now, Entries: listed(entries...)})
				if errors.Is(err, inventory.ErrShrunk) {
					change, err = tree.Replace(h, inventory.Listing{At: now, Entries: listed(entries...)})
				}
				w[h] = make(map[string]inventory.Entry)
				for _, e := range entries {
					w[h][e.Path] = e
				}
			case "apply":
				w[h] = maps.Clone(w[h])
				if w[h] == nil {
					w[h] = make(map[string]inventory.Entry)
				}
				for i, e := range entries {
					if entries[i].Gone = i%2 == 1; entries[i].Gone {
						delete(w[h], e.Path)
					} else {
						w[h][e.Path] = e
					}
				}
				change, err = tree.Apply(h, inventory.Delta{At: now, Entries: listed(entries...)})
			default:
				tree.Drop(h)
				delete(w, h)
			}
			if err != nil {
				t.Fatal(err)
			}
			if s := tree.View().Standing(h); s.Files != len(w[h]) || change.Files != len(w[h]) {
				t.Fatalf("holder %d has %d files: %+v, %+v", h, len(w[h]), s, change)
			}
		}
		check(t, tree.View(), w)
	})
}

func check(t *rapid.T, v inventory.View, w world) {
	n := 0
	for path, f := range v.Files("") {
		n++
		if e, ok := w[inventory.Origin][path]; !ok || e.Size != f.Size || !e.ModTime.Equal(f.ModTime) {
			t.Fatalf("%s is %+v and not %+v", path, f, e)
		}
		if found, ok := v.Find(path); !ok || found != f {
			t.Fatalf("%s is found as %+v and not %+v", path, found, f)
		}
	}
	if n != len(w[inventory.Origin]) || n != v.Len() {
		t.Fatalf("the origin has %d files, not %d or %d", len(w[inventory.Origin]), n, v.Len())
	}
	for _, files := range w {
		for path, e := range files {
			if got, want := v.Held(e), w.holding(e); got != want {
				t.Fatalf("%s of %d bytes is held by %v, not %v", path, e.Size, slices.Collect(got.All()), slices.Collect(want.All()))
			}
			_, current := w[inventory.Origin][path]
			if _, ok := v.Find(path); ok != current {
				t.Fatalf("%s is found: %t", path, ok)
			}
		}
	}
	for _, prefix := range []string{"", "a/", "a/b/"} {
		want, some := inventory.SetOf(1, 2, 3), false
		for path, e := range w[inventory.Origin] {
			if len(path) >= len(prefix) && path[:len(prefix)] == prefix && path[len(path)-1] != '7' {
				want, some = want.And(w.holding(e)), true
			}
		}
		if !some {
			want = inventory.Set{}
		}
		if got := v.Covers(prefix, func(path string) bool { return path[len(path)-1] != '7' }); got != want {
			t.Fatalf("%q is covered by %v, not %v", prefix, slices.Collect(got.All()), slices.Collect(want.All()))
		}
	}
}
