package generation

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// scratch is a new, empty file.
func scratch(t tb, dir string) *os.File {
	f, err := os.CreateTemp(dir, "text-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func textOf(t tb, m *Manifest) string {
	text, err := io.ReadAll(io.NewSectionReader(m.text, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// manifestOf is the manifest of a generation, as another mirror has it.
func manifestOf(t *rapid.T, dir string, g *Generation) *Manifest {
	f, err := g.OpenManifest()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := UnpackManifest(f, scratch(t, dir), g.info.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestDelta: a delta leads to the text that the whole manifest has, byte for byte, from no
// other manifest and in no part; what was made of it is found again by what it is.
func TestDelta(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		before, after := twoGenerations(t, dir)
		base, want := manifestOf(t, dir, before), manifestOf(t, dir, after)
		var delta bytes.Buffer
		if err := WriteDelta(t.Context(), &delta, before, after, 1<<20); err != nil {
			t.Fatal(err)
		}
		got, err := base.ApplyDelta(bytes.NewReader(delta.Bytes()), scratch(t, dir), after.info.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		if textOf(t, got) != textOf(t, want) || got.Name() != after.info.Name() || got.Sum() != want.Sum() {
			t.Fatalf("%s has another text than %s", got.Name(), want.Name())
		}
		again, err := ReadManifest(got.text)
		if err != nil || again.Name() != after.info.Name() || again.Sum() != after.info.Manifest {
			t.Fatalf("read again as %+v, %v", again, err)
		}
		if before.info.Manifest != after.info.Manifest {
			if _, err := want.ApplyDelta(bytes.NewReader(delta.Bytes()), scratch(t, dir), after.info.Manifest); !errors.Is(err, ErrManifest) {
				t.Fatalf("from another base: %v", err)
			}
		}
		if _, err := base.ApplyDelta(bytes.NewReader(delta.Bytes()), scratch(t, dir), before.info.Manifest); !errors.Is(err, ErrOther) {
			t.Fatalf("to another manifest than was told: %v", err)
		}
		part := delta.Bytes()[:rapid.IntRange(0, delta.Len()-1).Draw(t, "part")]
		if _, err := base.ApplyDelta(bytes.NewReader(part), scratch(t, dir), after.info.Manifest); !errors.Is(err, ErrManifest) {
			t.Fatalf("%d of %d bytes: %v", len(part), delta.Len(), err)
		}
		if err := WriteDelta(t.Context(), io.Discard, before, after, int64(delta.Len()-1)); !errors.Is(err, ErrLong) {
			t.Fatalf("in less than its %d bytes: %v", delta.Len(), err)
		}
	})
}

// FuzzDelta: whatever a mirror sends, nothing but the manifest that was told of is taken.
func FuzzDelta(f *testing.F) {
	zeros := strings.Repeat("0", 64)
	const head = "freshet-generation 1\nproject p\ngeneration 000001\n"
	text := head + "\n1 1 " + zeros + " a\n-> a b\n1 1 " + zeros + " c\nend 3\n"
	write := func(t testing.TB, text string) *os.File {
		t.Helper()
		name := filepath.Join(t.TempDir(), "manifest")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		return file
	}
	sound, err := ReadManifest(write(f, text))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(head + "base " + sound.Name() + "\n\ngone a\n2 1 " + zeros + " b\n-> b d\nend 3\n")
	f.Add(head + "base " + sound.Name() + "\n\nend 0\n")
	f.Add(head + "base 1\nbase " + sound.Name() + "\n\ngone x\nend 1\n")
	f.Fuzz(func(t *testing.T, delta string) {
		base, err := ReadManifest(write(t, text))
		if err != nil {
			t.Fatal(err)
		}
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		packed := z.EncodeAll([]byte(delta), nil)
		to := write(t, "")
		if _, err := base.ApplyDelta(bytes.NewReader(packed), to, zeros); !errors.Is(err, ErrOther) && !errors.Is(err, ErrManifest) {
			t.Fatal(err)
		}
		made, err := ReadManifest(to)
		if err != nil {
			return
		}
		// What it leads to is a manifest, and is taken if it is the one that was told of.
		if _, err := base.ApplyDelta(bytes.NewReader(packed), write(t, ""), made.Sum()); err != nil {
			t.Fatal(err)
		}
	})
}

// BenchmarkDelta changes one file of 300,000.
func BenchmarkDelta(b *testing.B) {
	dir := b.TempDir()
	for _, name := range []string{"write", "apply"} {
		b.Run(name, func(b *testing.B) { benchDelta(b, dir, name) })
	}
}

func benchDelta(b *testing.B, dir, name string) {
	b.Helper()
	files := benchFiles(300_000)
	before := generationOf(b, dir, "000001", files)
	files[150_000].Size++
	after := generationOf(b, dir, "000002", files)
	var delta bytes.Buffer
	write := func() {
		delta.Reset()
		if err := WriteDelta(b.Context(), &delta, before, after, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
	write()
	whole, err := after.OpenManifest()
	if err != nil {
		b.Fatal(err)
	}
	info, err := whole.Stat()
	if err != nil {
		b.Fatal(err)
	}
	from, err := before.OpenManifest()
	if err != nil {
		b.Fatal(err)
	}
	base, err := UnpackManifest(from, scratch(b, dir), before.info.Manifest)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		b.ReportMetric(float64(info.Size()), "B-whole")
		b.ReportMetric(float64(delta.Len()), "B-delta")
	}()
	for b.Loop() {
		if name == "write" {
			write()
		} else if _, err := base.ApplyDelta(bytes.NewReader(delta.Bytes()), scratch(b, dir), after.info.Manifest); err != nil {
			b.Fatal(err)
		}
	}
}

func benchFiles(n int) []File {
	files := make([]File, n)
	for i := range files {
		path := fmt.Sprintf("linux/releases/Packages/%03d/package-%06d-1.fc44.x86_64.rpm", i/500, i)
		files[i] = File{Path: path, Size: int64(i), ModTime: time.Unix(1767225600+int64(i), 0), SHA256: sha256.Sum256([]byte(path))}
	}
	return files
}
