// Package xz writes and reads .xz files: the container of XZ Utils, described
// in "The .xz File Format", version 1.2.1.
//
//	stream header   magic, kind of check
//	block …         header with the chain of filters, LZMA2 data, padding, check
//	index           unpadded and uncompressed size of each block
//	stream footer   size of the index, magic
//
// A file may have several blocks, and each its own filters. [Writer] uses that:
// bytes that do not compress go into a block of stored chunks, which costs no
// time; machine code gets the x86 filter. Compressing itself is done by the
// [Method] of the caller, since good encoders of LZMA are programs of their
// own; [Stored] is the one that is built in.
//
// [Reader] reads files with LZMA2, alone or behind the x86 filter, one stream,
// and any check. It is made for files of others: it holds the dictionary, of
// which the size is bounded, and some 200 KiB.
package xz

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

var (
	// ErrMalformed is wrapped when bytes are not what the format demands.
	ErrMalformed = errors.New("malformed xz data")
	// ErrUnsupported is wrapped for what is well-formed but not handled: other
	// filters, or a larger dictionary than the reader was allowed.
	ErrUnsupported = errors.New("unsupported xz data")
)

const (
	headerMagic = "\xFD7zXZ\x00"
	footerMagic = "YZ"
	headerSize  = 12 // of a stream; the footer is as long

	checkNone   = 0
	checkCRC32  = 1
	checkCRC64  = 4
	checkSHA256 = 10

	filterX86   = 0x04
	filterLZMA2 = 0x21

	manyFilters    = 0x03 // bits of the flags of a block: filters, less one
	reservedFlags  = 0x3C
	hasPackedSize  = 0x40
	hasContentSize = 0x80

	maxVarint = 9 // bytes
)

// DictSize returns the smallest size of a dictionary that the format can
// express and that is not below n bytes, and the byte that stands for it.
func DictSize(n uint32) (size uint32, code byte) {
	for code = range byte(40) {
		if size = dictSize(code); size >= n {
			return size, code
		}
	}
	return 1<<32 - 1, 40
}

// dictSize is what a code up to 40 stands for.
func dictSize(code byte) uint32 {
	if code == 40 {
		return 1<<32 - 1
	}
	return (2 | uint32(code)&1) << (code/2 + 11)
}

func appendCRC32(b, of []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(of))
}

// pad4 appends zeros up to a multiple of four bytes.
func pad4(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
