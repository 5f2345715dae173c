package hub

import (
	"fmt"
	"iter"
	"slices"

	"github.com/dustin/go-humanize"

	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
)

// hexOf is a checksum, and "" for none.
func hexOf(c ostree.Checksum) string {
	if c.IsZero() {
		return ""
	}
	return c.String()
}

// describe tells people where a delta begins.
func describe(d deltas.Delta) string {
	switch d.Age {
	case 0:
		return "from nothing"
	case 1:
		return "from the commit before"
	}
	return fmt.Sprintf("from %d commits before", d.Age)
}

// sizeOf is a number of bytes for people; 0 is not known.
func sizeOf(n uint64) string {
	if n == 0 {
		return "an unknown size"
	}
	return humanize.Bytes(n)
}

func sortedNames(names iter.Seq[ostree.DeltaName]) []ostree.DeltaName {
	return slices.SortedFunc(names, ostree.DeltaName.Compare)
}
