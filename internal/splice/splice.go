// Package splice makes one gzip or raw deflate stream out of many segments and
// remembers the compressed pieces, so that a stream of thousands of segments in
// which one changed costs the compression of that one's neighbourhood only.
//
// Segments are grouped into chunks. A chunk ends after a segment whose key
// hashes to a multiple of Cache.Mean, so boundaries are a property of the keys:
// a segment that changes, appears or goes away moves at most the boundary next
// to it. Every chunk is compressed by itself, with no reference to an earlier
// one, and ends with a sync flush (RFC 1951 section 3.2.4: an empty stored
// block), which leaves it on a byte boundary. Chunks therefore concatenate into
// one valid deflate stream; two bytes of an empty final block end it. The CRC-32
// of the gzip trailer (RFC 1952) is combined from those of the chunks without
// reading the data again.
//
// The output depends on the segments, their keys, Level and Mean alone, never on
// what the cache held before.
//
// Nothing here touches a disk; a Cache belongs to one goroutine at a time.
package splice

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
)

const (
	// DefaultLevel is the deflate level of a Cache whose Level is zero.
	DefaultLevel = 6

	// DefaultMean is the mean number of segments of a chunk of a Cache whose Mean is zero.
	DefaultMean = 32

	// maxChunk ends a chunk that grew past this many bytes, whatever the keys say.
	maxChunk = 1 << 20

	// keepBuilds is the number of generations an unused piece outlives.
	keepBuilds = 2
)

// A Digest is a SHA-256 digest.
type Digest = [sha256.Size]byte

// A Segment is a run of bytes that changes as a whole.
type Segment struct {
	// Key names the segment among its neighbours and decides the boundaries of
	// chunks. It should stay the same while the data changes. A segment with an
	// empty key makes a chunk of its own.
	Key string

	// Sum is the SHA-256 of Data. A caller that keeps it spares the hashing; the
	// zero digest means that it is not known.
	Sum Digest

	// Data is read during Build only and never changed.
	Data []byte
}

// A Cache compresses streams and keeps their pieces. The zero value is ready.
type Cache struct {
	// Level is the deflate level, 1 to 9; zero means DefaultLevel. It must not
	// change after the first Build.
	Level int

	// Mean is the mean number of segments of a chunk; zero means DefaultMean.
	// Larger chunks compress better and cost more when a segment changes.
	Mean int

	generation uint64
	chunks     map[Digest]*chunk
	deflater   *flate.Writer
	scratch    bytes.Buffer
	fresh      int64
}

// chunk is the compressed form of a group of segments.
type chunk struct {
	deflate []byte
	size    int64
	crc     uint32
	used    uint64 // the generation that used it last
}

// Advance begins a new generation: pieces that neither the generation now ending
// nor the one before it used are dropped. Call it once before the streams
// of one publish are built; without it the cache only grows.
func (c *Cache) Advance() {
	c.generation++
	c.fresh = 0
	for key, piece := range c.chunks {
		if piece.used+keepBuilds < c.generation {
			delete(c.chunks, key)
		}
	}
}

// Fresh returns how many bytes of input had to be compressed since the last
// Advance.
func (c *Cache) Fresh() int64 { return c.fresh }

// Size returns the number of compressed bytes held.
func (c *Cache) Size() int64 {
	var n int64
	for _, piece := range c.chunks {
		n += int64(len(piece.deflate))
	}
	return n
}

// Build compresses the concatenation of the segments. The Stream shares memory
// with the cache and stays valid for as long as it is held.
func (c *Cache) Build(segments []Segment) (*Stream, error) {
	if c.chunks == nil {
		c.chunks = make(map[Digest]*chunk)
	}
	mean := c.Mean
	if mean <= 0 {
		mean = DefaultMean
	}
	stream := &Stream{}
	for len(segments) > 0 {
		n := chunkLength(segments, uint64(mean))
		if err := c.add(stream, segments[:n]); err != nil {
			return nil, err
		}
		segments = segments[n:]
	}
	return stream, nil
}

// chunkLength returns how many of the segments, of which there is one at least,
// the first chunk takes.
func chunkLength(segments []Segment, mean uint64) int {
	if segments[0].Key == "" {
		return 1
	}
	size := 0
	for i, segment := range segments {
		if segment.Key == "" {
			return i
		}
		size += len(segment.Data)
		if hashKey(segment.Key)%mean == 0 || size >= maxChunk {
			return i + 1
		}
	}
	return len(segments)
}

// hashKey is FNV-1a with a final mix, since FNV's low bits alone are poor.
func hashKey(key string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h ^= uint64(key[i])
		h *= 1099511628211
	}
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>29
}

// add appends the chunk of the segments to the stream.
func (c *Cache) add(stream *Stream, segments []Segment) error {
	key, size := chunkKey(segments)
	if size == 0 {
		return nil
	}
	piece := c.chunks[key]
	if piece == nil {
		var err error
		if piece, err = c.compress(segments, size); err != nil {
			return err
		}
		c.chunks[key] = piece
	}
	piece.used = c.generation
	stream.append(piece)
	return nil
}

// chunkKey is the identity of a chunk: the digest of the digests and lengths of its segments.
func chunkKey(segments []Segment) (Digest, int64) {
	ids := make([]byte, 0, len(segments)*(sha256.Size+8))
	size := int64(0)
	for i := range segments {
		segment := &segments[i]
		sum := segment.Sum
		if sum == (Digest{}) {
			sum = sha256.Sum256(segment.Data)
		}
		ids = append(ids, sum[:]...)
		ids = binary.LittleEndian.AppendUint64(ids, uint64(len(segment.Data)))
		size += int64(len(segment.Data))
	}
	return sha256.Sum256(ids), size
}

// compress makes the piece of the segments, whose data has size bytes.
func (c *Cache) compress(segments []Segment, size int64) (*chunk, error) {
	c.scratch.Reset()
	if c.deflater == nil {
		level := c.Level
		if level == 0 {
			level = DefaultLevel
		}
		w, err := flate.NewWriter(&c.scratch, level)
		if err != nil {
			return nil, fmt.Errorf("splice: deflate level %d: %w", level, err)
		}
		c.deflater = w
	} else {
		c.deflater.Reset(&c.scratch)
	}
	crc := uint32(0)
	for _, segment := range segments {
		crc = crc32.Update(crc, crc32.IEEETable, segment.Data)
		if _, err := c.deflater.Write(segment.Data); err != nil {
			return nil, fmt.Errorf("splice: deflate %q: %w", segment.Key, err)
		}
	}
	if err := c.deflater.Flush(); err != nil {
		return nil, fmt.Errorf("splice: flush: %w", err)
	}
	c.fresh += size
	return &chunk{deflate: bytes.Clone(c.scratch.Bytes()), size: size, crc: crc}, nil
}

// A Stream is the result of a Build. It is immutable, and safe for use by
// several goroutines at once. The zero Stream is one of no data.
type Stream struct {
	pieces   [][]byte
	size     int64
	deflated int64
	crc      uint32
}

func (s *Stream) append(piece *chunk) {
	s.pieces = append(s.pieces, piece.deflate)
	s.crc = combine(s.crc, piece.crc, piece.size)
	s.size += piece.size
	s.deflated += int64(len(piece.deflate))
}

const (
	// finalBlock is an empty last block with fixed Huffman codes (RFC 1951 section 3.2.6).
	finalBlock = "\x03\x00"

	// gzipHeader has no name, no time, no flags and an unknown system (RFC 1952 section 2.3).
	gzipHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

	gzipTrailerSize = 8
)

// Size returns the length of the data before compression.
func (s *Stream) Size() int64 { return s.size }

// CRC32 returns the IEEE CRC-32 of the data before compression.
func (s *Stream) CRC32() uint32 { return s.crc }

// DeflateSize returns the length of the raw deflate stream.
func (s *Stream) DeflateSize() int64 { return s.deflated + int64(len(finalBlock)) }

// GzipSize returns the length of the gzip file.
func (s *Stream) GzipSize() int64 {
	return int64(len(gzipHeader)) + s.DeflateSize() + gzipTrailerSize
}

// Deflate returns a reader of the raw deflate stream (RFC 1951).
func (s *Stream) Deflate() io.Reader {
	return &pieceReader{pieces: s.deflatePieces(nil, nil)}
}

// Gzip returns a reader of the gzip file (RFC 1952), which has one member.
func (s *Stream) Gzip() io.Reader {
	return &pieceReader{pieces: s.GzipPieces()}
}

// GzipPieces returns the gzip file as consecutive runs of bytes, which must not be changed.
func (s *Stream) GzipPieces() [][]byte {
	return s.deflatePieces([]byte(gzipHeader), s.gzipTrailer())
}

// DeflatePieces returns the raw deflate stream as consecutive runs of bytes,
// which must not be changed.
func (s *Stream) DeflatePieces() [][]byte { return s.deflatePieces(nil, nil) }

// AppendGzip appends the gzip file to dst.
func (s *Stream) AppendGzip(dst []byte) []byte {
	for _, piece := range s.GzipPieces() {
		dst = append(dst, piece...)
	}
	return dst
}

// AppendDeflate appends the raw deflate stream to dst.
func (s *Stream) AppendDeflate(dst []byte) []byte {
	for _, piece := range s.pieces {
		dst = append(dst, piece...)
	}
	return append(dst, finalBlock...)
}

func (s *Stream) deflatePieces(head, tail []byte) [][]byte {
	pieces := make([][]byte, 0, len(s.pieces)+3)
	if len(head) > 0 {
		pieces = append(pieces, head)
	}
	pieces = append(pieces, s.pieces...)
	pieces = append(pieces, []byte(finalBlock))
	if len(tail) > 0 {
		pieces = append(pieces, tail)
	}
	return pieces
}

// gzipTrailer is the CRC-32 and the length modulo 2^32 (RFC 1952 section 2.3.1).
func (s *Stream) gzipTrailer() []byte {
	trailer := make([]byte, 0, gzipTrailerSize)
	trailer = binary.LittleEndian.AppendUint32(trailer, s.crc)
	return binary.LittleEndian.AppendUint32(trailer, uint32(s.size&0xffffffff))
}

// pieceReader reads runs of bytes one after the other.
type pieceReader struct{ pieces [][]byte }

func (r *pieceReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && len(r.pieces) > 0 {
		k := copy(p[n:], r.pieces[0])
		n += k
		if k == len(r.pieces[0]) {
			r.pieces = r.pieces[1:]
		} else {
			r.pieces[0] = r.pieces[0][k:]
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// WriteTo writes the rest of the runs without copying them.
func (r *pieceReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for len(r.pieces) > 0 {
		n, err := w.Write(r.pieces[0])
		total += int64(n)
		if err != nil {
			return total, err
		}
		r.pieces = r.pieces[1:]
	}
	return total, nil
}

// maxStored is the length of the longest stored block (RFC 1951 section 3.2.4).
const maxStored = 0xffff

// Stored returns a raw deflate stream that holds data as it is, for what has been
// compressed already. Both are consecutive runs of bytes; the result shares those
// of data and must not be changed.
func Stored(data [][]byte) [][]byte {
	blocks := make([][]byte, 0, 3*len(data)+1)
	for _, run := range data {
		for len(run) > 0 {
			n := min(len(run), maxStored)
			head := make([]byte, 5)
			binary.LittleEndian.PutUint16(head[1:], uint16(n&maxStored))
			binary.LittleEndian.PutUint16(head[3:], ^uint16(n&maxStored))
			blocks = append(blocks, head, run[:n])
			run = run[n:]
		}
	}
	return append(blocks, []byte("\x01\x00\x00\xff\xff"))
}
