package generation

import (
	"iter"
	"strings"
)

// Pair is what two sequences have of a path: a pointer is nil in one that does not
// have it. What they point to is valid until the next pair.
type Pair[A, B any] struct {
	Path  string
	Left  *A
	Right *B
}

// Join walks two sequences that are sorted by the bytes of their paths, such as the
// files of a generation and those that are wanted, in memory for one of each. It ends
// with the first error.
func Join[A, B any](left iter.Seq2[A, error], right iter.Seq2[B, error], leftPath func(*A) string, rightPath func(*B) string) iter.Seq2[Pair[A, B], error] {
	return func(yield func(Pair[A, B], error) bool) {
		nextLeft, stopLeft := iter.Pull2(left)
		defer stopLeft()
		nextRight, stopRight := iter.Pull2(right)
		defer stopRight()
		l := head[A]{next: nextLeft, path: leftPath}
		r := head[B]{next: nextRight, path: rightPath}
		for {
			if err := l.fill(); err != nil {
				yield(Pair[A, B]{}, err)
				return
			}
			if err := r.fill(); err != nil {
				yield(Pair[A, B]{}, err)
				return
			}
			if l.ended && r.ended {
				return
			}
			if !yield(take(&l, &r), nil) {
				return
			}
		}
	}
}

// take takes the lesser of two heads, or both.
func take[A, B any](l *head[A], r *head[B]) Pair[A, B] {
	c := strings.Compare(l.at, r.at)
	switch {
	case l.ended:
		c = 1
	case r.ended:
		c = -1
	}
	var p Pair[A, B]
	if c <= 0 {
		p.Path, p.Left, l.full = l.at, &l.value, false
	}
	if c >= 0 {
		p.Path, p.Right, r.full = r.at, &r.value, false
	}
	return p
}

// head is the first of a sequence that was not taken.
type head[T any] struct {
	next  func() (T, error, bool)
	path  func(*T) string
	value T
	at    string
	full  bool
	ended bool
}

func (h *head[T]) fill() error {
	if h.full || h.ended {
		return nil
	}
	value, err, ok := h.next()
	if err != nil {
		return err
	}
	if h.ended = !ok; h.ended {
		return nil
	}
	h.value, h.full = value, true
	h.at = h.path(&h.value)
	return nil
}

// PathOf is the path of a file, for Join.
func PathOf(f *File) string { return f.Path }
