package diskcache

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func inspect(t *testing.T, dir string) *Inspection {
	t.Helper()
	i, err := Inspect(t.Context(), dir, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// Whatever byte of a segment or of a body's file is damaged: the check finds
// it if it matters, once, and what is left is right.
func TestCheckFindsEveryDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 64<<20)
	bodies := map[int]string{1: strings.Repeat("body", 20), 2: "other", 3: strings.Repeat("3", 70_000)}
	for n, body := range bodies {
		put(t, s, n, body)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damaged, unnamed, doubtful := 0, 0, 0
	try := func(name string, data []byte, what string) {
		t.Helper()
		image := t.TempDir()
		if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(image, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		i := inspect(t, image)
		before := i.Stat().Entries
		reports := 0
		done, err := i.Check(t.Context(), func(int64) {}, func(d Damage) {
			reports++
			if d.Err == nil || d.File == "" {
				t.Errorf("%s: report %+v", what, d)
			}
			if d.Key == "" {
				unnamed++
			}
		})
		if err != nil || done.Entries != before || reports != done.Damaged || i.Stat().Entries != before-done.Damaged {
			t.Errorf("%s: %+v, %d reports, %d of %d entries left: %v", what, done, reports, i.Stat().Entries, before, err)
		}
		damaged += done.Damaged
		doubtful += done.Doubtful
		if err := i.Close(); err != nil {
			t.Error(err)
		}
		// What a second look finds has to be all right, by another index.
		i = inspect(t, image)
		defer i.Close()
		if again, err := i.Check(t.Context(), func(int64) {}, func(Damage) {}); err != nil || again.Damaged != 0 || again.Entries != before-done.Damaged {
			t.Errorf("%s: second check: %+v, want %d entries: %v", what, again, before-done.Damaged, err)
		}
		for n, body := range bodies {
			if e := i.Peek(idOf(n)); e != nil && content(t, e) != body {
				t.Errorf("%s: wrong body of %d", what, n)
			}
		}
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err != nil || d.IsDir() || !strings.HasPrefix(name, "seg") && !strings.HasPrefix(name, "big") {
			return err
		}
		good, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		step := max(3, len(good)/60)
		if strings.HasPrefix(name, "big") {
			step = len(good) / 4
		}
		for at := 0; at < len(good); at += step {
			bad := bytes.Clone(good)
			bad[at] ^= 0x10
			try(name, bad, fmt.Sprintf("%s: byte %d of %d", name, at, len(good)))
		}
		try(name, good[:len(good)/2], name+": half")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if damaged < 30 || unnamed == 0 || doubtful == 0 {
		t.Errorf("%d damaged entries met, %d without a name, %d doubtful states: that is no test", damaged, unnamed, doubtful)
	}
}

// A store that is larger than any size one could think of is inspected as it
// is: entries, bans and all.
func TestInspectChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 64<<20)
	for n := range 200 {
		put(t, s, n, strings.Repeat("x", n*100))
	}
	put(t, s, 300, long(1))
	s.Ban(Ban{Keys: []Key{1, 2, 3}, Drop: true}, Ban{Site: "elsewhere", Flags: 1})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	i := inspect(t, dir)
	seen := make(map[ID]bool)
	for e := range i.Entries(t.Context()) {
		if seen[e.ID()] {
			t.Errorf("%s twice", e.Meta().Key)
		}
		seen[e.ID()] = true
	}
	files, bytes := i.Large()
	if len(seen) != 201 || i.Bans() != 4 || files != 1 || bytes < 70_000 {
		t.Errorf("%d entries, %d bans, %d files of %d bytes", len(seen), i.Bans(), files, bytes)
	}
	if _, err := Inspect(t.Context(), dir, nil, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	for e := range i.Entries(t.Context()) {
		if e.ID() == idOf(300) || e.ID() == idOf(7) {
			i.Delete(e)
		}
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 64<<20)
	defer s.Close()
	if n := s.Stat().Entries; n != 199 || s.Bans() != 4 || s.Peek(idOf(7)) != nil || s.Peek(idOf(300)) != nil {
		t.Errorf("%d entries, %d bans", n, s.Bans())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "big", "*", "*")); len(left) != 0 {
		t.Errorf("files of removed bodies: %q", left)
	}
}

// What is no store is not made one, and one that cannot be told from another
// is not begun anew.
func TestInspectMakesNoStore(t *testing.T) {
	dir := t.TempDir()
	if _, err := Inspect(t.Context(), dir, nil, nil); !errors.Is(err, ErrNoStore) {
		t.Errorf("an empty folder: %v", err)
	}
	s := open(t, filepath.Join(dir, "s"), 64<<20)
	put(t, s, 1, "one")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "s", storeFile), []byte("FRSHST09"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(t.Context(), filepath.Join(dir, "s"), nil, nil); !errors.Is(err, ErrNoStore) {
		t.Errorf("an unknown version: %v", err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "s", "seg", "*")); len(names) == 0 {
		t.Error("its segments were removed")
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("made: %v", names)
	}
}

// A superuser's look at the store of somebody else leaves nothing in it that
// its owner could not use.
func TestInspectGivesBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	s := open(t, dir, 64<<20)
	put(t, s, 1, "one")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	i := inspect(t, dir)
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "index", "*"))
	for _, name := range append(logs, filepath.Join(dir, "lock")) {
		if info, err := os.Stat(name); err != nil || ownerOf(info) != 12345 {
			t.Errorf("%s is not the owner's: %v", name, err)
		}
	}
}
