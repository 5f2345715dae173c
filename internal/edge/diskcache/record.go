package diskcache

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// A record is an entry in a segment; all numbers are little-endian.
//
//	  0  4  magic
//	  4  4  length, up to the padding that brings the next one to a multiple of 16
//	  8 16  ID
//	 24  8  number of the body; no two bodies have the same
//	 32  8  length of the body
//	 40  4  length of the meta
//	 44  1  flags: 1 fixed, 2 listed, 4 the body has a file of its own, 8 metadata,
//	       16 the file is there in part
//	 45  1  slices of that file are of 2^n bytes
//	 46 10  zero
//	 56  4  CRC-32C of what follows the state
//	 60  4  CRC-32C of bytes 0–59, beginning with the seed of the place
//	 64 40  state: validated (ns since 1970), initial age (s/100), lifetime, stale
//	        while revalidate, stale if error (s), flags, epoch (8 bytes), CRC-32C
//	        of these 36 bytes
//	104     meta, then the body, or the CRC-32C of each slice of its file
const (
	unit        = 16
	headSize    = 64
	stateOff    = headSize
	stateSize   = 40
	metaOff     = stateOff + stateSize
	recordMagic = "fsr1"
	// maxRecord is what the index can tell of a record's length.
	maxRecord = (1<<16 - 1) * unit

	flagFixed  = 1
	flagListed = 2
	flagFile   = 4
	// flagPartial: not all slices of the file are there; a bitmap follows the
	// checksums.
	flagPartial = 16
	flagIndex   = 8
)

// record is the head of one.
type record struct {
	length  uint32
	id      ID
	num     uint64
	bodyLen int64
	metaLen uint32
	flags   uint8
	shift   uint8
	sum     uint32
	// blocks is what the file of a partial entry takes; not in the head.
	blocks uint32
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

// padded is the room a record of n bytes takes.
func padded(n int64) int64 { return (n + unit - 1) / unit * unit }

// encode writes the head into b.
func (r record) encode(b []byte, seed uint32) {
	le := binary.LittleEndian
	copy(b, recordMagic)
	le.PutUint32(b[4:], r.length)
	copy(b[8:], r.id[:])
	le.PutUint64(b[24:], r.num)
	le.PutUint64(b[32:], uint64(r.bodyLen))
	le.PutUint32(b[40:], r.metaLen)
	b[44], b[45] = r.flags, r.shift
	clear(b[46:56])
	le.PutUint32(b[56:], r.sum)
	le.PutUint32(b[60:], crc32.Update(seed, castagnoli(), b[:60]))
}

var errRecord = errors.New("damaged record")

// parseRecord reads a head. What it says of lengths fits together.
func parseRecord(b []byte, seed uint32) (record, error) {
	le := binary.LittleEndian
	if len(b) < headSize || string(b[:4]) != recordMagic || crc32.Update(seed, castagnoli(), b[:60]) != le.Uint32(b[60:]) {
		return record{}, errRecord
	}
	r := record{
		length: le.Uint32(b[4:]), id: ID(b[8:24]), num: le.Uint64(b[24:]), bodyLen: int64(le.Uint64(b[32:])),
		metaLen: le.Uint32(b[40:]), flags: b[44], shift: b[45], sum: le.Uint32(b[56:]),
	}
	if r.length < metaOff || r.length > maxRecord || r.metaLen > maxMeta || r.bodyLen < 0 || r.bodyLen > 1<<50 ||
		int64(r.length) != metaOff+int64(r.metaLen)+r.rest() {
		return record{}, errRecord
	}
	return r, nil
}

func (r record) pool() uint8 {
	if r.flags&(flagFixed|flagIndex) == flagFixed {
		return poolFixed
	}
	return poolChangeable
}

func (r record) inFile() bool { return r.flags&flagFile != 0 }

// rest is the length of what follows the meta.
func (r record) rest() int64 {
	if !r.inFile() {
		return r.bodyLen
	}
	n := sliceCount(r.bodyLen, r.shift)
	if r.flags&flagPartial != 0 {
		return n*4 + (n+7)/8
	}
	return n * 4
}

// fileBlocks is how many blocks of 4096 bytes the file takes, raw being the
// record; of a record without it, blocks must be set if it is partial.
func (r record) fileBlocks() uint32 {
	if r.flags&flagPartial != 0 {
		return r.blocks
	}
	return uint32((r.bodyLen + blockSize - 1) / blockSize)
}

// cost is what the file counts.
func (r record) cost() int64 { return diskCost(int64(r.fileBlocks()) * blockSize) }

// sliceCount is how many slices of 2^shift bytes there are in n bytes.
func sliceCount(n int64, shift uint8) int64 {
	shift = min(max(shift, minShift), 40)
	return (n + 1<<shift - 1) >> shift
}

// minShift makes slices of 1 MiB.
const minShift = 20

// encode writes the state into b, and returns what can be read from there.
func (s State) encode(b []byte, epoch uint64) State {
	le := binary.LittleEndian
	le.PutUint64(b, uint64(s.Validated.UnixNano()))
	le.PutUint32(b[8:], uint32(min(max(0, s.InitialAge/(10*time.Millisecond)), 1<<32-1)))
	le.PutUint32(b[12:], seconds(s.Lifetime))
	le.PutUint32(b[16:], seconds(s.Revalidate))
	le.PutUint32(b[20:], seconds(s.OnError))
	le.PutUint32(b[24:], s.Flags)
	le.PutUint64(b[28:], epoch)
	le.PutUint32(b[36:], checksum(b[:36]))
	s, _, _ = parseState(b)
	return s
}

func seconds(d time.Duration) uint32 {
	return uint32(min(max(0, d/time.Second), 1<<32-1))
}

// unknown is the state of an entry whose own was damaged: nothing is known of
// its freshness, and every flag is raised.
func unknown() State { return State{Flags: ^uint32(0)} }

// clockSlack is how far ahead a time on disk may be.
const clockSlack = time.Minute

// readState reads the state of an entry that was found. One that is damaged, or
// comes from a clock that was ahead and was set right since, which would make
// the entry young for ever, is unknown.
func readState(b []byte) (st State, epoch uint64, ok bool) {
	st, epoch, ok = parseState(b)
	if !ok || st.Validated.After(time.Now().Add(clockSlack)) {
		return unknown(), epoch, ok
	}
	return st, epoch, true
}

// parseState reads a state and the epoch it was written in.
func parseState(b []byte) (st State, epoch uint64, ok bool) {
	le := binary.LittleEndian
	if len(b) < stateSize || checksum(b[:36]) != le.Uint32(b[36:]) {
		return State{}, 0, false
	}
	return State{
		Validated:  time.Unix(0, int64(le.Uint64(b))),
		InitialAge: time.Duration(le.Uint32(b[8:])) * time.Second / 100,
		Lifetime:   time.Duration(le.Uint32(b[12:])) * time.Second,
		Revalidate: time.Duration(le.Uint32(b[16:])) * time.Second,
		OnError:    time.Duration(le.Uint32(b[20:])) * time.Second,
		Flags:      le.Uint32(b[24:]),
	}, le.Uint64(b[28:]), true
}
