package flatpak

import (
	"bytes"
	"crypto/sha256"
	"hash"

	"freshet/internal/ostree"
)

// hashStride is the number of runs between two states that a runHash keeps.
const hashStride = 32

// runHash computes the SHA-256 of runs of bytes and remembers the states on the
// way, so that the next time it begins shortly before the first run that changed.
// The catalogue of a large repository has tens of megabytes; hashing them is
// most of what a publish costs. The zero value is ready.
type runHash struct {
	runs   [][]byte
	states []hash.Hash // before the runs 0, hashStride, 2·hashStride, …
}

// sum returns the digest of head and the runs, which are kept and must not
// change. The head must be the same each time.
func (h *runHash) sum(head []byte, runs [][]byte) ostree.Checksum {
	same := 0
	for same < len(runs) && same < len(h.runs) && bytes.Equal(runs[same], h.runs[same]) {
		same++
	}
	state, from := h.resume(same)
	if state == nil {
		state = sha256.New()
		state.Write(head)
	}
	h.runs = runs
	for i := from; i < len(runs); i++ {
		if i == len(h.states)*hashStride {
			if kept := cloneHash(state); kept != nil {
				h.states = append(h.states, kept)
			}
		}
		state.Write(runs[i])
	}
	return ostree.Checksum(state.Sum(nil))
}

// resume returns the latest state in which no more than the first runs were
// hashed, with the number of those that were; nil and 0 when there is none. The
// states after it are forgotten.
func (h *runHash) resume(runs int) (state hash.Hash, from int) {
	h.states = h.states[:min(runs/hashStride+1, len(h.states))]
	last := len(h.states) - 1
	if last < 0 {
		return nil, 0
	}
	if state = cloneHash(h.states[last]); state == nil {
		h.states = nil
		return nil, 0
	}
	return state, last * hashStride
}

// cloneHash copies a state; nil means that this is not possible.
func cloneHash(state hash.Hash) hash.Hash {
	cloner, ok := state.(hash.Cloner)
	if !ok {
		return nil
	}
	cloned, err := cloner.Clone()
	if err != nil {
		return nil
	}
	return cloned
}
