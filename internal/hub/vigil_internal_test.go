package hub

import (
	"testing"
	"time"

	"freshet/internal/hub/catalog"
)

func TestVigil(t *testing.T) {
	t.Parallel()
	var v vigil
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	alive, dead := int64(1), int64(7)
	look := func(after time.Duration) []catalog.Member {
		now = now.Add(after)
		alive++
		return v.gone(now, []catalog.Member{{Name: "a", Boot: "A", Beat: alive}, {Name: "b", Boot: "B", Beat: dead}})
	}
	quiet := func(after time.Duration) {
		t.Helper()
		if gone := look(after); len(gone) > 0 {
			t.Errorf("gone: %+v", gone)
		}
	}
	quiet(0)
	for range 4 {
		quiet(beatPause)
	}
	if gone := look(beatPause); len(gone) != 1 || gone[0].Name != "b" {
		t.Fatalf("after %v gone: %+v", deadAfter, gone)
	}
	// A sign of life, and all begins anew.
	dead++
	for range 5 {
		quiet(beatPause)
	}
	// Who was away itself has to watch for the whole time again.
	quiet(maxBeatGap + 1)
	for range 4 {
		quiet(beatPause)
	}
	if gone := look(beatPause); len(gone) != 1 {
		t.Errorf("gone: %+v", gone)
	}
	// A new life under the same name is another member.
	if gone := v.gone(now.Add(beatPause), []catalog.Member{{Name: "b", Boot: "B2", Beat: dead}}); len(gone) > 0 {
		t.Errorf("gone: %+v", gone)
	}
}
