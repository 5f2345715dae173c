package splice

import (
	"bytes"
	stdflate "compress/flate"
	stdgzip "compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"
	"testing/iotest"

	"freshet/internal/peertest"
)

// text returns size bytes that compress about as well as prose does.
func text(rng *rand.Rand, size int) []byte {
	words := []string{"delta ", "summary ", "<p>", "</p>\n", "hub ", "edge ", "object ", "7f3a ", "stable/"}
	var b []byte
	for len(b) < size {
		b = append(b, words[rng.IntN(len(words))]...)
		b = append(b, byte('a'+rng.IntN(26)))
	}
	return b[:size]
}

func makeSegments(n, size int) []Segment {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	segments := make([]Segment, n)
	for i := range segments {
		data := text(rng, size)
		segments[i] = Segment{Key: fmt.Sprintf("app/org.example.App%05d/x86_64/stable", i), Sum: sha256.Sum256(data), Data: data}
	}
	return segments
}

func join(segments []Segment) []byte {
	var all []byte
	for _, s := range segments {
		all = append(all, s.Data...)
	}
	return all
}

// check reads the stream back through every reader we know.
func check(t *testing.T, stream *Stream, want []byte) {
	t.Helper()
	if stream.Size() != int64(len(want)) {
		t.Errorf("Size = %d, want %d", stream.Size(), len(want))
	}
	if got := crc32.ChecksumIEEE(want); stream.CRC32() != got {
		t.Errorf("CRC32 = %08x, want %08x", stream.CRC32(), got)
	}
	raw, err := io.ReadAll(stdflate.NewReader(stream.Deflate()))
	if err != nil || !bytes.Equal(raw, want) {
		t.Errorf("deflate: %v, %d bytes, want %d", err, len(raw), len(want))
	}
	zr, err := stdgzip.NewReader(iotest.OneByteReader(stream.Gzip()))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(zr)
	if err != nil || !bytes.Equal(unpacked, want) {
		t.Errorf("gzip: %v, %d bytes, want %d", err, len(unpacked), len(want))
	}
	file := stream.AppendGzip(nil)
	if int64(len(file)) != stream.GzipSize() {
		t.Errorf("GzipSize = %d, file has %d", stream.GzipSize(), len(file))
	}
	deflated := stream.AppendDeflate(nil)
	if int64(len(deflated)) != stream.DeflateSize() {
		t.Errorf("DeflateSize = %d, stream has %d", stream.DeflateSize(), len(deflated))
	}
	var copied bytes.Buffer
	if n, err := io.Copy(&copied, stream.Gzip()); err != nil || n != int64(len(file)) || !bytes.Equal(copied.Bytes(), file) {
		t.Errorf("copy of %d bytes (%v) differs from AppendGzip", n, err)
	}
}

func TestReadBack(t *testing.T) {
	for _, n := range []int{0, 1, 2, 31, 500} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			segments := makeSegments(n, 700)
			var cache Cache
			stream, err := cache.Build(segments)
			if err != nil {
				t.Fatal(err)
			}
			check(t, stream, join(segments))
		})
	}
}

func TestOneChangeCompressesOneChunk(t *testing.T) {
	segments := makeSegments(4000, 3400)
	cache := Cache{}
	cache.Advance()
	if _, err := cache.Build(segments); err != nil {
		t.Fatal(err)
	}
	held := cache.Size()
	total := cache.Fresh()
	if total != 4000*3400 {
		t.Fatalf("first build compressed %d bytes", total)
	}
	var worst int64
	for i := 13; i < 4000; i += 371 {
		data := append([]byte("changed "), segments[i].Data...)
		segments[i].Data, segments[i].Sum = data, sha256.Sum256(data)
		cache.Advance()
		stream, err := cache.Build(segments)
		if err != nil {
			t.Fatal(err)
		}
		worst = max(worst, cache.Fresh())
		check(t, stream, join(segments))
	}
	// Chunk lengths are geometric: five times the mean is rare enough for fixed keys.
	if worst > 5*DefaultMean*3500 {
		t.Errorf("one changed segment compressed %d bytes again", worst)
	}
	if cache.Size() > held+held/20 {
		t.Errorf("cache grew from %d to %d", held, cache.Size())
	}
}

func TestInsertAndRemoveStayLocal(t *testing.T) {
	segments := makeSegments(1000, 500)
	var cache Cache
	if _, err := cache.Build(segments); err != nil {
		t.Fatal(err)
	}
	extra := Segment{Key: "app/org.example.New/x86_64/stable", Data: []byte("new")}
	longer := append(append(append([]Segment{}, segments[:500]...), extra), segments[500:]...)
	cache.Advance()
	stream, err := cache.Build(longer)
	if err != nil {
		t.Fatal(err)
	}
	check(t, stream, join(longer))
	if cache.Fresh() > 6*DefaultMean*500 {
		t.Errorf("insertion compressed %d bytes", cache.Fresh())
	}
	cache.Advance()
	if stream, err = cache.Build(append(segments[:700:700], segments[701:]...)); err != nil {
		t.Fatal(err)
	}
	if cache.Fresh() > 10*DefaultMean*500 {
		t.Errorf("removal compressed %d bytes", cache.Fresh())
	}
	if stream.Size() != 999*500 {
		t.Errorf("size %d", stream.Size())
	}
}

func TestOutputIsIndependentOfHistory(t *testing.T) {
	segments := makeSegments(200, 900)
	var used, fresh Cache
	for i := range 5 {
		data := fmt.Appendf(nil, "generation %d", i)
		segments[100].Data, segments[100].Sum = data, Digest{}
		used.Advance()
		if _, err := used.Build(segments); err != nil {
			t.Fatal(err)
		}
	}
	a, err := used.Build(segments)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fresh.Build(segments)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.AppendGzip(nil), b.AppendGzip(nil)) {
		t.Error("a used cache gives other bytes than an empty one")
	}
}

func TestAdvanceDropsUnused(t *testing.T) {
	var cache Cache
	cache.Advance()
	if _, err := cache.Build(makeSegments(100, 100)); err != nil {
		t.Fatal(err)
	}
	cache.Advance()
	cache.Advance()
	if cache.Size() == 0 {
		t.Fatal("dropped what the generation before the last used")
	}
	cache.Advance()
	if cache.Size() != 0 {
		t.Errorf("still holds %d bytes", cache.Size())
	}
}

func TestEmptyKeyStandsAlone(t *testing.T) {
	segments := makeSegments(40, 100)
	tail := Segment{Data: bytes.Repeat([]byte{1, 2, 3, 4}, 5000)}
	var cache Cache
	if _, err := cache.Build(append(segments, tail)); err != nil {
		t.Fatal(err)
	}
	cache.Advance()
	tail.Data = bytes.Repeat([]byte{1, 2, 3, 5}, 5000)
	if _, err := cache.Build(append(segments, tail)); err != nil {
		t.Fatal(err)
	}
	if cache.Fresh() != int64(len(tail.Data)) {
		t.Errorf("compressed %d bytes, the tail has %d", cache.Fresh(), len(tail.Data))
	}
}

func TestBadLevel(t *testing.T) {
	cache := Cache{Level: 42}
	if _, err := cache.Build(makeSegments(1, 1)); err == nil {
		t.Error("level 42 accepted")
	}
}

func TestGunzipAndZlib(t *testing.T) {
	segments := makeSegments(300, 3400)
	var cache Cache
	stream, err := cache.Build(segments)
	if err != nil {
		t.Fatal(err)
	}
	want := join(segments)
	t.Run("gzip", func(t *testing.T) {
		peertest.Require(t, "gzip")
		cmd := exec.CommandContext(t.Context(), "gzip", "-dc")
		cmd.Stdin = stream.Gzip()
		got, err := cmd.Output()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("gzip -dc: %v, %d bytes, want %d", err, len(got), len(want))
		}
	})
	t.Run("zlib", func(t *testing.T) {
		peertest.Require(t, "python3")
		cmd := exec.CommandContext(t.Context(), "python3", "-c",
			"import sys,zlib;d=zlib.decompressobj(-15);o=d.decompress(sys.stdin.buffer.read())+d.flush();assert d.eof and not d.unused_data;sys.stdout.buffer.write(o)")
		cmd.Stdin = stream.Deflate()
		got, err := cmd.Output()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("zlib: %v, %d bytes, want %d", err, len(got), len(want))
		}
	})
}

func TestCombine(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, split := range []int{0, 1, 7, 4096, 70000} {
		data := text(rng, 70000)
		got := combine(crc32.ChecksumIEEE(data[:split]), crc32.ChecksumIEEE(data[split:]), int64(len(data)-split))
		if want := crc32.ChecksumIEEE(data); got != want {
			t.Errorf("split at %d: %08x, want %08x", split, got, want)
		}
	}
}

// FuzzBuild cuts arbitrary bytes into segments of arbitrary lengths and keys.
func FuzzBuild(f *testing.F) {
	f.Add([]byte("some text some text"), []byte{3, 9, 0, 4}, uint8(2))
	f.Add(bytes.Repeat([]byte{0}, 4000), []byte{255, 255, 0, 1}, uint8(1))
	f.Add([]byte{}, []byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, data, cuts []byte, mean uint8) {
		var segments []Segment
		rest := data
		for i, cut := range cuts {
			n := min(int(cut)*3, len(rest))
			key := binary.LittleEndian.AppendUint16(nil, uint16(i)^uint16(cut))
			if cut%7 == 0 {
				key = nil
			}
			segments = append(segments, Segment{Key: string(key), Data: rest[:n]})
			rest = rest[n:]
		}
		segments = append(segments, Segment{Key: "rest", Data: rest})
		cache := Cache{Mean: int(mean)}
		for range 2 {
			stream, err := cache.Build(segments)
			if err != nil {
				t.Fatal(err)
			}
			check(t, stream, data)
		}
	})
}

func BenchmarkOneChanged(b *testing.B) {
	for _, n := range []int{500, 1000, 2000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			segments := makeSegments(n, 3400)
			var cache Cache
			if _, err := cache.Build(segments); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			round := 0
			for b.Loop() {
				round++
				i := round * 271 % n
				data := binary.LittleEndian.AppendUint64(segments[i].Data[:3392:3392], uint64(round))
				segments[i].Data, segments[i].Sum = data, sha256.Sum256(data)
				cache.Advance()
				if _, err := cache.Build(segments); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestStored(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, size := range []int{0, 1, maxStored, maxStored + 1, 300_000} {
		data := text(rng, size)
		stream := bytes.Join(Stored([][]byte{data[:size/3], nil, data[size/3:]}), nil)
		got, err := io.ReadAll(stdflate.NewReader(bytes.NewReader(stream)))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %v, read %d", size, err, len(got))
		}
	}
}
