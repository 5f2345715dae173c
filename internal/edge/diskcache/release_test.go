package diskcache

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// A store that is released can be opened by another at once, with all that was written. Here
// nothing is found any more, and nothing changes there; what was begun can be read to its end.
func TestRelease(t *testing.T) {
	dir := t.TempDir()
	old := open(t, dir, 64<<20)
	long := strings.Repeat("long body ", 100_000)
	big, small := put(t, old, 1, long), put(t, old, 2, "short")
	body, err := big.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	late, err := old.Create(idOf(3), metaOf(3), int64(len(long)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(late, long[:500_000]); err != nil {
		t.Fatal(err)
	}
	if err := old.Release(); err != nil {
		t.Fatal(err)
	}
	now := open(t, dir, 64<<20)
	if old.Get(big.ID()) != nil || old.Get(small.ID()) != nil {
		t.Error("something is found in a store that was released")
	}
	if !errors.Is(old.Err(), ErrReleased) || old.Alert() != nil {
		t.Errorf("it says %v, %v", old.Err(), old.Alert())
	}
	if _, err := old.Create(idOf(4), metaOf(4), 5); !errors.Is(err, ErrUnavailable) {
		t.Errorf("something is stored: %v", err)
	}
	if err := old.Sync(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("synced: %v", err)
	}
	before := now.Get(small.ID()).State()
	small.Mark(func(st *State) { st.Flags = 1 })
	old.Delete(big)
	old.removeFile(bigName(big.id, big.num))
	if st := now.Get(small.ID()).State(); st != before {
		t.Errorf("a state was changed from outside: %v, was %v", st, before)
	}
	if content(t, now.Get(big.ID())) != long || content(t, now.Get(small.ID())) != "short" {
		t.Error("what was stored is not in the store")
	}
	if got, err := io.ReadAll(io.NewSectionReader(body, 0, int64(len(long)))); err != nil || string(got) != long {
		t.Errorf("a body that was open: %d bytes, %v", len(got), err)
	}
	// The fetch that was under way goes on for those who read along.
	if _, err := io.WriteString(late, long[500_000:]); err != nil {
		t.Fatal(err)
	}
	entry, err := late.Commit(stateOf())
	if err != nil {
		t.Fatal(err)
	}
	if now.Get(entry.ID()) != nil {
		t.Error("what came late is in the store")
	}
	if content(t, entry) != long {
		t.Error("what came late cannot be read")
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	put(t, now, 5, long)
	if content(t, now.Get(small.ID())) != "short" || content(t, now.Get(idOf(5))) != long {
		t.Error("the store does not work")
	}
	// A start that follows finds the same.
	if err := now.Close(); err != nil {
		t.Error(err)
	}
	next := open(t, dir, 64<<20)
	if content(t, next.Get(big.ID())) != long || content(t, next.Get(idOf(5))) != long {
		t.Error("the store is not whole at its next start")
	}
}
