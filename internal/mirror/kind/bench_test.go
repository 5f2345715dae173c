package kind_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/internal/mirror/kind"
)

// debianPackages is how many packages Debian 12 has in main for amd64.
const debianPackages = 63_440

// debian makes a suite as large as Debian's main for one architecture: 47 MB of index.
func debian(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	words := strings.Fields("library for the development shared files common runtime simple tool python perl access data format with support and documentation header static fast small")
	rng := rand.New(rand.NewPCG(1, 2))
	text := func(n int) string {
		var t strings.Builder
		for t.Len() < n {
			t.WriteString(words[rng.IntN(len(words))])
			t.WriteByte(' ')
		}
		return strings.TrimSpace(t.String())
	}
	var index bytes.Buffer
	for i := range debianPackages {
		name := fmt.Sprintf("lib%s%d-dev", words[rng.IntN(len(words))], i)
		sum := sha256.Sum256([]byte(name))
		fmt.Fprintf(&index, "Package: %s\nSource: %[1]s\nVersion: 1.%d-1\nInstalled-Size: %d\nMaintainer: %s <x@debian.example>\nArchitecture: amd64\nDepends: %s\n"+
			"Description: %s\nDescription-md5: %x\nMulti-Arch: same\nHomepage: https://x.example/%[1]s\nTag: %[8]s\nSection: libdevel\nPriority: optional\n"+
			"Filename: pool/main/l/%[1]s/%[1]s_1.%[2]d-1_amd64.deb\nSize: %[9]d\nMD5sum: %[7]x\nSHA256: %[10]x\n\n",
			name, i, rng.IntN(1e6), text(20), text(150), text(60), sum[:16], text(100), rng.IntN(1e7), sum)
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(index.Bytes()); err != nil {
		b.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		b.Fatal(err)
	}
	suite := filepath.Join(dir, "dists/bookworm")
	write(b, filepath.Join(suite, "main/binary-amd64/Packages.gz"), packed.String())
	write(b, filepath.Join(suite, "InRelease"), fmt.Sprintf("Suite: stable\nDate: Sat, 01 Jan 2022 10:00:00 UTC\nSHA256:\n %x %d main/binary-amd64/Packages\n %x %d main/binary-amd64/Packages.gz\n",
		sha256.Sum256(index.Bytes()), index.Len(), sha256.Sum256(packed.Bytes()), packed.Len()))
	b.ReportMetric(float64(index.Len())/1e6, "MB-of-index")
	return dir
}

// BenchmarkClosure reads all that a suite of Debian's size names, and looks every package
// up in what a mirror has. The goal is a second of CPU.
func BenchmarkClosure(b *testing.B) {
	dir := debian(b)
	tree := folder(dir)
	k, err := kind.New(kind.Config{Format: kind.Deb, Repositories: []string{"dists/bookworm"}, Architectures: []string{"amd64"}})
	if err != nil {
		b.Fatal(err)
	}
	list, err := k.Repositories(b.Context(), tree)
	if err != nil {
		b.Fatal(err)
	}
	have := make(map[string]int64, debianPackages)
	for f, err := range k.Files(b.Context(), tree, list[0], nil) {
		if err != nil {
			b.Fatal(err)
		}
		have[f.Path] = f.Size
	}
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		n := 0
		for f, err := range k.Files(b.Context(), tree, list[0], nil) {
			if err != nil {
				b.Fatal(err)
			}
			if size, ok := have[f.Path]; ok && size == f.Size {
				n++
			}
		}
		if n < debianPackages {
			b.Fatalf("%d of %d", n, debianPackages)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
}

// cpu is how long this process has computed.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
