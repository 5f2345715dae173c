package diskcache

import (
	"path/filepath"
	"testing"
	"testing/synctest"
)

// A mark on an entry that is not yet safe on the disk is also on the one it
// replaces: after a crash that one comes back.
func TestMarkReachesTheReplacedEntry(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // the committer waits in fake time, so nothing is committed unasked
		store, err := Open(t.Context(), dir, Options{Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		id := ID{1}
		put := func(body string) *Entry {
			w, err := store.Create(id, &Meta{Key: "k", Path: "/k"}, int64(len(body)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(body)); err != nil {
				t.Fatal(err)
			}
			e, err := w.Commit(State{})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		first := put("old")
		old := filepath.Join(dir, first.finalName())
		store.commit.stop() // the first one is safe
		store.commit = committer{}
		store.commit.start(store)

		second := put("new")
		second.Mark(func(s *State) { s.Flags |= 4 })
		if err := second.Save(); err != nil {
			t.Fatal(err)
		}
		onDisk, err := store.readFile("obj/01/" + filepath.Base(old))
		if err != nil {
			t.Fatalf("the replaced entry is gone before the new one is safe: %v", err)
		}
		if onDisk.State().Flags != 4 {
			t.Errorf("flags of the replaced entry on disk are %d, want 4", onDisk.State().Flags)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
