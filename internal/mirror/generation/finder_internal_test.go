package generation

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestFinder looks for files in a manifest of many frames, in order, at random, and for
// some that are not there.
func TestFinder(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 300, 5000} {
		var files []File
		for i := range n {
			f := File{Path: fmt.Sprintf("pool/%c/%05d odd\\name\n%s", 'a'+i%7, i, strings.Repeat("x", i%200)), Size: int64(i), ModTime: time.Unix(int64(i), 0).UTC()}
			f.SHA256 = sha256.Sum256([]byte(f.Path))
			if i%9 == 0 {
				f = File{Path: f.Path, Link: "to a link"}
			}
			files = append(files, f)
		}
		slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
		b := written(t, files)
		find, err := newFinder(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if n == 5000 && find.count() < 10 {
			t.Fatalf("%d frames", find.count())
		}
		check := func(f File) {
			t.Helper()
			if got, ok, err := find.Find(f.Path); err != nil || !ok || got != f {
				t.Fatalf("%+v %v %v in the place of %+v", got, ok, err, f)
			}
			for _, path := range []string{f.Path + "\x01", f.Path[:len(f.Path)-1]} {
				if got, ok, err := find.Find(path); err != nil || ok {
					t.Fatalf("%q: %+v %v %v", path, got, ok, err)
				}
			}
		}
		for _, f := range files {
			check(f)
		}
		for range min(n, 500) {
			check(files[rand.IntN(n)])
		}
		for i := 0; i < n; i += 1 + rand.IntN(700) {
			check(files[i])
		}
		for _, path := range []string{"", "a", "zzz", strings.Repeat("\xff", 4000)} {
			if got, ok, err := find.Find(path); err != nil || ok {
				t.Fatalf("%.10q: %+v %v %v", path, got, ok, err)
			}
		}
		all, err := readAll(b)
		if err != nil || !slices.Equal(all, files) {
			t.Fatalf("read as a whole: %d of %d files, %v", len(all), n, err)
		}
	}
}

// TestFinderDamaged: whatever a disk makes of a manifest, looking for a file ends.
func TestFinderDamaged(t *testing.T) {
	t.Parallel()
	var files []File
	for i := range 3000 {
		files = append(files, File{Path: fmt.Sprintf("%05d", i), ModTime: time.Unix(0, 0).UTC(), SHA256: sha256.Sum256([]byte{byte(i)})})
	}
	whole := written(t, files)
	rapid.Check(t, func(t *rapid.T) {
		b := bytes.Clone(whole[:rapid.IntRange(0, len(whole)).Draw(t, "length")])
		if len(b) == len(whole) || rapid.Bool().Draw(t, "flip") {
			for range rapid.IntRange(1, 4).Draw(t, "flips") {
				if len(b) > 0 {
					b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
				}
			}
		}
		f, err := newFinder(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, ErrManifest) {
				t.Fatal(err)
			}
			return
		}
		for range 5 {
			want := files[rapid.IntRange(0, len(files)-1).Draw(t, "file")]
			got, ok, err := f.Find(want.Path)
			if err != nil && !errors.Is(err, ErrManifest) {
				t.Fatal(err)
			}
			if ok && got != want {
				t.Fatalf("%+v in the place of %+v", got, want) // each frame has a checksum
			}
		}
	})
}

// BenchmarkFinder looks for one file, and for those of a folder in order.
func BenchmarkFinder(b *testing.B) {
	var files []File
	for i := range 300_000 {
		files = append(files, File{Path: fmt.Sprintf("pool/%04d/package-%06d_1.0-1_amd64.deb", i/100, i), ModTime: time.Unix(1e9, 0).UTC(), SHA256: sha256.Sum256([]byte(fmt.Sprint(i)))})
	}
	text := written(b, files)
	b.ReportMetric(float64(len(text))/float64(len(files)), "B/file")
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			f, err := newFinder(bytes.NewReader(text), int64(len(text)))
			if err != nil {
				b.Fatal(err)
			}
			if _, ok, err := f.Find(files[rand.IntN(len(files))].Path); !ok || err != nil {
				b.Fatal(err)
			}
			f.frames.Close()
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			f, err := newFinder(bytes.NewReader(text), int64(len(text)))
			if err != nil {
				b.Fatal(err)
			}
			for _, want := range files {
				if _, ok, err := f.Find(want.Path); !ok || err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(files)), "ns/file")
	})
}
