package edge

import (
	"encoding/binary"
	"testing"
	"time"

	"freshet/internal/edge/diskcache"
)

// A memo keeps to the bounds of its number and of its weight.
func TestMemoBounds(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	id := func(n int) (id diskcache.ID) {
		binary.LittleEndian.PutUint64(id[:], uint64(n))
		return id
	}
	heavy := memo[int64]{max: 1000, maxWeight: 10_000, weigh: func(w int64) int64 { return w }}
	for i := range 5000 {
		w := int64(i % 500)
		heavy.put(id(i), w, now, time.Minute)
		if v, ok := heavy.get(id(i), now); !ok || v != w {
			t.Fatalf("what was put just now is not there: %d", i)
		}
		var weight int64
		for _, item := range heavy.m {
			weight += item.value
		}
		if len(heavy.m) > 1000 || weight > 10_000 || weight != heavy.weight {
			t.Fatalf("%d items that weigh %d, counted as %d", len(heavy.m), weight, heavy.weight)
		}
	}
	heavy.put(id(1), 9_000, now, time.Minute)
	if _, ok := heavy.get(id(1), now); ok {
		t.Error("one that takes nearly all is kept")
	}
	if len(heavy.m) == 0 {
		t.Error("nothing is left")
	}
	heavy.clear()
	if heavy.weight != 0 {
		t.Errorf("empty, it weighs %d", heavy.weight)
	}
	light := memo[int64]{max: 100}
	for i := range 1000 {
		light.put(id(i), 1<<40, now, time.Minute)
		if len(light.m) > 100 {
			t.Fatalf("%d items", len(light.m))
		}
	}
	if _, ok := light.get(id(999), now.Add(time.Minute)); ok {
		t.Error("what is over is there")
	}
}
