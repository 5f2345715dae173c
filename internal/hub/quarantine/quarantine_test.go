package quarantine_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/durable"
	"freshet/internal/hub/quarantine"
	"freshet/internal/ostree"
)

// repository is a folder with one object, which is damaged.
func repository(t *testing.T) (durable.Dir, ostree.ObjectName, fs.FileInfo) {
	t.Helper()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Root.Close() })
	name := ostree.ObjectName{Checksum: ostree.ChecksumOf([]byte("sound")), Type: ostree.TypeFile}
	if err := dir.MkdirAll(filepath.Dir(name.Path()), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, name, put(t, dir, name, "damaged")
}

func put(t *testing.T, dir durable.Dir, name ostree.ObjectName, content string) fs.FileInfo {
	t.Helper()
	if err := dir.WriteFile(name.Path(), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := dir.Root.Stat(name.Path())
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func list(t *testing.T, dir durable.Dir) []quarantine.Item {
	t.Helper()
	items, err := quarantine.List(dir.Root)
	count, countErr := quarantine.Count(dir.Root)
	if err := errors.Join(err, countErr); err != nil || count != len(items) {
		t.Fatalf("%d of %v: %v", count, items, err)
	}
	return items
}

func TestPutAndDrop(t *testing.T) {
	t.Parallel()
	dir, name, damaged := repository(t)
	if items := list(t, dir); len(items) != 0 {
		t.Errorf("%+v", items)
	}
	if err := quarantine.Drop(dir, name); err != nil {
		t.Error(err)
	}
	note := quarantine.Note{Error: "it is torn", Since: time.Unix(1_700_000_000, 0).UTC()}
	if err := quarantine.Put(t.Context(), dir, name, damaged, note); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Root.Stat(name.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still served: %v", err)
	}
	note.Needed([]string{"b", "a"}, note.Since)
	if err := quarantine.Write(dir, name, note); err != nil {
		t.Fatal(err)
	}
	items := list(t, dir)
	if len(items) != 1 || items[0].Name != name || items[0].Size != 7 || items[0].Error != "it is torn" || strings.Join(items[0].Refs, " ") != "a b" ||
		!items[0].Since.Equal(note.Since) {
		t.Fatalf("%+v", items)
	}
	if err := quarantine.Sweep(t.Context(), dir); err != nil || len(list(t, dir)) != 1 {
		t.Errorf("swept: %v", err)
	}
	if err := quarantine.Drop(dir, name); err != nil || len(list(t, dir)) != 0 {
		t.Errorf("dropped: %v", err)
	}
	left, err := fs.ReadDir(dir.Root.FS(), ".upkeep/quarantine")
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestReplacedIsNotMoved: what was replaced since somebody found it damaged stays.
func TestReplacedIsNotMoved(t *testing.T) {
	t.Parallel()
	dir, name, damaged := repository(t)
	put(t, dir, name, "sound!!")
	if err := quarantine.Put(t.Context(), dir, name, damaged, quarantine.Note{}); !errors.Is(err, quarantine.ErrMoved) {
		t.Errorf("error %v", err)
	}
	if data, err := dir.Root.ReadFile(name.Path()); err != nil || string(data) != "sound!!" {
		t.Errorf("%q, %v", data, err)
	}
	if err := dir.Remove(name.Path()); err != nil {
		t.Fatal(err)
	}
	if err := quarantine.Put(t.Context(), dir, name, damaged, quarantine.Note{}); !errors.Is(err, quarantine.ErrMoved) {
		t.Errorf("error %v", err)
	}
	if items := list(t, dir); len(items) != 0 {
		t.Errorf("%+v", items)
	}
}

// TestEveryStepFails fails the steps of Put one by one: the object is at its place or in
// quarantine, and never at both or nowhere.
func TestEveryStepFails(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		dir, name, damaged := repository(t)
		step := 0
		dir.Fault = func(string, string) error {
			if step++; step == n {
				return errors.New("the disk is broken")
			}
			return nil
		}
		err := quarantine.Put(t.Context(), dir, name, damaged, quarantine.Note{})
		dir.Fault = nil
		_, statErr := dir.Root.Stat(name.Path())
		if there, kept := statErr == nil, len(list(t, dir)) == 1; there == kept {
			t.Errorf("step %d: at its place %t, in quarantine %t: %v", n, there, kept, err)
		}
		if err := quarantine.Sweep(t.Context(), dir); err != nil {
			t.Error(err)
		}
		if step < n {
			if err != nil {
				t.Error(err)
			}
			break
		}
		if err == nil {
			t.Errorf("step %d: no error", n)
		}
	}
}

// TestSweep: a copy of an object that is there again means nothing, nor does a note
// without a copy, and a note that cannot be read hides no object.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir, name, damaged := repository(t)
	if err := quarantine.Put(t.Context(), dir, name, damaged, quarantine.Note{Error: "x"}); err != nil {
		t.Fatal(err)
	}
	note := quarantine.Path(name) + ".json"
	if err := dir.WriteFile(note, []byte(`{"error":`), 0o640); err != nil {
		t.Fatal(err)
	}
	if items := list(t, dir); len(items) != 1 || items[0].Error != "it is damaged" || items[0].Since.IsZero() {
		t.Errorf("%+v", items)
	}
	put(t, dir, name, "sound")
	if items := list(t, dir); len(items) != 0 {
		t.Errorf("%+v", items)
	}
	if err := quarantine.Sweep(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{quarantine.Path(name), note} {
		if _, err := dir.Root.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if data, err := dir.Root.ReadFile(name.Path()); err != nil || string(data) != "sound" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestNamelessIsRefused(t *testing.T) {
	t.Parallel()
	dir, name, damaged := repository(t)
	name.Type = ostree.TypeCommitMeta
	if err := quarantine.Put(t.Context(), dir, name, damaged, quarantine.Note{}); err == nil {
		t.Error("signatures have no name of their own")
	}
}

// TestRestore: a copy that is sound after all goes back to its place.
func TestRestore(t *testing.T) {
	t.Parallel()
	dir, _, _ := repository(t)
	data := []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x41\xed")
	meta := ostree.ObjectName{Checksum: ostree.ChecksumOf(data), Type: ostree.TypeDirMeta}
	if err := dir.MkdirAll(filepath.Dir(meta.Path()), 0o755); err != nil {
		t.Fatal(err)
	}
	damaged := put(t, dir, meta, string(data[1:]))
	if err := quarantine.Put(t.Context(), dir, meta, damaged, quarantine.Note{Error: "x"}); err != nil {
		t.Fatal(err)
	}
	if restored, err := quarantine.Restore(t.Context(), dir, meta); restored || err != nil {
		t.Errorf("a damaged object was restored: %v", err)
	}
	if err := dir.WriteFile(quarantine.Path(meta), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if restored, err := quarantine.Restore(t.Context(), dir, meta); !restored || err != nil {
		t.Errorf("it was not restored: %v", err)
	}
	if got, err := dir.Root.ReadFile(meta.Path()); err != nil || string(got) != string(data) || len(list(t, dir)) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}
