package diskcache

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"testing"
	"time"
)

// tagged makes a key of each word of the field Tags.
func tagged(m *Meta) []Key {
	var keys []Key
	for tag := range strings.FieldsSeq(m.Header.Get("Tags")) {
		keys = append(keys, tagKey(tag))
	}
	return keys
}

func tagKey(tag string) Key {
	h := fnv.New64a()
	_, _ = io.WriteString(h, tag)
	return Key(h.Sum64())
}

func nameID(name string) ID {
	sum := sha256.Sum256([]byte(name))
	return ID(sum[:16])
}

func openTagged(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), dir, Options{Size: 64 << 20, Keys: tagged})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func putTagged(t *testing.T, s *Store, name, tags string, fixed bool) ID {
	t.Helper()
	id := nameID(name)
	w, err := s.Create(id, &Meta{Key: name, Path: "/" + name, Status: 200, Fixed: fixed, Header: map[string][]string{"Tags": {tags}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(State{Validated: time.Now(), Lifetime: time.Hour}); err != nil {
		t.Fatal(err)
	}
	return id
}

// raised tells of entries which are flagged, and which are gone ("-").
func raised(s *Store, names ...string) string {
	var out []string
	for _, name := range names {
		switch e := s.Get(nameID(name)); {
		case e == nil:
			out = append(out, "-")
		case e.State().Flags != 0:
			out = append(out, name)
		default:
			out = append(out, "")
		}
	}
	return strings.Join(out, ",")
}

// A ban by keys meets what has one of them and was there before, fixed or not;
// it survives a restart, also through a checkpoint.
func TestBanByKey(t *testing.T) {
	dir := t.TempDir()
	s := openTagged(t, dir)
	putTagged(t, s, "a", "red green", false)
	putTagged(t, s, "b", "blue", true)
	putTagged(t, s, "c", "green", true)
	putTagged(t, s, "d", "", false)
	s.Ban(Ban{Keys: []Key{tagKey("green"), tagKey("white")}, Flags: 4})
	s.Ban(Ban{Keys: []Key{tagKey("blue")}, Drop: true})
	putTagged(t, s, "e", "green", false)
	check := func(when string) {
		t.Helper()
		if got := raised(s, "a", "b", "c", "d", "e"); got != "a,-,c,," {
			t.Errorf("%s: banned are %s", when, got)
		}
	}
	check("at once")
	for _, how := range []string{"from the log", "from a checkpoint"} {
		if how == "from a checkpoint" {
			if err := s.checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openTagged(t, dir)
		check(how)
	}
	// What is banned does not come back by a new state or by new fields.
	s.Ban(Ban{Keys: []Key{tagKey("")}, Flags: 1}) // a key of nothing
	held := s.Get(nameID("c"))
	s.Ban(Ban{Keys: []Key{tagKey("green")}, Drop: true})
	if !held.Dropped() {
		t.Error("a dropped entry may be used by its holder")
	}
	held.Mark(func(st *State) { st.Flags = 0 })
	if got := raised(s, "a", "b", "c", "d", "e"); got != "-,-,-,,-" {
		t.Errorf("after the second ban: %s", got)
	}
	putTagged(t, s, "f", "grey", false)
	held = s.Get(nameID("f"))
	s.Ban(Ban{Keys: []Key{tagKey("grey")}, Drop: true})
	held.Freshen(held.Meta(), State{Validated: time.Now()})
	if s.Get(nameID("f")) != nil {
		t.Error("a dropped entry came back with new fields")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// After a sweep the bans are gone and what they said is done; what is on its
// way since an earlier epoch keeps those it may meet.
func TestSweepForgetsBans(t *testing.T) {
	dir := t.TempDir()
	held := ^uint64(0)
	s, err := Open(t.Context(), dir, Options{Size: 64 << 20, Keys: tagged, Held: func() uint64 { return held }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		putTagged(t, s, fmt.Sprint("n", i), fmt.Sprint("tag", i%10), i%2 == 0)
	}
	asked := s.Epoch()
	for i := range 5 {
		s.Ban(Ban{Keys: []Key{tagKey(fmt.Sprint("tag", i))}, Flags: 2, Drop: i == 4})
	}
	s.Ban(Ban{All: true, Prefix: "/n7", Fixed: true, Flags: 8})
	held = asked
	if err := s.sweepBans(); err != nil {
		t.Fatal(err)
	}
	if n := s.Bans(); n != 6 {
		t.Errorf("%d bans are left while an old epoch is held, want 6", n)
	}
	if st, drop := s.Since(asked, State{}, &Meta{Header: map[string][]string{"Tags": {"tag4 tag1"}}}); st.Flags != 2 || !drop {
		t.Errorf("what was on its way is %v, %v", st, drop)
	}
	held = ^uint64(0)
	if err := s.sweepBans(); err != nil {
		t.Fatal(err)
	}
	if n := s.Bans(); n != 0 {
		t.Errorf("%d bans are left", n)
	}
	check := func(when string) {
		t.Helper()
		for i := range 2000 {
			var want uint32
			if i%10 < 4 {
				want = 2
			}
			if strings.HasPrefix(fmt.Sprint(i), "7") {
				want |= 8
			}
			e := s.Peek(nameID(fmt.Sprint("n", i)))
			switch {
			case i%10 == 4 && e != nil:
				t.Fatalf("%s: entry %d was dropped and is there", when, i)
			case i%10 != 4 && (e == nil || e.State().Flags != want):
				t.Fatalf("%s: entry %d is %v, want flags %d", when, i, e, want)
			}
		}
	}
	check("after the sweep")
	if err := s.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTagged(t, dir)
	if n := s.Bans(); n != 0 {
		t.Errorf("%d bans came back", n)
	}
	check("after a restart")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// More banned keys than are kept become one ban of everything.
func TestTooManyKeys(t *testing.T) {
	b := bans{keysOf: tagged}
	for i := range maxKeyed + 1 {
		b.addLocked(Ban{Keys: []Key{Key(i)}, Flags: 1, Epoch: uint64(i + 1)})
	}
	if len(b.keyed) != 0 || len(b.list) != 1 {
		t.Fatalf("%d keys, %d others", len(b.keyed), len(b.list))
	}
	if st, drop := b.apply(State{}, maxKeyed, &Meta{}); st.Flags != 1 || drop {
		t.Errorf("an older entry is %v, %v", st, drop)
	}
	if st, _ := b.apply(State{}, maxKeyed+1, &Meta{}); st.Flags != 0 {
		t.Errorf("a newer entry is %v", st)
	}
}
