package bsdiff_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"pgregory.net/rapid"

	"freshet/internal/ostree/delta/bsdiff"
)

// check patches old to new and returns the matches.
func check(t testing.TB, m *bsdiff.Matcher, old, new []byte) []bsdiff.Match {
	t.Helper()
	matches := m.Matches(old, new)
	end := 0
	for _, x := range matches {
		if x.New < end || x.Len <= 0 || x.Old < 0 || x.Old+x.Len > len(old) || x.New+x.Len > len(new) {
			t.Fatalf("match %+v after %d, of %d and %d bytes", x, end, len(old), len(new))
		}
		end = x.New + x.Len
	}
	var patch bytes.Buffer
	if _, err := bsdiff.WritePatch(&patch, old, new, matches, 0); err != nil {
		t.Fatal(err)
	}
	if limit := bsdiff.MaxPatchSize(len(new), len(matches)); patch.Len() > limit {
		t.Errorf("patch of %d bytes, more than %d", patch.Len(), limit)
	}
	got := make([]byte, len(new))
	if err := bsdiff.Patch(got, old, patch.Bytes()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, new) {
		t.Fatal("patched version differs")
	}
	return matches
}

// unmatched counts the bytes of new that are in no match, and those that are but
// differ.
func unmatched(old, new []byte, matches []bsdiff.Match) (fresh, differ int) {
	fresh = len(new)
	for _, m := range matches {
		fresh -= m.Len
		for i := range m.Len {
			if new[m.New+i] != old[m.Old+i] {
				differ++
			}
		}
	}
	return fresh, differ
}

func noise(seed uint64, n int) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func TestFinds(t *testing.T) {
	old := noise(1, 100_000)
	edited := bytes.Clone(old)
	for i := 500; i < len(edited); i += 1000 {
		edited[i]++
	}
	tests := []struct {
		name          string
		old, new      []byte
		fresh, differ int // at most
	}{
		{"nothing", nil, nil, 0, 0},
		{"same", old, old, 0, 0},
		{"from empty", nil, old, len(old), 0},
		{"to empty", old, nil, 0, 0},
		{"single bytes", old, edited, 0, 100},
		{"inserted", old, bytes.Join([][]byte{old[:40_000], noise(2, 700), old[40_000:]}, nil), 700, 0},
		{"removed", old, append(bytes.Clone(old[:40_000]), old[41_000:]...), 0, 0},
		{"swapped", old, append(bytes.Clone(old[50_000:]), old[:50_000]...), 0, 0},
		{"inserted and edited", old, bytes.Join([][]byte{edited[:40_000], noise(2, 700), edited[40_000:]}, nil), 700, 100},
		{"first byte", old, old[1:], 0, 0},
		{"from the middle", old, old[30_000:60_000], 0, 0},
		{"zeros", make([]byte, 50_000), make([]byte, 60_000), 10_000, 0},
	}
	var m bsdiff.Matcher
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fresh, differ := unmatched(tt.old, tt.new, check(t, &m, tt.old, tt.new))
			if fresh > tt.fresh || differ > tt.differ {
				t.Errorf("%d bytes unmatched and %d that differ, instead of %d and %d", fresh, differ, tt.fresh, tt.differ)
			}
		})
	}
}

func TestAnyEdits(t *testing.T) {
	var m bsdiff.Matcher
	rapid.Check(t, func(t *rapid.T) {
		old := rapid.SliceOfN(rapid.ByteRange(0, 3), 0, 4000).Draw(t, "old")
		new := bytes.Clone(old)
		for range rapid.IntRange(0, 8).Draw(t, "edits") {
			at := rapid.IntRange(0, len(new)).Draw(t, "at")
			end := rapid.IntRange(at, min(len(new), at+200)).Draw(t, "end")
			put := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "put")
			new = bytes.Join([][]byte{new[:at], put, new[end:]}, nil)
		}
		patchBoth(t, &m, old, new)
	})
}

// TestWindows writes a patch of versions that are seen in windows.
func TestWindows(t *testing.T) {
	var m bsdiff.Matcher
	old := noise(1, 100_000)
	new := bytes.Join([][]byte{old[20_000:50_000], noise(2, 900), old[:10_000], old[60_000:]}, nil)
	var patch bytes.Buffer
	at := 0 // in all of old
	for start := 0; start < len(new); start += 7_000 {
		from := max(0, start-30_000)
		o, n := old[from:min(len(old), start+40_000)], new[start:min(len(new), start+7_000)]
		end, err := bsdiff.WritePatch(&patch, o, n, m.Matches(o, n), at-from)
		if err != nil {
			t.Fatal(err)
		}
		at = from + end
	}
	got := make([]byte, len(new))
	if err := bsdiff.Patch(got, old, patch.Bytes()); err != nil || !bytes.Equal(got, new) {
		t.Errorf("patched version differs: %v", err)
	}
}

func patchBoth(t *rapid.T, m *bsdiff.Matcher, old, new []byte) {
	matches := m.Matches(old, new)
	var patch bytes.Buffer
	got := make([]byte, len(new))
	_, err := bsdiff.WritePatch(&patch, old, new, matches, 0)
	err = errors.Join(err, bsdiff.Patch(got, old, patch.Bytes()))
	if err != nil || !bytes.Equal(got, new) || patch.Len() > bsdiff.MaxPatchSize(len(new), len(matches)) {
		t.Fatalf("patched version differs: %v", err)
	}
}

func FuzzPatch(f *testing.F) {
	var patch bytes.Buffer
	old, new := []byte("an old version of some text"), []byte("a new version of some text")
	var m bsdiff.Matcher
	if _, err := bsdiff.WritePatch(&patch, old, new, m.Matches(old, new), 0); err != nil {
		f.Fatal(err)
	}
	f.Add(old, patch.Bytes(), uint16(len(new)))
	f.Fuzz(func(t *testing.T, old, patch []byte, size uint16) {
		if err := bsdiff.Patch(make([]byte, size), old, patch); err != nil && !errors.Is(err, bsdiff.ErrMalformed) {
			t.Fatal(err)
		}
	})
}

func FuzzMatches(f *testing.F) {
	f.Add([]byte("an old version of some text, long enough"), []byte("some text, long enough, of an old version"))
	f.Fuzz(func(t *testing.T, old, new []byte) {
		var m bsdiff.Matcher
		check(t, &m, old, new)
	})
}

func BenchmarkMatches(b *testing.B) {
	old, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		b.Skip(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	new := bytes.Clone(old)
	for range len(new) / 4000 {
		new[random.IntN(len(new))] = 7
	}
	new = bytes.Join([][]byte{new[:len(new)/2], noise(3, 700), new[len(new)/2:]}, nil)
	var m bsdiff.Matcher
	b.SetBytes(int64(len(new)))
	for b.Loop() {
		m.Matches(old, new)
	}
}
