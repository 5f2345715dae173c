package inventory_test

import (
	"fmt"
	"slices"
	"testing"

	"freshet/internal/inventory"
)

// A sample has each of the origin's files that fit with the same chance, and no others.
func TestSample(t *testing.T) {
	var tree inventory.Tree
	replace(t, &tree, inventory.Origin, files(1000)...)
	replace(t, &tree, 1, inventory.Entry{Path: "Packages/a/mirror-only.rpm", Size: 7}, inventory.Entry{Path: "Packages/a/package-0.rpm", Size: 70})
	view := tree.View()
	even := func(size int64) bool { return size%2 == 0 }
	const rounds, n = 400, 50
	times := make(map[string]int)
	for range rounds {
		sample := view.Sample(n, even)
		if slices.Sort(sample); len(slices.Compact(sample)) != n {
			t.Fatalf("%d different files, want %d", len(sample), n)
		}
		for _, path := range sample {
			times[path]++
		}
	}
	for path := range times {
		f, ok := view.Find(path)
		if !ok || !even(f.Size) {
			t.Errorf("%s is in a sample", path)
		}
	}
	// Each of the 500 comes 40 times on average, by a binomial distribution with a standard
	// deviation of 6.
	for i := range 500 {
		path := fmt.Sprintf("Packages/%c/package-%d.rpm", 'a'+2*i%26, 2*i)
		if got := times[path]; got < 4 || got > 90 {
			t.Errorf("%s is in %d of %d samples", path, got, rounds)
		}
	}
	if all := view.Sample(2000, even); len(all) != 500 {
		t.Errorf("a sample of more than there is has %d files, want 500", len(all))
	}
	if none := new(inventory.Tree).View().Sample(10, even); len(none) != 0 {
		t.Errorf("a sample of nothing is %q", none)
	}
}
