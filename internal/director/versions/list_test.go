package versions

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freshet/api/directorapi"
	"freshet/internal/closure"
	"freshet/internal/durable"
	"freshet/internal/layout"
)

func openDir(tb testing.TB) durable.Dir {
	tb.Helper()
	dir, err := durable.Open(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = dir.Root.Close() })
	return dir
}

func seq(files []closure.File, end error) iter.Seq2[closure.File, error] {
	return func(yield func(closure.File, error) bool) {
		for _, f := range files {
			if !yield(f, nil) {
				return
			}
		}
		if end != nil {
			yield(closure.File{}, end)
		}
	}
}

func collect(list iter.Seq2[listed, error]) (all []listed, err error) {
	for f, e := range list {
		if err = e; err == nil {
			all = append(all, f)
		}
	}
	return all, err
}

var (
	listSum = digest("pointer")
	sha     = closure.Sum{Hash: crypto.SHA256, Value: strings.Repeat("s", 32)}
	sample  = []closure.File{
		{Path: "pool/a.deb", Size: 1 << 40, Sum: sha},
		{Path: "pool/a.deb", Size: 1 << 40, Sum: sha}, // in two indexes
		{Path: "pool/b.apk", Size: 0, Sum: closure.Sum{Hash: crypto.SHA256, Control: true, Value: strings.Repeat("c", 32)}},
		{Path: "dists/sid/main/Packages.gz", Size: 7, Sum: sha, Class: layout.Index, Optional: true},
		{Path: "dists/sid/main/by-hash/SHA256/" + strings.Repeat("a", 64), Size: 7, Sum: sha, Class: layout.Index, Optional: true},
		{Path: "odd.tar.gz", Size: 1}, // payload with the name of nothing known
		{Path: "dists/sid/Release.gpg", Size: -1, Class: layout.Pointer, Optional: true},
		{Path: "dists/sid/InRelease", Size: 9, Sum: closure.Sum{Hash: crypto.SHA256, Value: string(listSum[:])}, Class: layout.Pointer},
	}
)

func TestList(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	if _, err := collect(readList(dir, "x.list", listSum)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if err := writeList(dir, "x.list", listSum, seq(sample, nil)); err != nil {
		t.Fatal(err)
	}
	s := [32]byte([]byte(sha.Value))
	want := []listed{
		{path: "pool/a.deb", size: 1 << 40, sha256: s},
		{path: "pool/b.apk"},
		{path: "dists/sid/main/Packages.gz", size: 7, sha256: s, optional: true, named: true},
		{path: "dists/sid/main/by-hash/SHA256/" + strings.Repeat("a", 64), size: 7, sha256: s, optional: true},
		{path: "odd.tar.gz", size: 1},
		{path: "dists/sid/Release.gpg", size: -1, optional: true, named: true},
		{path: "dists/sid/InRelease", size: 9, sha256: listSum, named: true},
	}
	got, err := collect(readList(dir, "x.list", listSum))
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(listed{})); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if _, err := collect(readList(dir, "x.list", digest("another"))); !errors.Is(err, errList) {
		t.Errorf("of another version: %v", err)
	}
	for range readList(dir, "x.list", listSum) {
		break
	}
	// What ends with an error, or with another pointer, leaves the list that is there.
	broken := errors.New("broken")
	if err := writeList(dir, "x.list", listSum, seq(sample[:3], broken)); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if err := writeList(dir, "x.list", digest("another"), seq(sample, nil)); !errors.Is(err, closure.ErrInconsistent) {
		t.Errorf("error %v", err)
	}
	if err := writeList(dir, "x.list", listSum, seq([]closure.File{{Path: strings.Repeat("x", 5000)}}, nil)); err == nil {
		t.Error("a path of any length")
	}
	data, err := dir.Root.ReadFile("x.list")
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		for _, bad := range [][]byte{data[:i], append(append([]byte{}, data[:i]...), append([]byte{data[i] ^ 0x10}, data[i+1:]...)...)} {
			if err := dir.Root.WriteFile("y.list", bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := collect(readList(dir, "y.list", listSum)); !errors.Is(err, errList) {
				t.Errorf("cut or changed at %d: %v", i, err)
			}
		}
	}
}

// FuzzList reads anything as a list: it is refused, or all of it makes sense.
func FuzzList(f *testing.F) {
	dir := openDir(f)
	if err := writeList(dir, "x.list", listSum, seq(sample, nil)); err != nil {
		f.Fatal(err)
	}
	data, err := dir.Root.ReadFile("x.list")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(append([]byte(listMagic), listSum[:]...))
	f.Add(append(append([]byte(listMagic), listSum[:]...), "0\xc6\xc6\xc6\xc6\xc6\xc6\xc6\xc6\xc60"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := openDir(t)
		if err := dir.Root.WriteFile("x.list", data, 0o644); err != nil {
			t.Fatal(err)
		}
		all, err := collect(readList(dir, "x.list", listSum))
		if err != nil && !errors.Is(err, errList) {
			t.Errorf("error %v", err)
		}
		for _, f := range all {
			if f.size < -1 || len(f.path) > maxPath {
				t.Errorf("%+v", f)
			}
		}
	})
}

// FuzzState reads anything as a state: it is refused, or written the same.
func FuzzState(f *testing.F) {
	dir := openDir(f)
	var h history
	h.saw(listSum, time.Unix(1e9, 0))
	s := savedRepository{Project: "p", Pointer: "x", history: h}

	if err := saveState(dir, []savedRepository{s}); err != nil {
		f.Fatal(err)
	}
	data, err := dir.Root.ReadFile(stateName)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":1,"repositories":[{"project":"p","pointer":"x","versions":null,"went_back":{"m":"2026-01-02T03:04:05Z"}}]}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := openDir(t)
		if err := dir.Root.WriteFile(stateName, data, 0o644); err != nil {
			t.Fatal(err)
		}
		all, err := loadState(dir, time.Now())
		if err != nil {
			return
		}
		for k, s := range all {
			r := newRepository(k, directorapi.Repository{Kind: directorapi.KindRPM}, slog.New(slog.DiscardHandler))
			r.restore(s)
			if again := fmt.Sprint(r.saved()); len(s.Versions) > 0 && !strings.Contains(again, fmt.Sprint(s.Versions[0].Sum)) {
				t.Errorf("%v is restored as %v", s, again)
			}
		}
	})
}

// BenchmarkPass goes over a list as long as that of Debian's main for one architecture.
func BenchmarkPass(b *testing.B) {
	dir := openDir(b)
	files := make([]closure.File, 0, 63_441)
	for i := range 63_440 {
		files = append(files, closure.File{Path: fmt.Sprintf("pool/main/p/package-%d/package-%d_1_amd64.deb", i, i), Size: int64(i), Sum: sha})
	}
	if err := writeList(dir, "x.list", listSum, seq(append(files, sample[len(sample)-1]), nil)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range readList(dir, "x.list", listSum) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 63_441 {
			b.Fatal(n)
		}
	}
}
