package extsort_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"freshet/internal/extsort"

	"pgregory.net/rapid"
)

// Records come back in the order of a stable sort, whatever fits into memory, and may
// be asked for in between.
func TestSorts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		s := extsort.Sorter{Dir: dir, Memory: rapid.IntRange(1, 1000).Draw(t, "memory")}
		type record struct{ key, value string }
		var want []record
		for round := range 2 {
			for i, key := range rapid.SliceOfN(rapid.StringN(0, 3, 5), 0, 50).Draw(t, "keys") {
				r := record{key, fmt.Sprint(round, i)}
				want = append(want, r)
				if err := s.Add(r.key, []byte(r.value)); err != nil {
					t.Fatal(err)
				}
			}
			slices.SortStableFunc(want, func(a, b record) int {
				switch {
				case a.key < b.key:
					return -1
				case a.key > b.key:
					return 1
				}
				return 0
			})
			var got []record
			for r, err := range s.All() {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, record{r.Key, string(r.Value)})
			}
			if !slices.Equal(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v %v", left, err)
	}
}

func TestNoFolder(t *testing.T) {
	t.Parallel()
	s := extsort.Sorter{Dir: filepath.Join(t.TempDir(), "none"), Memory: 1}
	if err := s.Add("a", nil); err == nil {
		t.Error("records that could not be written are no error")
	}
}

func TestZero(t *testing.T) {
	t.Parallel()
	var s extsort.Sorter
	for range s.All() {
		t.Error("an empty sorter has records")
	}
	value := []byte("v")
	if err := s.Add("k", value); err != nil {
		t.Fatal(err)
	}
	value[0] = 'x' // the caller's
	for r, err := range s.All() {
		if err != nil || string(r.Value) != "v" {
			t.Error(r, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
