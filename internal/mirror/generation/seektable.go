package generation

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// A seek table stands at the end of a manifest and says where its frames begin. It is that
// of the seekable format of zstd (zstd_seekable_compression_format.md, version 0.1.0): a
// frame that readers of the whole text skip.
const (
	skippableMagic = 0x184D2A5E
	seekableMagic  = 0x8F92EAB1
	skipHeader     = 8 // magic, length of what follows
	seekEntry      = 8 // compressed size, decompressed size
	seekFooter     = 9 // number of frames, descriptor, magic
	// maxFrames is how many frames a table may tell of: about 10^9 files.
	maxFrames = 1 << 22
)

// seekTable collects the sizes of frames.
type seekTable struct {
	entries []byte
	frames  uint32
}

func (t *seekTable) add(compressed, text int) {
	t.entries = binary.LittleEndian.AppendUint32(t.entries, uint32(compressed))
	t.entries = binary.LittleEndian.AppendUint32(t.entries, uint32(text))
	t.frames++
}

// encode returns the table as it stands in the file.
func (t *seekTable) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.entries)+seekFooter))
	b = append(b, t.entries...)
	b = binary.LittleEndian.AppendUint32(b, t.frames)
	b = append(b, 0) // no checksums: each frame has its own
	return binary.LittleEndian.AppendUint32(b, seekableMagic)
}

// errNoTable is that of a manifest without one.
var errNoTable = fmt.Errorf("seek table: there is none: %w", ErrManifest)

// readSeekTable returns where the frames of a file of this size begin, and, last, where
// they end. The error is [ErrManifest] if it has no sound table.
func readSeekTable(from io.ReaderAt, size int64) ([]int64, error) {
	bad := func(why string) error { return fmt.Errorf("seek table: %s: %w", why, ErrManifest) }
	var footer [seekFooter]byte
	if size < skipHeader+seekFooter {
		return nil, errNoTable
	}
	if _, err := from.ReadAt(footer[:], size-seekFooter); err != nil {
		return nil, err
	}
	frames := int64(binary.LittleEndian.Uint32(footer[:]))
	if binary.LittleEndian.Uint32(footer[5:]) != seekableMagic || footer[4] != 0 {
		return nil, errNoTable
	}
	length := skipHeader + frames*seekEntry + seekFooter
	if frames > maxFrames || length > size {
		return nil, bad("it is too long")
	}
	table := make([]byte, length)
	if _, err := from.ReadAt(table, size-length); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(table) != skippableMagic || int64(binary.LittleEndian.Uint32(table[4:])) != length-skipHeader {
		return nil, bad("it is none")
	}
	starts := make([]int64, 0, frames+1)
	at := int64(0)
	for entry := table[skipHeader : length-seekFooter]; len(entry) > 0; entry = entry[seekEntry:] {
		starts = append(starts, at)
		compressed := int64(binary.LittleEndian.Uint32(entry))
		if compressed == 0 || compressed > math.MaxInt32 {
			return nil, bad("a frame of no size")
		}
		at += compressed
	}
	if at != size-length {
		return nil, bad("it tells of other frames")
	}
	return append(starts, at), nil
}
