package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/closure"
	"freshet/internal/mirror/kind"
)

// A repository that is listed again and again takes the memory of one list.
func TestDroppedWants(t *testing.T) {
	t.Parallel()
	var l wants
	add := func(part uint16, n int) {
		for i := range n {
			w := want{Path: fmt.Sprintf("%d/%d", part, i), Link: strings.Repeat("x", 1000), Part: part}
			if !l.Add(w) {
				t.Fatalf("%s is not taken", w.Path)
			}
		}
	}
	add(0, 10)
	for range 50 {
		add(1, 5000)
		l.Drop(func(part uint16) bool { return part == 1 })
	}
	add(2, 10)
	if n := len(l.chunks); n > 1 {
		t.Errorf("20 files of a thousand bytes are in %d chunks of %d", n, chunkSize)
	}
	n := 0
	for g := range l.All() {
		if n++; g.Link != strings.Repeat("x", 1000) || l.Find(g.Path) == nil {
			t.Errorf("%s leads to %q", g.Path, g.Link)
		}
	}
	if n != 20 || l.dropped > l.kept {
		t.Errorf("%d files, of which %d bytes are kept and %d were dropped", n, l.kept, l.dropped)
	}
}

// An index that names files without end is refused before it has taken the memory.
func TestTooManyWants(t *testing.T) {
	t.Parallel()
	file := kind.File{File: closure.File{Path: "a/b"}}
	r := new(run)
	if err := r.want(&part{rest: true}, file); err != nil {
		t.Error(err)
	}
	r.wants.kept = maxWantBytes + 1
	err := r.want(&part{rest: true}, file)
	if f, ok := errors.AsType[*failure](err); !ok || f.reason != mirrorapi.ReasonMetadata || r.wants.Len() != 1 {
		t.Errorf("%d files, %v", r.wants.Len(), err)
	}
}

// What an upstream says of sizes does not make of too much a number that fits.
func TestMissingWithoutEnd(t *testing.T) {
	t.Parallel()
	r := new(run)
	for i := range 4 {
		r.wants.Add(want{Path: fmt.Sprint(i), Size: 1 << 62})
	}
	if need := r.missing(); need.Files != 4 || need.Bytes < mostBytes {
		t.Errorf("%d files of %d bytes", need.Files, need.Bytes)
	}
}
