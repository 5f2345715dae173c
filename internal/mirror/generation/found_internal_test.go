package generation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// unpacked unpacks a manifest whose text has the SHA-256 sum; empty: its own.
func unpacked(t testing.TB, dir, text string, packed []byte, sum string) (*Manifest, error) {
	t.Helper()
	to, err := os.CreateTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if sum == "" {
		own := sha256.Sum256([]byte(text))
		sum = hex.EncodeToString(own[:])
	}
	m, err := UnpackManifest(bytes.NewReader(packed), to, sum)
	if err != nil {
		if err := errors.Join(to.Close(), os.Remove(to.Name())); err != nil {
			t.Error(err)
		}
	}
	return m, err
}

// Every file of another mirror's manifest is found by its path, in any order, and no other.
func TestUnpackManifest(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, blockFiles, blockFiles + 1, 1000} {
		var files []File
		for i := range n {
			files = append(files, File{Path: fmt.Sprintf("d/%05d", i), Size: int64(i), ModTime: time.Unix(int64(i), 0).UTC(), SHA256: sha256.Sum256([]byte{byte(i)})})
		}
		sum := ""
		var b bytes.Buffer
		w, err := newManifestWriter(&b, "demo", "000001")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := w.add(f); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := w.close(); err != nil {
			t.Fatal(err)
		} else {
			sum = hex.EncodeToString(got)
		}
		m, err := unpacked(t, t.TempDir(), "", b.Bytes(), sum)
		if err != nil {
			t.Fatalf("%d files: %v", n, err)
		}
		for _, f := range slices.Backward(files) {
			if got, ok, err := m.Find(f.Path); err != nil || !ok || got != f {
				t.Fatalf("%d files: %+v %t %v in the place of %+v", n, got, ok, err, f)
			}
			if _, ok, err := m.Find(f.Path + "x"); ok || err != nil {
				t.Fatalf("%sx is found: %v", f.Path, err)
			}
		}
		for _, path := range []string{"", "a", "z"} {
			if _, ok, err := m.Find(path); ok || err != nil {
				t.Fatalf("%q is found: %v", path, err)
			}
		}
		var all []File
		for f, err := range m.Files() {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, f)
		}
		if !slices.Equal(all, files) {
			t.Errorf("%d files, want %d", len(all), n)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := unpacked(t, t.TempDir(), "", b.Bytes(), strings.Repeat("0", 64)); !errors.Is(err, ErrOther) {
			t.Errorf("another sum: %v", err)
		}
		if _, err := unpacked(t, t.TempDir(), "", b.Bytes()[:b.Len()/2], sum); !errors.Is(err, ErrManifest) && !errors.Is(err, ErrOther) {
			t.Errorf("half a manifest: %v", err)
		}
	}
}

// Whatever another mirror sends as the text of a manifest is refused, or each of its files is found.
func FuzzUnpackManifest(f *testing.F) {
	head := "freshet-generation 1\nproject p\ngeneration 000001\n\n"
	file := "1 2 " + strings.Repeat("ab", 32)
	for _, text := range []string{
		"", head + "end 0\n", head + file + " a\n" + file + " a/b\nend 2\n", head + "-> t l\nend 1\n", head + file + " b\n" + file + " a\nend 2\n", head + "end 1\n", head + "end 0\nmore\n",
	} {
		f.Add(text)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		m, err := unpacked(t, dir, text, compressed(t, text), "")
		if err != nil {
			if !errors.Is(err, ErrManifest) {
				t.Fatal(err)
			}
			return
		}
		defer func() {
			if err := errors.Join(m.Close(), os.Remove(filepath.Clean(m.text.Name()))); err != nil {
				t.Error(err)
			}
		}()
		for file, err := range m.Files() {
			if err != nil {
				t.Fatalf("it was read before: %v", err)
			}
			if got, ok, err := m.Find(file.Path); err != nil || !ok || got != file {
				t.Fatalf("%q: %+v %t %v", file.Path, got, ok, err)
			}
		}
	})
}
