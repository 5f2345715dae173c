package mirror

import "testing"

// Garbage is collected at 12 MiB, also where next to nothing is kept, or it is not known
// yet: the runtime takes the percentage of 4 MiB at least.
func TestGarbagePercent(t *testing.T) {
	t.Parallel()
	for kept, want := range map[uint64]int{0: 300, 1 << 20: 300, 4 << 20: 300, 6 << 20: 200, 12 << 20: 100, 24 << 20: 50, 1 << 30: 50} {
		if got := garbagePercent(kept); got != want {
			t.Errorf("%d bytes: %d %%, want %d", kept, got, want)
		}
	}
}
