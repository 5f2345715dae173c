package generation_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"freshet/internal/durable"
	"freshet/internal/extsort"
	"freshet/internal/mirror/generation"
)

// The benchmarks make their input themselves, once, below the folder for temporary
// files; name one on the disk that is meant in TMPDIR.

const (
	benchFolders = 560
	benchFiles   = 200_000
	wantedFiles  = 300_000
)

// benchFile is one of the input, sorted by number.
func benchFile(i, files int) (generation.File, []byte) {
	perFolder := (files + benchFolders - 1) / benchFolders
	data := fmt.Appendf(nil, "content %d\n", i)
	return generation.File{
		Path: fmt.Sprintf("linux/releases/Packages/%03d/package-%06d-1.fc44.x86_64.rpm", i/perFolder, i),
		Size: int64(len(data)), ModTime: epoch.Add(time.Duration(i) * time.Second), SHA256: sha256.Sum256(data),
	}, data
}

func benchStore(b *testing.B, files int, opts generation.Options) (string, *generation.Project) {
	b.Helper()
	dir := b.TempDir()
	return dir, filledStore(b, dir, files, opts)
}

// filledStore makes a store with a generation of so many files.
func filledStore(b testing.TB, dir string, files int, opts generation.Options) *generation.Project {
	b.Helper()
	s, err := generation.Open(b.Context(), dir, opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	p := project(b, s)
	st, err := p.Stage(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	for i := range files {
		f, data := benchFile(i, files)
		temp := durable.TempName()
		if err := os.WriteFile(filepath.Join(st.Incoming(), temp), data, 0o644); err != nil {
			b.Fatal(err)
		}
		if _, err := st.Place(f, temp); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := st.Commit(b.Context(), generation.Meta{}); err != nil {
		b.Fatal(err)
	}
	b.Logf("the first generation of %d files took %s", files, time.Since(began))
	return p
}

// again makes a generation with the same files.
func again(ctx context.Context, p *generation.Project) (*generation.Generation, error) {
	st, err := p.Stage(ctx)
	if err != nil {
		return nil, err
	}
	for f, err := range st.Base().Files() {
		if err != nil {
			return nil, err
		}
		if ok, err := st.Keep(st.Base(), f); err != nil || !ok {
			return nil, errors.Join(err, fmt.Errorf("%s: kept: %t", f.Path, ok))
		}
	}
	return st.Commit(ctx, generation.Meta{})
}

// resetPeak begins to count the process's peak of memory anew; peak is that since.
func resetPeak(b *testing.B) {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Skip(err)
	}
}

func peak(b *testing.B) float64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kb) / 1024
}

// BenchmarkGeneration makes a generation of 200,000 files that are all there.
func BenchmarkGeneration(b *testing.B) {
	dir, p := benchStore(b, benchFiles, generation.Options{UnlinksPerSecond: 1 << 30})
	before := usage(b, dir)
	resetPeak(b)
	n := 0
	for b.Loop() {
		if _, err := again(b.Context(), p); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(peak(b), "peak-MiB")
	after := usage(b, dir)
	b.ReportMetric(float64(after.inodes-before.inodes)/float64(n), "inodes")
	b.ReportMetric(float64(after.bytes-before.bytes)/float64(n)/(1<<20), "disk-MiB")
}

// BenchmarkRetire removes a generation of 200,000 files as fast as it can.
func BenchmarkRetire(b *testing.B) {
	_, p := benchStore(b, benchFiles, generation.Options{UnlinksPerSecond: 1 << 30})
	for b.Loop() {
		b.StopTimer()
		if _, err := again(b.Context(), p); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := p.Retire(b.Context(), -time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServeWhileRetiring opens and reads files while a generation is removed at
// the default pace, and when nothing else happens.
func BenchmarkServeWhileRetiring(b *testing.B) {
	_, p := benchStore(b, benchFiles, generation.Options{})
	const reads = 20_000
	measure := func() []time.Duration {
		took := make([]time.Duration, 0, reads)
		for i := range reads {
			f, _ := benchFile(i*9973%benchFiles, benchFiles)
			began := time.Now()
			if _, _, err := read(p, f.Path); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		return took
	}
	for b.Loop() {
		measure()
		idle := measure()
		if _, err := again(b.Context(), p); err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error)
		go func() {
			_, err := p.Retire(ctx, -time.Hour)
			done <- err
		}()
		busy := measure()
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			b.Fatal(err)
		}
		b.ReportMetric(float64(idle[reads*99/100].Nanoseconds()), "idle-p99-ns")
		b.ReportMetric(float64(busy[reads*99/100].Nanoseconds()), "retiring-p99-ns")
	}
}

// BenchmarkNoChange compares 300,000 wanted files, which come in any order, with the
// generation that has all of them.
func BenchmarkNoChange(b *testing.B) {
	_, p := benchStore(b, wantedFiles, generation.Options{})
	resetPeak(b)
	for b.Loop() {
		sorter := extsort.Sorter{Dir: b.TempDir()}
		for i := range wantedFiles {
			f, _ := benchFile(i*99991%wantedFiles, wantedFiles)
			if err := sorter.Add(f.Path, f.SHA256[:]); err != nil {
				b.Fatal(err)
			}
		}
		same := 0
		for pair, err := range generation.Join(p.Current().Files(), sorter.All(), generation.PathOf, func(r *extsort.Record) string { return r.Key }) {
			if err != nil {
				b.Fatal(err)
			}
			if pair.Left != nil && pair.Right != nil && [32]byte(pair.Right.Value) == pair.Left.SHA256 {
				same++
			}
		}
		if same != wantedFiles {
			b.Fatal(same)
		}
		if err := sorter.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(peak(b), "peak-MiB")
}

// BenchmarkManifest reads the manifest of 300,000 files.
func BenchmarkManifest(b *testing.B) {
	dir, p := benchStore(b, wantedFiles, generation.Options{})
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range p.Current().Files() {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != wantedFiles {
			b.Fatal(n)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "projects/demo/current/manifest.zst")); err == nil {
		b.ReportMetric(float64(info.Size())/wantedFiles, "B/file")
	}
}
