package mirrorlist

import "strings"

// chunkSize is how much text lies in one piece of memory.
const chunkSize = 1 << 20

// text keeps many strings in few pieces of memory. What it returned stays valid.
type text struct{ chunk strings.Builder }

// keep returns a string with the bytes of b.
func (t *text) keep(b []byte) string {
	if len(b) > chunkSize/8 {
		return string(b)
	}
	if t.chunk.Cap()-t.chunk.Len() < len(b) {
		t.chunk = strings.Builder{} // the last one belongs to its strings
		t.chunk.Grow(chunkSize)
	}
	start := t.chunk.Len()
	t.chunk.Write(b)
	return t.chunk.String()[start:]
}

// slab keeps many short slices in few pieces of memory. What it returned stays valid.
type slab[T any] struct{ free []T }

// keep returns a slice with the elements of v, which nothing can be appended to in
// place.
func (s *slab[T]) keep(v []T) []T {
	const chunk = 4096
	if len(v) == 0 {
		return nil
	}
	if len(v) > chunk/8 {
		return append(make([]T, 0, len(v)), v...)
	}
	if len(s.free) < len(v) {
		s.free = make([]T, chunk)
	}
	kept := s.free[:len(v):len(v)]
	copy(kept, v)
	s.free = s.free[len(v):]
	return kept
}
