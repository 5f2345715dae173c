package inventory_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
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

// world is what an inventory should know, in the simplest form: by the name of a holder,
// "" for the origin, and by path, what it said last.
type world map[string]map[string]inventory.Entry

// holding returns the mirrors whose file of a path can be e.
func (w world) holding(v *inventory.Inventory, e inventory.Entry) inventory.Set {
	var s inventory.Set
	for name, files := range w {
		if f, ok := files[e.Path]; ok && name != "" && f.Size == e.Size && agree(f.SHA256, e.SHA256) {
			h, _ := v.Lookup(name)
			s = s.With(h)
		}
	}
	return s
}

// listing returns entries for a holder: what it has or what the origin has, with
// changes, and in some order.
func (w world) listing(t *rapid.T, name string, now time.Time) []inventory.Entry {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	files := maps.Clone(w[rapid.SampledFrom([]string{name, "", "nobody"}).Draw(t, "like")])
	if files == nil {
		files = make(map[string]inventory.Entry)
	}
	for range rapid.SampledFrom([]int{0, 1, 3, 100, 1200}).Draw(t, "changes") {
		e := inventory.Entry{
			Path:    []string{"", "a/", "a/b/", "a/c/", "d/"}[random.IntN(5)] + fmt.Sprintf("f%03d", random.IntN(700)),
			Size:    random.Int64N(3),
			ModTime: now.Add(time.Duration(random.IntN(2)) * time.Hour),
		}
		// Hashes go with lengths here: whether one that only a mirror tells is
		// believed has a test of its own.
		if random.IntN(2) == 0 {
			e.SHA256[0] = byte(e.Size + 1)
		}
		if files[e.Path] = e; random.IntN(3) == 0 {
			delete(files, e.Path)
		}
	}
	entries := slices.SortedFunc(maps.Values(files), func(a, b inventory.Entry) int { return cmp.Compare(a.Path, b.Path) })
	if !rapid.Bool().Draw(t, "sorted") {
		random.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	}
	return entries
}

func agree(a, b [32]byte) bool { return a == b || a == [32]byte{} || b == [32]byte{} }

// Whatever is said in whatever order, the tree knows what a list would, and the same
// after it has been written and read.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, v := make(world), new(inventory.Inventory)
		tree := v.Project("p")
		now := time.Unix(1_700_000_000, 0)
		for range rapid.IntRange(1, 8).Draw(t, "updates") {
			name := rapid.SampledFrom([]string{"", "x", "b", "a"}).Draw(t, "holder")
			h, err := v.Holder(name)
			if err != nil {
				t.Fatal(err)
			}
			entries := w.listing(t, name, now)
			now = now.Add(time.Minute)
			var change inventory.Change
			switch rapid.SampledFrom([]string{"replace", "replace", "apply", "drop"}).Draw(t, "what") {
			case "replace":
				change, err = tree.Replace(h, inventory.Listing{At: now, Entries: listed(entries...)})
				if errors.Is(err, inventory.ErrShrunk) {
					change, err = tree.Replace(h, inventory.Listing{At: now, Entries: listed(entries...)})
				}
				w[name] = make(map[string]inventory.Entry)
				for _, e := range entries {
					w[name][e.Path] = e
				}
			case "apply":
				w[name] = maps.Clone(w[name])
				if w[name] == nil {
					w[name] = make(map[string]inventory.Entry)
				}
				for i, e := range entries {
					if entries[i].Gone = i%2 == 1; entries[i].Gone {
						delete(w[name], e.Path)
					} else {
						w[name][e.Path] = e
					}
				}
				change, err = tree.Apply(h, inventory.Delta{At: now, Entries: listed(entries...)})
			default:
				tree.Drop(h)
				delete(w, name)
			}
			if err != nil {
				t.Fatal(err)
			}
			if s := tree.View().Standing(h); s.Files != len(w[name]) || change.Files != len(w[name]) {
				t.Fatalf("holder %d has %d files: %+v, %+v", h, len(w[name]), s, change)
			}
		}
		check(t, v, w)
		check(t, reread(t, v), w)
	})
}

// reread writes an inventory and reads it, twice.
func reread(t *rapid.T, v *inventory.Inventory) *inventory.Inventory {
	var first, second bytes.Buffer
	if err := v.Write(&first); err != nil {
		t.Fatal(err)
	}
	read, err := inventory.Read(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := read.Write(&second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatalf("what was read is written as %d bytes in the place of %d: %v", second.Len(), first.Len(), err)
	}
	return read
}

func check(t *rapid.T, known *inventory.Inventory, w world) {
	v := known.Project("p").View()
	n := 0
	for path, f := range v.Files("") {
		n++
		if e, ok := w[""][path]; !ok || e.Size != f.Size || !e.ModTime.Equal(f.ModTime) {
			t.Fatalf("%s is %+v and not %+v", path, f, e)
		}
		if found, ok := v.Find(path); !ok || found != f {
			t.Fatalf("%s is found as %+v and not %+v", path, found, f)
		}
	}
	if n != len(w[""]) || n != v.Len() {
		t.Fatalf("the origin has %d files, not %d or %d", len(w[""]), n, v.Len())
	}
	for _, files := range w {
		for path, e := range files {
			if got, want := v.Held(e), w.holding(known, e); got != want {
				t.Fatalf("%s of %d bytes is held by %v, not %v", path, e.Size, slices.Collect(got.All()), slices.Collect(want.All()))
			}
			_, current := w[""][path]
			if _, ok := v.Find(path); ok != current {
				t.Fatalf("%s is found: %t", path, ok)
			}
		}
	}
	for _, prefix := range []string{"", "a/", "a/b/"} {
		want, some := everybody(v), false
		for path, e := range w[""] {
			if len(path) >= len(prefix) && path[:len(prefix)] == prefix && path[len(path)-1] != '7' {
				want, some = want.And(w.holding(known, e)), true
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

func everybody(v inventory.View) inventory.Set {
	var s inventory.Set
	for h := range v.Standings() {
		if h != inventory.Origin {
			s = s.With(h)
		}
	}
	return s
}
