package inventory_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/inventory"
)

// files returns n entries.
func files(n int) []inventory.Entry {
	entries := make([]inventory.Entry, n)
	for i := range entries {
		entries[i] = inventory.Entry{Path: fmt.Sprintf("Packages/%c/package-%d.rpm", 'a'+i%26, i), Size: int64(i)}
	}
	return entries
}

func replace(t testing.TB, tree *inventory.Tree, h inventory.Holder, entries ...inventory.Entry) inventory.Change {
	t.Helper()
	c, err := tree.Replace(h, inventory.Listing{Entries: listed(entries...)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func holdersOf(t testing.TB, tree *inventory.Tree, path string) []inventory.Holder {
	t.Helper()
	f, ok := tree.Find(path)
	if !ok {
		t.Fatalf("%s is not found", path)
	}
	return slices.Collect(f.Holders.All())
}

// A mirror that has another version is not offered, and is once the origin has that too.
func TestVersions(t *testing.T) {
	var tree inventory.Tree
	old, next := inventory.Entry{Path: "a/x", Size: 1}, inventory.Entry{Path: "a/x", Size: 2}
	replace(t, &tree, inventory.Origin, old)
	replace(t, &tree, 1, old)
	replace(t, &tree, 2, next)
	if got := holdersOf(t, &tree, "a/x"); !slices.Equal(got, []inventory.Holder{1}) {
		t.Fatalf("the old version is at %v", got)
	}
	replace(t, &tree, inventory.Origin, next)
	if got := holdersOf(t, &tree, "a/x"); !slices.Equal(got, []inventory.Holder{2}) {
		t.Fatalf("the new version is at %v", got)
	}
	if got := tree.View().Held(old); got != inventory.SetOf(1) {
		t.Fatalf("the old version is held by %v", slices.Collect(got.All()))
	}
	if _, err := tree.Apply(inventory.Origin, inventory.Delta{Entries: listed(inventory.Entry{Path: "a/x", Gone: true}, inventory.Entry{Path: "b", Size: 1})}); err != nil {
		t.Fatal(err)
	}
	if _, ok := tree.Find("a/x"); ok {
		t.Fatal("a file is found that the origin has no more")
	}
	tree.Drop(1)
	tree.Drop(2)
	if f, ok := tree.Find("b"); !ok || f.Holders != (inventory.Set{}) || tree.View().Held(next) != (inventory.Set{}) {
		t.Fatalf("after all mirrors are dropped: %+v, %t", f, ok)
	}
}

// Hashes decide where both tell one. Only those of the origin are told, and they stay
// while it does not touch the file.
func TestHashes(t *testing.T) {
	var tree inventory.Tree
	at := time.Unix(1_700_000_000, 0)
	plain := inventory.Entry{Path: "f", Size: 7, ModTime: at}
	one, two := plain, plain
	one.SHA256[0], two.SHA256[0] = 1, 2
	replace(t, &tree, 1, one)
	replace(t, &tree, 3, plain)
	replace(t, &tree, inventory.Origin, plain)
	if f, _ := tree.Find("f"); f.HasSHA256() || f.Holders != inventory.SetOf(1, 3) {
		t.Fatalf("a hash that the mirror told: %+v", f)
	}
	replace(t, &tree, inventory.Origin, two)
	replace(t, &tree, 1, one)
	replace(t, &tree, 2, two)
	replace(t, &tree, inventory.Origin, plain)
	if f, _ := tree.Find("f"); f.SHA256 != two.SHA256 || f.Holders != inventory.SetOf(2, 3) {
		t.Fatalf("the origin told a hash and then none: %+v", f)
	}
	plain.ModTime = at.Add(time.Second)
	replace(t, &tree, inventory.Origin, plain)
	if f, _ := tree.Find("f"); f.HasSHA256() || !f.ModTime.Equal(plain.ModTime) || f.Holders != inventory.SetOf(2, 3) {
		t.Fatalf("the origin touched the file: %+v", f)
	}
}

// A listing that lacks much is refused, and the next one counts.
func TestShrunk(t *testing.T) {
	var tree inventory.Tree
	all := files(100)
	for _, h := range []inventory.Holder{inventory.Origin, 1} {
		replace(t, &tree, h, all...)
		replace(t, &tree, h, all[:60]...)
		replace(t, &tree, h, all...)
		_, err := tree.Replace(h, inventory.Listing{At: time.Unix(5, 0), Entries: listed(all[:59]...)})
		if s := tree.View().Standing(h); !errors.Is(err, inventory.ErrShrunk) || !strings.Contains(err.Error(), "41 of 100") || s.Files != 100 || s.Refused != time.Unix(5, 0) {
			t.Fatalf("a listing without 41 of 100 files: %v, %+v", err, s)
		}
		if c := replace(t, &tree, h, all[:3]...); c.Files != 3 || c.Removed != 97 {
			t.Fatalf("the second such listing: %+v", c)
		}
		replace(t, &tree, h, all...)
		if _, err := tree.Replace(h, inventory.Listing{Entries: listed(all[:3]...)}); !errors.Is(err, inventory.ErrShrunk) {
			t.Fatalf("a confirmation counts once: %v", err)
		}
		if c := replace(t, &tree, h, all...); c.Files != 100 || !tree.View().Standing(h).Refused.IsZero() {
			t.Fatalf("a listing that lacks nothing: %+v", c)
		}
	}
}

// An error in a listing, or a delta that does not fit, changes nothing.
func TestErrors(t *testing.T) {
	var tree inventory.Tree
	replace(t, &tree, 1, files(5)...)
	before := tree.View()
	cut := errors.New("cut")
	broken := func(yield func(inventory.Entry, error) bool) {
		_ = yield(inventory.Entry{Path: "new"}, nil) && yield(inventory.Entry{}, cut)
	}
	if _, err := tree.Replace(1, inventory.Listing{Entries: broken}); !errors.Is(err, cut) {
		t.Error(err)
	}
	if _, err := tree.Apply(1, inventory.Delta{Entries: broken}); !errors.Is(err, cut) {
		t.Error(err)
	}
	if _, err := tree.Replace(1, inventory.Listing{Entries: listed(inventory.Entry{Path: "a", Gone: true})}); err == nil {
		t.Error("a listing tells that something is gone")
	}
	for _, d := range []inventory.Delta{{Base: "x", Generation: "y"}, {Generation: "y", Base: "z"}} {
		d.Entries = listed(files(9)...)
		if _, err := tree.Apply(1, d); !errors.Is(err, inventory.ErrGap) {
			t.Error(err)
		}
		if _, err := tree.Apply(2, d); !errors.Is(err, inventory.ErrGap) {
			t.Error(err)
		}
	}
	if tree.View() != before {
		t.Error("the tree has changed")
	}
}

// What is not a clean path is not kept, and of what the origin lacks not any number.
func TestIgnored(t *testing.T) {
	var tree inventory.Tree
	bad := []string{"", "/", "/a", "a/", "a//b", "./a", "a/./b", "../a", "a/..", "a\x00b", "a\nb/c", "a/b\n", strings.Repeat("a", 256), strings.Repeat("a", 256) + "/b", strings.Repeat("a/", 512) + "b"}
	var entries []inventory.Entry
	for _, path := range bad {
		if inventory.CheckPath(path) == nil {
			t.Errorf("%q is a clean path", path)
		}
		entries = append(entries, inventory.Entry{Path: path})
	}
	good := []string{"a", "...", "a/b c/\xff", strings.Repeat("a", 255), strings.Repeat("a/", 511) + "bb"}
	for _, path := range good {
		if err := inventory.CheckPath(path); err != nil {
			t.Error(err)
		}
		entries = append(entries, inventory.Entry{Path: path})
	}
	if c := replace(t, &tree, inventory.Origin, entries...); c.Ignored != len(bad) || c.Files != len(good) {
		t.Errorf("of %d good and %d bad paths: %+v", len(good), len(bad), c)
	}
	if c := replace(t, &tree, 1, files(100_050)...); c.Files != 100_001 || c.Ignored != 49 {
		t.Errorf("of 100050 files that the origin does not have: %+v", c)
	}
}

// A mirror is not offered for a file that it was said to lack, until it lists it again.
func TestDoubt(t *testing.T) {
	var tree inventory.Tree
	all := files(30)
	for h := range inventory.Holder(3) {
		replace(t, &tree, h, all...)
	}
	tree.Doubt(1, all[7].Path)
	serial := tree.View().Serial()
	tree.Doubt(1, all[7].Path)
	tree.Doubt(1, "nothing")
	tree.Doubt(9, all[7].Path)
	if got := holdersOf(t, &tree, all[7].Path); !slices.Equal(got, []inventory.Holder{2}) || tree.View().Serial() != serial {
		t.Fatalf("a doubtful file is at %v", got)
	}
	replace(t, &tree, 1, all...)
	if got := holdersOf(t, &tree, all[7].Path); !slices.Equal(got, []inventory.Holder{1, 2}) {
		t.Fatalf("a file that is listed again is at %v", got)
	}
}

// Who holds all of several files, and who covers a folder.
func TestHolding(t *testing.T) {
	var tree inventory.Tree
	all := files(60)
	replace(t, &tree, inventory.Origin, all...)
	replace(t, &tree, 1, all...)
	replace(t, &tree, 2, all[1:]...) // without one in Packages/a/
	v := tree.View()
	for _, c := range []struct {
		entries []inventory.Entry
		want    inventory.Set
	}{
		{all, inventory.SetOf(1)},
		{all[1:], inventory.SetOf(1, 2)},
		{append(slices.Clone(all[1:]), inventory.Entry{Path: "else"}), inventory.Set{}},
		{nil, inventory.Set{}},
	} {
		if got := v.Holding(slices.Values(c.entries)); got != c.want {
			t.Errorf("%d files are held by %v", len(c.entries), slices.Collect(got.All()))
		}
	}
	everything := func(string) bool { return true }
	for prefix, want := range map[string]inventory.Set{"": inventory.SetOf(1), "Packages/": inventory.SetOf(1), "Packages/a/": inventory.SetOf(1), "Packages/b/": inventory.SetOf(1, 2), "x/": {}} {
		if got := v.Covers(prefix, everything); got != want {
			t.Errorf("%q is covered by %v", prefix, slices.Collect(got.All()))
		}
	}
	if got := v.Covers("", func(path string) bool { return path != all[0].Path }); got != inventory.SetOf(1, 2) {
		t.Errorf("without the file that does not count: %v", slices.Collect(got.All()))
	}
}

// Updates of others while a listing is read are not undone by it.
func TestUpdatesMeet(t *testing.T) {
	var tree inventory.Tree
	all := files(2000)
	replace(t, &tree, inventory.Origin, all...)
	during := func(change func()) iter.Seq2[inventory.Entry, error] {
		return func(yield func(inventory.Entry, error) bool) {
			for i, e := range all {
				if i == 1000 {
					change()
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
	moved := inventory.Entry{Path: all[3].Path, Size: 77}
	if _, err := tree.Replace(1, inventory.Listing{Entries: during(func() {
		replace(t, &tree, 2, all[:1500]...)
		more := append([]inventory.Entry{moved, {Path: "Packages/a/new", Size: 1}}, all[4:]...)
		replace(t, &tree, inventory.Origin, more...)
	})}); err != nil {
		t.Fatal(err)
	}
	want := []inventory.Set{inventory.SetOf(1, 2), inventory.SetOf(1, 2), inventory.SetOf(1)}
	for i, e := range []inventory.Entry{all[3], all[1000], all[1999]} {
		if got := tree.View().Held(e); got != want[i] {
			t.Errorf("%s is held by %v", e.Path, slices.Collect(got.All()))
		}
	}
	if f, ok := tree.Find(moved.Path); !ok || f.Size != 77 || f.Holders != (inventory.Set{}) {
		t.Errorf("the file that the origin has changed: %+v", f)
	}
	if _, ok := tree.Find(all[0].Path); ok {
		t.Error("a file that the origin has no more is found")
	}
	if s := tree.View().Standing(1); s.Files != 2000 {
		t.Errorf("%+v", s)
	}
}

// Readers see whole updates only, and never wait; the race detector looks on.
func TestReadersBeside(t *testing.T) {
	var tree inventory.Tree
	odd, even := files(1000), files(1000)
	for i := range even {
		even[i].Size += 1000
	}
	replace(t, &tree, inventory.Origin, odd...)
	replace(t, &tree, 1, odd...)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				v := tree.View()
				odds, evens := v.Holding(slices.Values(odd)), v.Holding(slices.Values(even))
				if odds.Len()+evens.Len() != 1 {
					t.Errorf("of two versions the mirror has %d and %d", odds.Len(), evens.Len())
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range 20 {
		replace(t, &tree, 1, even...)
		replace(t, &tree, 1, odd...)
	}
	close(stop)
	readers.Wait()
}

// Names keep their numbers.
func TestHolders(t *testing.T) {
	var v inventory.Inventory
	for i, name := range []string{"", "b", "a", "b", ""} {
		h, err := v.Holder(name)
		if want := []inventory.Holder{0, 1, 2, 1, 0}[i]; err != nil || h != want || v.Name(h) != name {
			t.Errorf("%q has number %d and not %d: %v, %q", name, h, want, err, v.Name(h))
		}
	}
	if _, ok := v.Lookup("c"); ok || v.Name(3) != "" {
		t.Error("nobody has a number")
	}
	for i := 2; i < 1<<16-1; i++ {
		if _, err := v.Holder(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.Holder("one more"); !errors.Is(err, inventory.ErrTooMany) {
		t.Error(err)
	}
}

func TestProjects(t *testing.T) {
	var v inventory.Inventory
	p := v.Project("p")
	if v.Project("p") != p || v.Project("q") == p {
		t.Error("projects have their own trees")
	}
	before := v.Serial()
	replace(t, p, 1, files(1)...)
	if after := v.Serial(); after <= before {
		t.Errorf("the serial %d became %d", before, after)
	}
	v.DropProject("q")
	if got := v.Projects(); !slices.Equal(got, []string{"p"}) {
		t.Error(got)
	}
}
