package mirrorlist_test

import (
	"bytes"
	"runtime"
	"testing"

	"freshet/internal/mirrorlist/sample"
)

// sampleFile is the file of a network with so many directories.
func sampleFile(tb testing.TB, directories int) []byte {
	tb.Helper()
	s, err := sample.Snapshot(sample.Config{Directories: directories})
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Clone(encode(tb, s))
}

// memory is what the heap holds, and all that was ever taken from it.
func memory() (held, taken uint64) {
	runtime.GC()
	runtime.GC() // what the first one had to leave
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.TotalAlloc
}

// A director has a budget: a snapshot takes little memory, reading it leaves little
// garbage, and ten readings take no more than one. 165,000 directories are 53 MB then.
func TestMemory(t *testing.T) {
	const directories, perDirectory = 20_000, 320
	file := sampleFile(t, directories)
	heldBefore, takenBefore := memory()
	s := read(t, file)
	held, taken := memory()
	t.Logf("%d bytes of file, %d held and %d taken to read it, for each of %d directories", len(file)/s.NumDirectories(),
		int(held-heldBefore)/s.NumDirectories(), int(taken-takenBefore)/s.NumDirectories(), s.NumDirectories())
	if limit := heldBefore + perDirectory*directories; held > limit {
		t.Errorf("the heap has %d bytes, want %d at most", held, limit)
	}
	if limit := takenBefore + 3*perDirectory*directories; taken > limit {
		t.Errorf("%d bytes were taken from the heap, want %d at most", taken-takenBefore, limit-takenBefore)
	}
	for range 10 {
		s = read(t, file)
	}
	if again, _ := memory(); again > held+held/20 {
		t.Errorf("after ten more readings the heap has %d bytes, after one it had %d", again, held)
	}
	runtime.KeepAlive(s)
	runtime.KeepAlive(file)
}

func BenchmarkRead(b *testing.B) {
	file := sampleFile(b, 165_000)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		read(b, file)
	}
}

func BenchmarkDirectory(b *testing.B) {
	s := read(b, sampleFile(b, 20_000))
	var names []string
	for d := range s.Directories() {
		names = append(names, d.Name())
	}
	hosts := 0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d, _ := s.Directory(names[i*7919%len(names)])
		for _, h := range d.Global() {
			urls, _ := d.URLs(h)
			hosts += len(urls)
		}
	}
	b.ReportMetric(float64(hosts)/float64(b.N), "urls/op")
}
