package inventory_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"freshet/internal/durable"
	"freshet/internal/inventory"
)

// sample is an inventory with something of everything.
func sample(t testing.TB, n int) *inventory.Inventory {
	t.Helper()
	var v inventory.Inventory
	all := files(n)
	for i, name := range []string{"", "unused", "b", "a"} {
		h, err := v.Holder(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "unused" {
			continue
		}
		for j := range all {
			if all[j].Size += int64(i % 2 * j % 3); name == "" {
				all[j].SHA256[j%32] = byte(j % 2)
			}
		}
		l := inventory.Listing{At: time.Unix(1_700_000_000+int64(i), 5000).UTC(), Generation: name, Entries: listed(all[i*n/14:]...)}
		if _, err := v.Project("p").Replace(h, l); err != nil {
			t.Fatal(err)
		}
		replace(t, v.Project("q"), h, inventory.Entry{Path: "top", Size: 3, ModTime: time.Unix(9, 0)}, inventory.Entry{Path: "a/b", Size: int64(i)})
	}
	v.Project("empty")
	return &v
}

func bytesOf(t testing.TB, v *inventory.Inventory) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := v.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What is saved is known again, by names: numbers may be others.
func TestSave(t *testing.T) {
	root := t.TempDir()
	dir, err := durable.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Root.Close()
	if _, err := inventory.Load(dir, "inventory"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	v := sample(t, 700)
	if err := v.Save(dir, "inventory"); err != nil {
		t.Fatal(err)
	}
	read, err := inventory.Load(dir, "inventory")
	if err != nil {
		t.Fatal(err)
	}
	if got := read.Projects(); !slices.Equal(got, []string{"empty", "p", "q"}) {
		t.Errorf("projects %q", got)
	}
	names := func(v *inventory.Inventory, s inventory.Set) (names []string) {
		for h := range s.All() {
			names = append(names, v.Name(h))
		}
		slices.Sort(names)
		return names
	}
	for _, project := range v.Projects() {
		was, is := v.Project(project).View(), read.Project(project).View()
		if was.Len() != is.Len() {
			t.Errorf("%s had %d files and has %d", project, was.Len(), is.Len())
		}
		for path, f := range was.Files("") {
			g, ok := is.Find(path)
			if !ok || !slices.Equal(names(v, f.Holders), names(read, g.Holders)) {
				t.Fatalf("%s was at %v and is at %v", path, names(v, f.Holders), names(read, g.Holders))
			}
			if f.Holders, g.Holders = (inventory.Set{}), (inventory.Set{}); f != g {
				t.Fatalf("%s was %+v and is %+v", path, f, g)
			}
		}
		for h, s := range was.Standings() {
			other, ok := read.Lookup(v.Name(h))
			if got := is.Standing(other); !ok || !got.Updated.Equal(s.Updated.Truncate(time.Microsecond)) || got.Files != s.Files || got.Generation != s.Generation {
				t.Errorf("%s: %q was %+v and is %+v", project, v.Name(h), s, got)
			}
		}
	}
	if _, ok := read.Lookup("unused"); ok {
		t.Error("a mirror of which nothing is known was saved")
	}
	if err := os.WriteFile(filepath.Join(root, "inventory"), []byte("FRSHINV0"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := inventory.Load(dir, "inventory"); !errors.Is(err, inventory.ErrFormat) || err.Error() != "inventory: it does not begin with FRSHINV1: not a sound inventory" {
		t.Error(err)
	}
}

// What was listed by a clock that was ahead counts as listed when it is read.
func TestLoadFromTheFuture(t *testing.T) {
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Root.Close()
	var v inventory.Inventory
	begin := time.Now()
	past, future := begin.Add(-time.Hour).Truncate(time.Second), begin.Add(1000*time.Hour)
	for project, at := range map[string]time.Time{"past": past, "future": future} {
		if _, err := v.Project(project).Replace(inventory.Origin, inventory.Listing{At: at, Entries: listed(files(3)...)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Save(dir, "inventory"); err != nil {
		t.Fatal(err)
	}
	read, err := inventory.Load(dir, "inventory")
	if err != nil {
		t.Fatal(err)
	}
	if at := read.Project("past").Updated(inventory.Origin); !at.Equal(past) {
		t.Errorf("what was listed at %v is of %v", past, at)
	}
	if at := read.Project("future").Updated(inventory.Origin); at.Before(begin.Truncate(time.Second)) || at.After(time.Now()) {
		t.Errorf("read at %v, it is of %v", begin, at)
	}
}

// Of a file that is cut or damaged anywhere nothing is taken.
func TestDamage(t *testing.T) {
	sound := bytesOf(t, sample(t, 300))
	random := rand.New(rand.NewPCG(5, 6))
	for n := range len(sound) {
		if n > 300 && random.IntN(50) > 0 && n != len(sound)-1 {
			continue
		}
		if _, err := inventory.Read(bytes.NewReader(sound[:n])); !errors.Is(err, inventory.ErrFormat) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(sound), err)
		}
		damaged := bytes.Clone(sound)
		damaged[n] ^= 1 << random.IntN(8)
		if _, err := inventory.Read(bytes.NewReader(damaged)); !errors.Is(err, inventory.ErrFormat) {
			t.Fatalf("byte %d of %d damaged: %v", n, len(sound), err)
		}
	}
	if _, err := inventory.Read(bytes.NewReader(append(bytes.Clone(sound), 0))); !errors.Is(err, inventory.ErrFormat) {
		t.Errorf("with a byte behind: %v", err)
	}
	cut := errors.New("cut")
	for _, n := range []int{3, 100, len(sound)} {
		if _, err := inventory.Read(io.MultiReader(bytes.NewReader(sound[:n]), iotest.ErrReader(cut))); !errors.Is(err, cut) || errors.Is(err, inventory.ErrFormat) {
			t.Errorf("an error after %d bytes: %v", n, err)
		}
	}
}

// Every other content is refused, or means the same when it is written again. The input
// is a file without its checksums: those are added.
func FuzzRead(f *testing.F) {
	f.Add(withoutSums(bytesOf(f, sample(f, 14))))
	f.Add(withoutSums(bytesOf(f, new(inventory.Inventory))))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := inventory.Read(bytes.NewReader(withSums(data)))
		if err != nil {
			if !errors.Is(err, inventory.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for _, name := range v.Projects() {
			view := v.Project(name).View()
			n := 0
			for path, file := range view.Files("") {
				n++
				if found, ok := view.Find(path); !ok || found != file || inventory.CheckPath(path) != nil {
					t.Fatalf("%q is %+v and found as %+v, %t", path, file, found, ok)
				}
			}
			if n != view.Len() {
				t.Fatalf("%d files of %d", n, view.Len())
			}
		}
		first := bytesOf(t, v)
		again, err := inventory.Read(bytes.NewReader(first))
		if err != nil {
			t.Fatal(err)
		}
		if second := bytesOf(t, again); !bytes.Equal(first, second) {
			t.Fatalf("written as %d bytes and then as %d", len(first), len(second))
		}
	})
}

const magicLen, headLen = 8, 9

// withoutSums takes the checksums of the blocks away.
func withoutSums(file []byte) []byte {
	out := bytes.Clone(file[:magicLen])
	for b := file[magicLen:]; len(b) >= headLen; {
		n := headLen + int(binary.LittleEndian.Uint32(b[1:]))
		out = append(append(out, b[:5]...), b[headLen:n]...)
		b = b[n:]
	}
	return out
}

// withSums adds them.
func withSums(data []byte) []byte {
	out := bytes.Clone(data[:min(magicLen, len(data))])
	for b := data[len(out):]; len(b) > 0; {
		if len(b) < 5 || uint64(binary.LittleEndian.Uint32(b[1:])) > uint64(len(b)-5) {
			return append(out, b...)
		}
		n := 5 + int(binary.LittleEndian.Uint32(b[1:]))
		sum := crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli))
		out = append(binary.LittleEndian.AppendUint32(append(out, b[:5]...), sum), b[5:n]...)
		b = b[n:]
	}
	return out
}
