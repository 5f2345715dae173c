package manifest_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"freshet/internal/inventory"
	"freshet/internal/inventory/manifest"
	"freshet/internal/peertest"

	"pgregory.net/rapid"
)

func read(from io.Reader) (manifest.Head, []inventory.Entry, error) {
	r, err := manifest.NewReader(from)
	if err != nil {
		return manifest.Head{}, nil, err
	}
	var entries []inventory.Entry
	for e, err := range r.Entries() {
		if err != nil {
			return r.Head, entries, err
		}
		entries = append(entries, e)
	}
	return r.Head, entries, nil
}

func written(t testing.TB, h manifest.Head, entries ...inventory.Entry) []byte {
	t.Helper()
	b, err := write(h, entries)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(h manifest.Head, entries []inventory.Entry) ([]byte, error) {
	var b bytes.Buffer
	w, err := manifest.NewWriter(&b, h)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := w.Add(e); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return b.Bytes(), err
}

// What is written is read again, in pieces of any size, and of no part of it is said
// that it is whole.
func TestRoundTrip(t *testing.T) {
	word := rapid.StringMatching(`[!-~]{1,128}`)
	rapid.Check(t, func(t *rapid.T) {
		h := manifest.Head{Project: word.Draw(t, "project"), Generation: word.Draw(t, "generation")}
		if rapid.Bool().Draw(t, "delta") {
			h.Base = word.Draw(t, "base")
		}
		if rapid.Bool().Draw(t, "timed") {
			h.At = time.Unix(rapid.Int64Range(0, 1<<35).Draw(t, "at"), 0).UTC()
		}
		entries := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) inventory.Entry {
			e := inventory.Entry{Path: rapid.StringMatching(`([^/\n\x00]{2,9}/){0,3}[^/\n\x00.]{1,20}`).Draw(t, "path")}
			if inventory.CheckPath(e.Path) != nil {
				e.Path = "x"
			}
			if h.Base != "" && rapid.Bool().Draw(t, "gone") {
				e.Gone = true
				return e
			}
			e.Size = rapid.Int64Range(0, 1<<50).Draw(t, "size")
			if rapid.Bool().Draw(t, "dated") {
				e.ModTime = time.Unix(rapid.Int64Range(1, 1<<33).Draw(t, "time"), 0)
			}
			copy(e.SHA256[:], rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "sha256"))
			return e
		}), 0, 5).Draw(t, "entries")
		b, err := write(h, entries)
		if err != nil {
			t.Fatal(err)
		}
		gotHead, got, err := read(iotest.OneByteReader(bytes.NewReader(b)))
		if err != nil || gotHead != h || !slices.Equal(got, entries) {
			t.Fatalf("read as %+v, %+v, %v:\n%s", gotHead, got, err, b)
		}
		n := rapid.IntRange(0, len(b)-1).Draw(t, "part")
		if _, _, err := read(bytes.NewReader(b[:n])); !errors.Is(err, manifest.ErrFormat) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
		}
	})
}

const sound = "freshet-manifest 1\nproject fedora\ngeneration 7\nat 1767225600\n\n12 1767225600.5 - a b/c  d\nend 1\n"

func TestRefusals(t *testing.T) {
	if h, entries, err := read(strings.NewReader(sound)); err != nil || h.Project != "fedora" || len(entries) != 1 || entries[0].Path != "a b/c  d" || entries[0].ModTime.Unix() != 1767225600 {
		t.Fatal(h, entries, err)
	}
	line := "12 1767225600.5 - a b/c  d\n"
	for old, cases := range map[string]map[string]string{
		"freshet-manifest 1": {"freshet-manifest 2": "line 1: it does not begin with"},
		"generation 7\n": {
			"":                                 "generation \"\": 1 to 128",
			"generation \n":                    "line 3: generation",
			"generation 7\ngeneration 8\n":     "line 4: generation",
			"generation a b\n":                 "line 3: generation",
			strings.Repeat("other line\n", 20): "more than 16 lines",
		},
		"1767225600\n": {"soon\n": "line 4: at"},
		line: {
			"gone a\n":                    "gone is for manifests with a base",
			"12 1 a\n":                    "line 6: length, time, SHA-256 and path",
			"-1 1 - a\n":                  "the length \"-1\"",
			"9999999999999999999 1 - a\n": "the length",
			"1 1.x - a\n":                 "the time \"1.x\"",
			"1 later - a\n":               "the time",
			"1 1 abc a\n":                 "the SHA-256 \"abc\"",
			"1 1 " + strings.Repeat("x", 64) + " a\n":    "the SHA-256",
			"1 1 - " + strings.Repeat("x", 5000) + "\n":  "longer than",
			"1 1 - " + strings.Repeat("x", 1<<17) + "\n": "longer than",
		},
		"end 1\n": {
			"":             "line 7: it ends without",
			"end 2\n":      "it tells of \"2\" lines and has 1",
			"end 01\n":     "it tells of",
			"end 1\nend 1": "something follows",
		},
	} {
		for instead, want := range cases {
			if _, _, err := read(strings.NewReader(strings.Replace(sound, old, instead, 1))); !errors.Is(err, manifest.ErrFormat) || !strings.Contains(err.Error(), want) {
				t.Errorf("%.40q in the place of %q: %v", instead, old, err)
			}
		}
	}
	if _, _, err := read(io.MultiReader(strings.NewReader(sound[:70]), iotest.ErrReader(io.ErrNoProgress))); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("an error of reading: %v", err)
	}
}

// A writer writes nothing that a reader would refuse.
func TestWriterRefuses(t *testing.T) {
	head := manifest.Head{Project: "p", Generation: "1"}
	for _, e := range []inventory.Entry{{Path: "../a"}, {Path: "a\nb"}, {Path: ""}, {Path: "a", Gone: true}, {Path: "a", Size: -1}} {
		if b, err := write(head, []inventory.Entry{e}); err == nil {
			t.Errorf("%+v is written: %s", e, b)
		}
	}
	for _, h := range []manifest.Head{{}, {Project: "a b", Generation: "1"}, {Project: "a", Generation: "\n"}, {Project: "a", Generation: "1", Base: "ä"}} {
		if b, err := write(h, nil); err == nil {
			t.Errorf("%+v is written: %s", h, b)
		}
	}
}

// What a mirror tells arrives in a tree: all, then what has changed, and a gap is seen.
func TestInto(t *testing.T) {
	var tree inventory.Tree
	file := inventory.Entry{Path: "a/b", Size: 5, ModTime: time.Unix(1767225600, 0)}
	say := func(h inventory.Holder, head manifest.Head, entries ...inventory.Entry) (inventory.Change, error) {
		t.Helper()
		r, err := manifest.NewReader(bytes.NewReader(written(t, head, entries...)))
		if err != nil {
			t.Fatal(err)
		}
		return r.Into(&tree, h)
	}
	for _, h := range []inventory.Holder{inventory.Origin, 1} {
		if c, err := say(h, manifest.Head{Project: "p", Generation: "1"}, file); err != nil || c.Files != 1 {
			t.Fatal(c, err)
		}
	}
	if f, ok := tree.Find("a/b"); !ok || !f.Holders.Has(1) {
		t.Fatalf("found %+v", f)
	}
	gone := inventory.Entry{Path: "a/b", Gone: true}
	if _, err := say(1, manifest.Head{Project: "p", Generation: "3", Base: "2"}, gone); !errors.Is(err, inventory.ErrGap) {
		t.Fatalf("a delta from a generation that was not told: %v", err)
	}
	if c, err := say(1, manifest.Head{Project: "p", Generation: "2", Base: "1"}, gone); err != nil || c.Removed != 1 {
		t.Fatal(c, err)
	}
	if f, _ := tree.Find("a/b"); f.Holders.Has(1) || tree.View().Standing(1).Generation != "2" {
		t.Fatalf("found %+v, %+v", f, tree.View().Standing(1))
	}
}

// The commands that the documentation shows make a manifest.
func TestShell(t *testing.T) {
	peertest.Require(t, "sh", "find", "awk")
	doc, err := os.ReadFile("../../../docs/formats/manifest.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, ok := strings.Cut(string(doc), "## From a shell\n")
	dir := t.TempDir()
	if script = strings.ReplaceAll(script, "/srv/fedora", dir); !ok || !strings.Contains(script, dir) {
		t.Fatal("the documentation has no commands for a shell")
	}
	for name, content := range map[string]string{"a b": "12345", "x/y.rpm": "1"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("sh", "-ec", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	h, entries, err := read(bytes.NewReader(out))
	if err != nil || len(entries) != 2 || h.Project != "fedora" {
		t.Fatalf("%+v %+v %v:\n%s", h, entries, err, out)
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Path))
		if err != nil || info.Size() != e.Size || info.ModTime().Unix() != e.ModTime.Unix() {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte("freshet-manifest 1\nproject p\ngeneration 2\nbase 1\n\ngone a\n1 - " + strings.Repeat("ab", 32) + " b\nend 2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, entries, err := read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var clean []inventory.Entry
		for _, e := range entries {
			if inventory.CheckPath(e.Path) == nil {
				clean = append(clean, e)
			}
		}
		again, got, err := read(bytes.NewReader(written(t, h, clean...)))
		if err != nil || again != h || !slices.Equal(got, clean) {
			t.Fatalf("%+v %+v is read as %+v %+v: %v", h, clean, again, got, err)
		}
	})
}
