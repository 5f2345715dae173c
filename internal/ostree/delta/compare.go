package delta

import (
	"freshet/internal/ostree"
	"freshet/internal/ostree/delta/bsdiff"
)

// recipe is how a file is made of one that the client has.
type recipe struct {
	source  ostree.Checksum
	size    uint64 // of the source
	patch   bool   // a patch of bsdiff; otherwise, pieces are copied
	windows []window
	payload uint64 // bytes in the part, about
}

// What things cost in a part once it is compressed, in sixteenths of a byte;
// learned from real programs and texts. They decide between recipes only.
const (
	costWhole   = 13      // a byte of the file as it is stored in the repository
	costCopy    = 10 * 16 // to copy a piece and to go back to the payload
	costStep    = 10 * 16 // a step of a patch
	costDiffer  = 3 * 16  // a byte that differs inside of a match
	freeMatched = 256     // matched bytes of a patch that cost one sixteenth

	minCopy = 32 // equal bytes that are worth copying
)

// comparison collects what two versions have in common, window by window.
type comparison struct {
	size    uint64 // of the new version
	stored  uint64 // bytes that it takes in the repository
	patches []window
	copies  []window
	// What is in common, in bytes and pieces.
	matched, differ, copied uint64
	steps, pieces           uint64
}

func (c *comparison) add(m *bsdiff.Matcher, w window, old, new []byte) {
	w.matches = m.Matches(old, new)
	c.patches = append(c.patches, w)
	c.steps += uint64(len(w.matches)) + 1
	for _, x := range w.matches {
		c.matched += uint64(x.Len)
		for i := range x.Len {
			if old[x.Old+i] != new[x.New+i] {
				c.differ++
			}
		}
	}
	pieces, copied := equalPieces(old, new, w.matches)
	w.matches = pieces
	c.copies = append(c.copies, w)
	c.copied += uint64(copied)
	c.pieces += uint64(len(pieces))
}

// best returns the cheapest recipe, or nil when none helps.
func (c *comparison) best(source ostree.Checksum, size uint64) *recipe {
	// Literal bytes compress as the whole does.
	literal := func(n uint64) uint64 { return costWhole * c.stored * n / c.size }
	whole := costWhole * c.stored
	byCopy := literal(c.size-c.copied) + costCopy*(c.pieces+1)
	byPatch := literal(c.size-c.matched) + costStep*c.steps + costDiffer*c.differ + c.matched/freeMatched
	if c.size > maxPatch || size > maxPatch || uint64(bsdiff.MaxPatchSize(int(c.size), int(c.steps))) > patchLimit(c.size) {
		byPatch = whole
	}
	r := &recipe{source: source, size: size, windows: c.copies, payload: c.size - c.copied}
	if byPatch < byCopy {
		r.patch, r.windows, r.payload = true, c.patches, c.size
	}
	if min(byCopy, byPatch) > whole-whole/8 || c.steps > maxSteps {
		return nil
	}
	return r
}

const (
	// maxPatch bounds both versions of a file that is patched, because clients
	// hold them in memory. Larger ones are put together of pieces.
	maxPatch = 64 << 20
	// maxSteps bounds what is kept of a comparison.
	maxSteps = 1 << 20
)

// patchLimit bounds the patch of a file of this size, so that its part stays
// below [PartLimit].
func patchLimit(size uint64) uint64 { return size + size/64 + 60_000 }

// equalPieces returns the pieces of matches that are equal and worth copying,
// and their bytes in total.
func equalPieces(old, new []byte, matches []bsdiff.Match) (pieces []bsdiff.Match, total int) {
	for _, m := range matches {
		for i := 0; i < m.Len; {
			n := bsdiff.EqualPrefix(old[m.Old+i:m.Old+m.Len], new[m.New+i:m.New+m.Len])
			if n >= minCopy {
				pieces = append(pieces, bsdiff.Match{New: m.New + i, Old: m.Old + i, Len: n})
				total += n
			}
			i += n + 1
		}
	}
	return pieces, total
}
