package delta

import (
	"errors"
	"fmt"
	"hash"
	"io"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta/bsdiff"
)

// recipe is how a file is made of one that the client has.
type recipe struct {
	source ostree.Checksum
	size   uint64 // of the source
	patch  bool   // a patch of bsdiff; otherwise, pieces are copied
	// matches is what both have in common: for copies, equal bytes only.
	matches []bsdiff.Match
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

// compare finds the cheapest way to make new of old, or nil when neither helps.
// stored is the size of new in the repository.
func compare(m *bsdiff.Matcher, source ostree.Checksum, old, new []byte, stored uint64) *recipe {
	matches := m.Matches(old, new)
	copies, copied := equalPieces(old, new, matches)
	matched, differ := 0, 0
	for _, x := range matches {
		matched += x.Len
		for i := range x.Len {
			if old[x.Old+i] != new[x.New+i] {
				differ++
			}
		}
	}
	// Literal bytes compress as the whole does.
	literal := func(n int) uint64 { return costWhole * stored * uint64(n) / uint64(len(new)) }
	whole := costWhole * stored
	byCopy := literal(len(new)-copied) + costCopy*uint64(len(copies)+1)
	byPatch := literal(len(new)-matched) + costStep*uint64(len(matches)+1) + costDiffer*uint64(differ) + uint64(matched/freeMatched)
	if bsdiff.PatchSize(len(new), matches) > patchLimit(len(new)) {
		byPatch = whole
	}
	r := &recipe{source: source, size: uint64(len(old))}
	switch {
	case min(byCopy, byPatch) > whole-whole/8:
		return nil
	case byCopy <= byPatch:
		r.matches = copies
	default:
		r.patch, r.matches = true, matches
	}
	return r
}

// patchLimit bounds the patch of a file of this size, so that its part stays
// below [PartLimit].
func patchLimit(size int) int { return size + size/64 + 60_000 }

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

// load reads a whole file and verifies it.
func load(repo Repo, sum ostree.Checksum, size uint64) ([]byte, error) {
	content := make([]byte, size)
	at := 0
	err := stream(repo, sum, func(p []byte) error {
		if len(p) > len(content)-at {
			return fmt.Errorf("%w: content of more than %d bytes", ostree.ErrMalformed, size)
		}
		at += copy(content[at:], p)
		return nil
	})
	if err == nil && at < len(content) {
		err = &ostree.ObjectError{Name: ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}, Err: fmt.Errorf("%w: content of %d bytes, not %d", ostree.ErrMalformed, at, size)}
	}
	return content, err
}

// stream gives the content of a file to write, and verifies it.
func stream(repo Repo, sum ostree.Checksum, write func([]byte) error) (err error) {
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}
	stored, err := repo.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	z, err := ostree.NewFilezReader(stored)
	if err != nil {
		return &ostree.ObjectError{Name: name, Err: err}
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	w := hashing{sum: ostree.NewFileHash(*z.Header()), write: write}
	if _, err := io.Copy(&w, z); err != nil {
		return &ostree.ObjectError{Name: name, Err: err}
	}
	if actual := ostree.Checksum(w.sum.Sum(nil)); actual != sum {
		return &ostree.MismatchError{Name: name, Actual: actual}
	}
	return nil
}

type hashing struct {
	sum   hash.Hash
	write func([]byte) error
}

func (h *hashing) Write(p []byte) (int, error) {
	h.sum.Write(p)
	if err := h.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}
