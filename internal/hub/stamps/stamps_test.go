package stamps_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"freshet/internal/hub/stamps"
	"freshet/internal/ostree"
)

func name(i int) ostree.ObjectName {
	return ostree.ObjectName{Checksum: ostree.ChecksumOf(binary.BigEndian.AppendUint64(nil, uint64(i))), Type: ostree.TypeFile}
}

func stampOf(t *testing.T, path string) stamps.Stamp {
	t.Helper()
	var stat syscall.Stat_t
	if err := syscall.Lstat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stamps.Of(&stat)
}

// TestBook: whatever happens to a file but a second name is noticed.
func TestBook(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	write := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		// Whoever writes within the same tick of the clock is not noticed by time.
		at := time.Unix(1_700_000_000, 0)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("before")
	var book stamps.Book
	expect := func(what string, of ostree.ObjectName, want stamps.State, wantSymlink bool) {
		t.Helper()
		if symlink, state := book.Find(of, stampOf(t, file)); state != want || symlink != wantSymlink {
			t.Errorf("%s: %d, %t; want %d, %t", what, state, symlink, want, wantSymlink)
		}
	}
	expect("empty", name(1), stamps.Unknown, false)
	if book.Awaited(name(1)) {
		t.Error("an empty book awaits an object")
	}
	if more := book.Await(name(1)) + book.Await(name(1)); more != 1 || !book.Awaited(name(1)) || book.Awaited(name(2)) {
		t.Errorf("awaited: %d more", more)
	}
	expect("awaited", name(1), stamps.Unknown, false)
	if more := book.Note(name(1), stampOf(t, file), stamps.Same, true) + book.Await(name(1)); more != 0 || book.Awaited(name(1)) {
		t.Errorf("noted: %d more", more)
	}
	expect("noted", name(1), stamps.Same, true)
	expect("another object", name(2), stamps.Unknown, false)
	other := name(1)
	other.Type = ostree.TypeDirTree
	expect("another type", other, stamps.Unknown, false)

	if err := os.Link(file, file+".2"); err != nil {
		t.Fatal(err)
	}
	expect("a second name", name(1), stamps.Same, true)
	at := time.Unix(1_700_000_000, 1)
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
	expect("written later", name(1), stamps.Changed, false)
	write("longer than before")
	expect("another size", name(1), stamps.Changed, false)
	if more := book.Note(name(1), stampOf(t, file), stamps.Probed, false); more != 0 {
		t.Errorf("%d more", more)
	}
	expect("noted again", name(1), stamps.Probed, false)
	if err := os.Remove(file); err != nil { // its second name keeps the inode
		t.Fatal(err)
	}
	write("longer than before")
	expect("replaced", name(1), stamps.Changed, false)

	if fewer := book.Forget(); fewer != 1 {
		t.Errorf("%d fewer", fewer)
	}
	expect("forgotten", name(1), stamps.Unknown, false)
}

func BenchmarkFind(b *testing.B) {
	var book stamps.Book
	stamp := stamps.Stamp{Inode: 1, Size: 3000, Seconds: 1_700_000_000}
	names := make([]ostree.ObjectName, 1<<14)
	for i := range names {
		names[i] = name(i)
		book.Note(names[i], stamp, stamps.Same, false)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, state := book.Find(names[i&(len(names)-1)], stamp); state != stamps.Same {
			b.Fatal(state)
		}
		i++
	}
}
