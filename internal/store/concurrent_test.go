package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"freshet/internal/layout"
)

// TestReadersSeeOneGeneration publishes while others read: pointers read in one
// view belong together, what a pointer names is there, and nothing goes back.
func TestReadersSeeOneGeneration(t *testing.T) {
	t.Parallel()
	s := begin(t, quickDir(t))
	pointers := []string{"summary", "summary.sig", "summary.idx", "refs/a", "refs/b"}
	publish := func(n int) error {
		tx := s.Begin()
		v := fmt.Sprintf("%06d", n)
		errs := []error{
			tx.PutBytes(layout.Payload, "objects/"+v, []byte(v)),
			tx.PutBytes(layout.Index, "summaries/"+v, []byte(v)),
		}
		for _, p := range pointers {
			errs = append(errs, tx.PutBytes(layout.Pointer, p, []byte(v)))
		}
		return errors.Join(append(errs, tx.Commit(t.Context(), nil), tx.Done())...)
	}
	if err := publish(0); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			last := ""
			for {
				select {
				case <-done:
					return
				default:
				}
				view := s.View()
				v := content(t, view.Open, pointers[0])
				for _, p := range pointers[1:] {
					if got := content(t, view.Open, p); got != v {
						t.Errorf("%s is of %s, %s of %s", pointers[0], v, p, got)
					}
				}
				for _, name := range []string{"objects/" + v, "summaries/" + v} {
					if got := content(t, view.Open, name); got != v {
						t.Errorf("%s: %q", name, got)
					}
				}
				view.Close()
				if v < last {
					t.Errorf("%s after %s", v, last)
				}
				// Without a view, each next pointer is never older.
				last = v
				for _, p := range pointers {
					got := content(t, s.Open, p)
					if got < last {
						t.Errorf("%s: %s after %s", p, got, last)
					}
					last = got
				}
			}
		})
	}
	for n := range 150 {
		if err := publish(n + 1); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	readers.Wait()
	if len(s.superseded) != 0 || len(s.views) != 0 {
		t.Errorf("still held: %v, %v", s.superseded, s.views)
	}
}

// TestConcurrentTransactions stages and commits from many goroutines.
func TestConcurrentTransactions(t *testing.T) {
	t.Parallel()
	s := begin(t, quickDir(t))
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for n := range 5 {
				tx := s.Begin()
				var puts sync.WaitGroup
				for i := range 4 {
					puts.Go(func() {
						if err := tx.PutBytes(layout.Payload, fmt.Sprintf("objects/%d-%d", n, i), []byte("same for all")); err != nil {
							t.Error(err)
						}
					})
				}
				puts.Wait()
				if err := errors.Join(
					tx.PutBytes(layout.Pointer, fmt.Sprintf("refs/%d-%d", w, n), nil),
					tx.Commit(t.Context(), nil), tx.Done(),
				); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	for w := range 8 {
		for n := range 5 {
			if !s.Has(fmt.Sprintf("refs/%d-%d", w, n)) || !s.Has(fmt.Sprintf("objects/%d-3", n)) {
				t.Errorf("writer %d, transaction %d is missing", w, n)
			}
		}
	}
	if len(s.Pending()) != 0 {
		t.Errorf("pending %v", s.Pending())
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, objects := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("objects=%d", objects), func(b *testing.B) {
			s := begin(b, b.TempDir())
			data := make([]byte, 1<<10)
			b.ReportAllocs()
			round := 0
			for b.Loop() {
				round++
				tx := s.Begin()
				for i := range objects {
					if err := tx.PutBytes(layout.Payload, fmt.Sprintf("objects/%02x/%d-%d", i%256, round, i), data); err != nil {
						b.Fatal(err)
					}
				}
				if err := errors.Join(tx.PutBytes(layout.Pointer, "summary", data), tx.Commit(b.Context(), nil), tx.Done()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(objects)*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	s := begin(b, b.TempDir())
	tx := s.Begin()
	put(b, tx, layout.Payload, "objects/aa/1", "content")
	commit(b, tx)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f, err := s.Open("objects/aa/1")
			if err != nil {
				b.Fatal(err)
			}
			_ = f.Close()
		}
	})
}
