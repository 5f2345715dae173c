package inventory_test

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"freshet/internal/inventory"
	"freshet/internal/inventory/manifest"
)

const (
	benchFiles   = 1_000_000
	benchMirrors = 60
)

// benchPaths returns paths as those of a distribution: releases and architectures with
// packages in folders of a letter, named by version.
func benchPaths(n int) []string {
	random := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("python3 lib perl rust golang nodejs texlive kernel glibc qt6 kf6 gnome rubygem ghc php mingw64 erlang ocaml java R")
	paths := make([]string, 0, n)
	for release := 1; ; release++ {
		for _, arch := range []string{"x86_64/os", "aarch64/os", "source/tree", "x86_64/debug/tree", "ppc64le/os", "s390x/os"} {
			for letter := 'a'; letter <= 'z'; letter++ {
				for i := range 40 + random.IntN(900) {
					if len(paths) == n {
						return paths
					}
					paths = append(paths, fmt.Sprintf("linux/releases/%d/Everything/%s/Packages/%c/%c%s-%s%d-%d.%d.%d-%d.fc%d.%s.rpm", release, arch, letter, letter,
						words[random.IntN(len(words))], words[random.IntN(len(words))], i, random.IntN(20), random.IntN(30), random.IntN(9), 1+random.IntN(5), release,
						[]string{"noarch", "x86_64"}[random.IntN(2)]))
				}
			}
		}
	}
}

// benchWorld is a network of mirrors: two thirds have everything, a quarter some of the
// releases, the rest lacks files here and there.
type benchWorld struct{ paths []string }

func (w benchWorld) listing(h inventory.Holder) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		random := rand.New(rand.NewPCG(uint64(h), 0))
		at := time.Unix(1_700_000_000, 0)
		for i, path := range w.paths {
			e := inventory.Entry{Path: path, Size: int64(i) * 37 % 9_000_000, ModTime: at.Add(time.Duration(i%100_000) * time.Minute)}
			switch {
			case h == inventory.Origin:
				for j := range 4 {
					e.SHA256[j*8] = byte(i >> (8 * j))
				}
				e.SHA256[31] = 1
			case h > 55 && random.IntN(50) == 0:
				continue
			case h > 40 && h <= 55 && int(path[len("linux/releases/")]-'0')%3 == int(h)%3:
				continue
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (w benchWorld) fill(b testing.TB, v *inventory.Inventory, mirrors int) *inventory.Tree {
	b.Helper()
	tree := v.Project("fedora")
	for i := range mirrors + 1 {
		name := ""
		if i > 0 {
			name = fmt.Sprintf("mirror%02d", i)
		}
		h, err := v.Holder(name)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tree.Replace(h, inventory.Listing{Entries: w.listing(h)}); err != nil {
			b.Fatal(err)
		}
	}
	return tree
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

func BenchmarkFind(b *testing.B) {
	w := benchWorld{benchPaths(benchFiles)}
	var v inventory.Inventory
	tree := w.fill(b, &v, 2)
	random := rand.New(rand.NewPCG(3, 4))
	asked := make([]string, 1<<17) // lying one behind the other, as a request's path is at hand
	for i := range asked {
		asked[i] = strings.Clone(w.paths[random.IntN(len(w.paths))])
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if f, ok := tree.Find(asked[i%len(asked)]); !ok || !f.Holders.Has(1) {
			b.Fatal("not found")
		}
	}
}

// What an inventory of a million files on 60 mirrors needs, and what scans of it cost.
func BenchmarkMillion(b *testing.B) {
	w := benchWorld{benchPaths(benchFiles)}
	for range b.N {
		base := heap()
		start := time.Now()
		v := new(inventory.Inventory)
		tree := w.fill(b, v, benchMirrors)
		b.ReportMetric(time.Since(start).Seconds()/(benchMirrors+1), "s/first-listing")
		b.ReportMetric(heap()-base, "MB-heap")

		var file bytes.Buffer
		start = time.Now()
		if err := v.Write(&file); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/save")
		b.ReportMetric(float64(file.Len())/1e6, "MB-file")
		start = time.Now()
		read, err := inventory.Read(bytes.NewReader(file.Bytes()))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/load")
		runtime.KeepAlive(read)

		before := heap()
		start = time.Now()
		if c, err := tree.Replace(1, inventory.Listing{Entries: w.listing(1)}); err != nil || c.Added+c.Removed != 0 {
			b.Fatal(c, err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/unchanged")
		b.ReportMetric(heap()-before, "MB-grown")

		var told bytes.Buffer
		m, err := manifest.NewWriter(&told, manifest.Head{Project: "fedora", Generation: "1"})
		if err != nil {
			b.Fatal(err)
		}
		for e := range w.listing(inventory.Origin) {
			if err := m.Add(e); err != nil {
				b.Fatal(err)
			}
		}
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
		start = time.Now()
		r, err := manifest.NewReader(&told)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Into(tree, 2); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/manifest")

		start = time.Now()
		delta := func(yield func(inventory.Entry, error) bool) {
			for i := range 1000 {
				if !yield(inventory.Entry{Path: w.paths[i*997], Gone: true}, nil) {
					return
				}
			}
		}
		if c, err := tree.Apply(3, inventory.Delta{Entries: delta}); err != nil || c.Removed != 1000 {
			b.Fatal(c, err)
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ms/delta-1000")
		start = time.Now()
		covered := tree.View().Covers("linux/", func(string) bool { return true })
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ms/covers")
		if covered.Len() != 39 {
			b.Fatal(covered.Len())
		}
		runtime.KeepAlive(v)
	}
}
