package generation

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

func written(t interface{ Fatal(...any) }, files []File) []byte {
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
	if _, err := w.close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(b []byte) (files []File, err error) {
	for f, err := range readManifest(bytes.NewReader(b)) {
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

func TestManifestRoundTrip(t *testing.T) {
	t.Parallel()
	name := rapid.StringMatching(`[^/\x00]{2,40}`)
	rapid.Check(t, func(t *rapid.T) {
		files := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) File {
			f := File{Path: strings.Join(rapid.SliceOfN(name, 1, 3).Draw(t, "path"), "/")}
			if CheckPath(f.Path) != nil {
				f.Path = "x"
			}
			if rapid.Bool().Draw(t, "link") {
				f.Link = "../" + name.Draw(t, "target")
				return f
			}
			f.Size = rapid.Int64Min(0).Draw(t, "size")
			f.ModTime = time.Unix(rapid.Int64Range(-1<<33, 1<<35).Draw(t, "time"), 0).UTC()
			f.SHA256 = sha256.Sum256([]byte(f.Path))
			return f
		}), 0, 8, func(f File) string { return f.Path }).Draw(t, "files")
		slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
		b := written(t, files)
		got, err := readAll(b)
		if err != nil || !slices.Equal(got, files) {
			t.Fatalf("%+v %v in the place of %+v", got, err, files)
		}
		table := skipHeader + seekEntry + seekFooter // of one frame; the text is whole without it
		cut := rapid.IntRange(0, len(b)-1-table).Draw(t, "cut")
		if _, err := readAll(b[:cut]); !errors.Is(err, ErrManifest) {
			t.Fatalf("%d of %d bytes: %v", cut, len(b), err)
		}
	})
}

func compressed(t testing.TB, text string) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll([]byte(text), nil)
}

const soundManifest = manifestMagic + "\nproject demo\ngeneration 000001\n\n12 1767225600 " +
	"0101010101010101010101010101010101010101010101010101010101010101 a b\\012\n-> ../x\\040y link\nend 2\n"

func TestManifestRefusals(t *testing.T) {
	t.Parallel()
	if got, err := readAll(compressed(t, soundManifest)); err != nil || got[0].Path != "a b\n" || got[1].Link != "../x y" {
		t.Fatal(got, err)
	}
	for old, instead := range map[string]string{
		manifestMagic: "freshet-generation 2", "end 2\n": "end 1\n", "12 1767": "-12 1767", " link": " a b\\012",
		"a b": "/a", "\\012": "\\999", "-> ../x": "->  ../x", "0101": "01zz", "end 2": "end 2\nend 2", "1767225600": "x", "\n\n": "\n",
	} {
		if _, err := readAll(compressed(t, strings.Replace(soundManifest, old, instead, 1))); !errors.Is(err, ErrManifest) {
			t.Errorf("%q in the place of %q: %v", instead, old, err)
		}
	}
	if _, err := readAll(compressed(t, manifestMagic+"\n\n"+strings.Repeat("x", 1<<20))); !errors.Is(err, ErrManifest) {
		t.Error("a long line:", err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(soundManifest))
	f.Add([]byte(manifestMagic + "\n\nend 0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		files, err := readAll(compressed(t, string(text)))
		if _, raw := readAll(text); raw == nil && len(text) > 0 {
			t.Fatal("text that is not compressed was read")
		}
		if err != nil {
			return
		}
		again, err := readAll(written(t, files))
		if err != nil || !slices.Equal(again, files) {
			t.Fatalf("%+v is read as %+v: %v", files, again, err)
		}
	})
}

// A journal of any bytes is read, and what is written behind it is found.
func FuzzJournal(f *testing.F) {
	f.Add([]byte("session 1 boot\n3 0 0101010101010101010101010101010101010101010101010101010101010101 a\ngone a\n3 0"))
	f.Add([]byte("gone x\nsession 99999999999999999999 a\nsession -1 a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(t.TempDir(), "placed")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		j, err := openJournal(file)
		if err != nil {
			t.Fatal(err)
		}
		want := File{Path: "p\nq", Size: 1, ModTime: time.Unix(5, 0).UTC(), SHA256: sha256.Sum256(text)}
		if err := errors.Join(j.begin(session{number: 7, boot: "b"}), j.add(want)); err != nil {
			t.Fatal(err)
		}
		if got, s, ok, err := j.byContent(want.SHA256); got != want || s.number != 7 || !ok || err != nil {
			t.Fatal(got, s, ok, err)
		}
		if err := j.cancel(want.Path); err != nil {
			t.Fatal(err)
		}
		if _, _, ok, err := j.byContent(want.SHA256); ok || err != nil {
			t.Fatal(ok, err)
		}
	})
}
