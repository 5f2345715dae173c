package edge

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A part of a file of which the whole is on its way is not waited for when it is
// far ahead; one that is near is read along, and the whole is right for all.
func TestPartFarAheadOfFill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const size = 128 << 20
		o := newHuge(size)
		o.pause = 20 * time.Millisecond // 256 kB: 12.5 MB/s
		w := newWorld(t, Config{Size: 1 << 30}, o.serve)
		var clients sync.WaitGroup
		clients.Go(func() {
			if a := w.get(hugePath); a.status != 200 || a.body != o.file.part(0, size) {
				t.Errorf("the whole: %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
		time.Sleep(time.Second)
		synctest.Wait()
		for _, c := range []struct {
			field  string
			off, n int64
			within time.Duration
			asks   int64
		}{
			{rangeOf(size-1024, 1024), size - 1024, 1024, 50 * time.Millisecond, 1},
			{"Range: bytes=-1000", size - 1000, 1000, 50 * time.Millisecond, 1},
			{rangeOf(100<<20, 1000), 100 << 20, 1000, 50 * time.Millisecond, 1},
			{rangeOf(0, 1000), 0, 1000, 0, 0},
			{rangeOf(20<<20, 1000), 20 << 20, 1000, time.Second, 0},
		} {
			before, begun := w.fetches.Load(), time.Now()
			a := w.get(hugePath, c.field)
			w.wantPart(a, o.file, c.off, c.n)
			if took := time.Since(begun); took > c.within {
				t.Errorf("%s: there after %v", c.field, took)
			}
			if n := w.fetches.Load() - before; n != c.asks {
				t.Errorf("%s: %d fetches", c.field, n)
			}
		}
		clients.Wait()
		n := w.fetches.Load()
		w.wantPart(w.get(hugePath, "Range: bytes=-1000"), o.file, size-1000, 1000)
		w.wantFetches(n)
	})
}
