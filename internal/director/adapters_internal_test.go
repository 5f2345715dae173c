package director

import (
	"iter"
	"testing"
	"testing/synctest"

	"freshet/internal/inventory"
)

// A sample that was taken before a hash was known, or before the origin had another
// version of the file, does not hide that.
func TestSampleIsUpToDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := new(inventory.Inventory)
		tree := inv.Project("p")
		mirror, err := inv.Holder("m")
		if err != nil {
			t.Fatal(err)
		}
		list := func(h inventory.Holder, e inventory.Entry) {
			t.Helper()
			var one iter.Seq2[inventory.Entry, error] = func(yield func(inventory.Entry, error) bool) { yield(e, nil) }
			if _, err := tree.Replace(h, inventory.Listing{Entries: one}); err != nil {
				t.Fatal(err)
			}
		}
		file := inventory.Entry{Path: "a.rpm", Size: 10}
		list(inventory.Origin, file)
		list(mirror, file)
		s := newSamples(inv, func(string, inventory.Holder, string) {})
		if f, ok := s.Sample("m", "p", 0); !ok || f.HasSHA256 || f.Size != 10 {
			t.Errorf("the sample is %+v, %t", f, ok)
		}
		file.SHA256 = [32]byte{1}
		list(inventory.Origin, file)
		if f, ok := s.Sample("m", "p", 0); !ok || !f.HasSHA256 || f.SHA256 != file.SHA256 {
			t.Errorf("with a hash the sample is %+v, %t", f, ok)
		}
		file.Size = 11
		list(inventory.Origin, file)
		if f, ok := s.Sample("m", "p", 0); ok {
			t.Errorf("the mirror has another version, and the sample is %+v", f)
		}
		list(mirror, file)
		if f, ok := s.Sample("m", "p", 0); !ok || f.Size != 11 {
			t.Errorf("the mirror has it, and the sample is %+v, %t", f, ok)
		}
	})
}

// A mirror is looked at by a file that it has, also if that is a long one, and the origin
// has better ones.
func TestSampleOfWhatThereIs(t *testing.T) {
	all := []inventory.Entry{{Path: "a.rpm", Size: 10}, {Path: "notes.txt", Size: 3}, {Path: "large.iso", Size: 1 << 30}, {Path: "empty", Size: 0}}
	for has := range all {
		inv := new(inventory.Inventory)
		tree := inv.Project("p")
		mirror, err := inv.Holder("m")
		if err != nil {
			t.Fatal(err)
		}
		for h, entries := range map[inventory.Holder][]inventory.Entry{inventory.Origin: all, mirror: all[has : has+1]} {
			var list iter.Seq2[inventory.Entry, error] = func(yield func(inventory.Entry, error) bool) {
				for _, e := range entries {
					if !yield(e, nil) {
						return
					}
				}
			}
			if _, err := tree.Replace(h, inventory.Listing{Entries: list}); err != nil {
				t.Fatal(err)
			}
		}
		if f, ok := newSamples(inv, func(string, inventory.Holder, string) {}).Sample("m", "p", 7); !ok || f.Path != all[has].Path {
			t.Errorf("of a mirror that has %s the sample is %+v, %t", all[has].Path, f, ok)
		}
	}
}
