package relied_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"freshet/internal/hub/relied"
	"freshet/internal/ostree"
)

func names(texts ...string) (all []ostree.ObjectName) {
	for _, text := range texts {
		all = append(all, ostree.ObjectName{Checksum: ostree.ChecksumOf([]byte(text)), Type: ostree.TypeFile})
	}
	return all
}

// TestList: a reader gets each object once, whoever wrote it, and whatever a killed
// process left.
func TestList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list, reader := relied.List{Dir: dir}, relied.Reader{Dir: dir}
	next := func(want ...ostree.ObjectName) {
		t.Helper()
		if got, err := reader.Next(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	}
	add := func(l *relied.List, all ...ostree.ObjectName) {
		t.Helper()
		if err := l.Add(all...); err != nil {
			t.Fatal(err)
		}
	}
	next()
	add(&list, names("a", "b")...)
	next(names("a", "b")...)
	add(&list, names("b", "c")...)
	next(names("c")...)
	next()
	path := filepath.Join(dir, ".relied")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Killed while it wrote.
	torn := append(slices.Clone(before), names("d")[0].String()[:30]...)
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	next()
	list.Forget()
	add(&list, names("c", "e")...)
	next(names("e")...)
	again := relied.List{Dir: dir}
	add(&again, names("a", "e", "d")...)
	next(names("d")...)
	// The build is made anew.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next()
	fresh := relied.List{Dir: dir}
	add(&fresh, names("1", "2", "3", "4", "5", "6", "7", "8", "9")...)
	next(names("1", "2", "3", "4", "5", "6", "7", "8", "9")...)
}
