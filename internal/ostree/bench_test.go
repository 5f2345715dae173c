package ostree_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"freshet/internal/ostree"
)

// mixed returns bytes that deflate to about half, as programs do.
func mixed(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, n)
	for i := 0; i < n; i += 16 {
		if i >= 4096 && r.IntN(2) == 0 {
			copy(data[i:min(i+16, n)], data[i-16*(1+r.IntN(200)):])
			continue
		}
		for j := i; j < min(i+16, n); j++ {
			data[j] = byte(r.Uint32() & 0x7f)
		}
	}
	return data
}

func bigTree() *ostree.DirTree {
	d := &ostree.DirTree{}
	for i := range 4000 {
		d.Files = append(d.Files, ostree.TreeFile{Name: fmt.Sprintf("file-%06d.txt", i), File: ostree.Checksum{byte(i)}})
	}
	return d
}

func BenchmarkParseDirTree(b *testing.B) {
	data := bigTree().Encode()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ostree.ParseDirTree(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeDirTree(b *testing.B) {
	d := bigTree()
	b.SetBytes(int64(len(d.Encode())))
	b.ReportAllocs()
	for b.Loop() {
		d.Encode()
	}
}

func BenchmarkParseCommit(b *testing.B) {
	data := goldenFiles(b, ".commit")[0]
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ostree.ParseCommit(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteFilez(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			content := mixed(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ostree.WriteFilez(io.Discard, ostree.RegularFile(false), uint64(size), bytes.NewReader(content), ostree.DefaultCompression); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerifyObject(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			name, data := filez(b, ostree.RegularFile(false), string(mixed(size)))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ostree.VerifyObject(name, bytes.NewReader(data)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSummary(b *testing.B) {
	from := summaryOf(4000)
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(int64(len(from)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ostree.ParseSummary(from); err != nil {
				b.Fatal(err)
			}
		}
	})
}
