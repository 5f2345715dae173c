package diskcache

import (
	"errors"
	"fmt"
)

// CommitPart ends a body that will not be written to its end, of size bytes in
// all, and puts the whole slices of what was written in place of an older entry:
// the rest may come later ([Store.Partial]). The body was announced to
// [Store.Create] with that length. If there is no whole slice, or there is an
// error, nothing is kept, as with [Writer.Abort].
func (w *Writer) CommitPart(size int64, state State) error {
	if err := w.commitPart(size, state); err != nil {
		w.Abort()
		return fmt.Errorf("keep a part of %s: %w", w.meta.Key, err)
	}
	return nil
}

func (w *Writer) commitPart(size int64, state State) error {
	n := int64(len(w.sums) / 4)
	total := sliceCount(size, w.shift)
	switch {
	case w.ended:
		return errors.New("ended before")
	case w.h == nil || n == 0:
		return errors.New("there is no whole slice")
	case w.shift != shiftFor(size) || n >= total:
		return fmt.Errorf("%d slices of a body of %d bytes", n, size)
	case total*5 > maxRecord/2:
		return ErrFull
	}
	kept := n << w.shift
	if err := w.h.f.Truncate(size); err != nil {
		return err
	}
	// What is behind the slices is given back, and what was set aside for more.
	if err := w.h.punch(kept, size-kept); err != nil {
		return err
	}
	p := newPartial(w.store, w.id, w.num, w.meta, size, state)
	copy(p.sums, w.sums)
	for i := range n {
		p.have[i/64] |= 1 << (i % 64)
	}
	p.left, p.kept, p.taken, p.dirty = total-n, kept, kept, true
	if err := w.store.files.keep(w.h, p.head); err != nil {
		return err
	}
	w.ended = true
	w.store.space.promise(-w.reserved)
	w.store.space.free(w.pool, w.reserved-kept)
	w.store.buffer.Add(-int64(len(w.buf)))
	p.h = w.h // with the writer's place as its user
	p.enter()
	_, err := p.save()
	p.Release() // what is not saved is dropped
	return err
}
