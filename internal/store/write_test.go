package store

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"freshet/internal/layout"
)

// TestWriteGathers has writes of every kind of size, around that of the buffer.
func TestWriteGathers(t *testing.T) {
	t.Parallel()
	s := begin(t, quickDir(t))
	var want []byte
	tx := s.Begin()
	n, err := tx.Write(layout.Index, "f", func(w io.Writer) error {
		for i, size := range []int{0, 1, 100, 64<<10 - 1, 1, 64 << 10, 3, 200 << 10, 5, 40 << 10, 40 << 10} {
			p := bytes.Repeat([]byte{byte('a' + i)}, size)
			want = append(want, p...)
			if n, err := w.Write(p); err != nil || n != size {
				t.Errorf("wrote %d of %d: %v", n, size, err)
			}
		}
		return nil
	})
	if err != nil || n != int64(len(want)) {
		t.Errorf("%d bytes of %d: %v", n, len(want), err)
	}
	enough := errors.New("enough")
	if _, err := tx.Write(layout.Index, "g", func(io.Writer) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
	commit(t, tx)
	if got := content(t, s.Open, "f"); got != string(want) {
		t.Errorf("%d bytes came out of %d", len(got), len(want))
	}
	if s.Has("g") {
		t.Error("what failed is there")
	}
}
