package upkeep_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"freshet/internal/hub/upkeep"
	"freshet/internal/ostree"
)

// TestScrub: a scrub finds and repairs what is damaged, keeps to its budget, and
// goes on where it was.
func TestScrub(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publish("org.example.A", "1")
	source := h.copyOf()
	name := needed(h, h.objects(ostree.TypeFile))
	write(t, h.path(name.Path()), read(t, h.path(name.Path()))[:20])
	var cancel context.CancelFunc
	var found []upkeep.Problem
	folders := 0
	var last upkeep.ScrubState
	opt := upkeep.ScrubOptions{
		Rate: 64 << 20, Repair: []upkeep.Source{source},
		Found: func(p upkeep.Problem) { found = append(found, p) },
		Round: func(s upkeep.ScrubState) {
			last = s
			folders++
			if folders == 100 || folders == 256 {
				cancel()
			}
		},
	}
	begun := time.Now()
	for folders < 256 {
		ctx, stop := context.WithCancel(t.Context())
		cancel = stop
		if err := upkeep.Scrub(ctx, h.dir, opt); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if folders == 100 && (last.Next != 100 || !last.Oldest().IsZero()) {
			t.Errorf("after 100 folders: %d, %v", last.Next, last.Oldest())
		}
	}
	if len(found) != 1 || found[0].Path != name.Path() || !found[0].Repaired || last.Damaged != 1 {
		t.Errorf("%+v", found)
	}
	if last.Next != 0 || last.Oldest().Before(begun.Add(-time.Second)) {
		t.Errorf("after all folders: %d, %v", last.Next, last.Oldest())
	}
	// 256 folders and the objects at 16 KiB each, at 64 MiB a second.
	if took := time.Since(begun); took < 256*time.Second/4096 {
		t.Errorf("over its budget: %v", took)
	}
	h.sound()
}
