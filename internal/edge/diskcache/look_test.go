package diskcache

import (
	"io"
	"slices"
	"testing"

	"freshet/internal/edge/diskcache/index"
)

// often returns an entry that was looked at so often that one look more is not
// counted, and the last look.
func often(t *testing.T, s *Store, n int) (*Entry, *Sight) {
	t.Helper()
	e := s.Get(idOf(n))
	var seen *Sight
	for uses := range index.MaxUses + 1 {
		if s.Unchanged(seen) != (uses == index.MaxUses) { // Get was one
			t.Fatalf("after %d uses: unchanged %t", uses, s.Unchanged(seen))
		}
		if seen = e.Look(); seen == nil {
			t.Fatalf("entry %d is not current", n)
		}
	}
	if !s.Unchanged(seen) {
		t.Fatal("a look that was repeated is to be repeated again")
	}
	return e, seen
}

func TestLookSeesEveryChange(t *testing.T) {
	s := open(t, t.TempDir(), 16<<20)
	for n := range 8 {
		put(t, s, n, "body")
	}
	for _, c := range []struct {
		name   string
		n      int
		change func(e *Entry)
		want   State // zero: not current
	}{
		{"mark", 0, func(e *Entry) { e.Mark(func(st *State) { st.Flags = 7 }) }, func() State { st := stateOf(); st.Flags = 7; return st }()},
		{"raising ban", 3, func(*Entry) { s.Ban(Ban{Site: "site", Prefix: "/3", Flags: 2}) }, func() State { st := stateOf(); st.Flags |= 2; return st }()},
		{"dropping ban", 4, func(*Entry) { s.Ban(Ban{Site: "site", Prefix: "/4", Fixed: true, Drop: true}) }, State{}},
		{"replaced", 5, func(*Entry) { put(t, s, 5, "newer") }, State{}},
		{"deleted", 6, func(e *Entry) { s.Delete(e) }, State{}},
		{"filtered", 7, func(*Entry) {
			for shard := range index.Shards {
				s.index.Filter(shard, func(index.Item) bool { return false })
			}
		}, State{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, seen := often(t, s, c.n)
			c.change(e)
			if s.Unchanged(seen) {
				t.Fatal("unchanged")
			}
			for range index.MaxUses + 2 {
				var st State
				if seen := e.Look(); seen != nil {
					st = seen.State
				}
				if st != c.want {
					t.Fatalf("got %+v, want %+v", st, c.want)
				}
			}
		})
	}
}

// TestLooksAreUses: who is only looked at stays when something has to go.
func TestLooksAreUses(t *testing.T) {
	const size = 16 << 20
	s := open(t, t.TempDir(), size)
	put(t, s, 0, "body")
	e, seen := often(t, s, 0)
	body := string(slices.Repeat([]byte("x"), 10_000))
	for n := 1; n <= 5*size/len(body); n++ {
		w, err := s.Create(idOf(n), metaOf(n), int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(stateOf()); err != nil {
			t.Fatal(err)
		}
		if s.Unchanged(seen) {
			continue
		}
		if seen = e.Look(); seen == nil { // moved, or gone
			if e = s.Get(idOf(0)); e == nil {
				t.Fatalf("gone after %d others", n)
			}
		}
	}
}
