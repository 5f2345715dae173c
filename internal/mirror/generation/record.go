package generation

import (
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"time"

	"freshet/internal/extsort"
)

// record is a file of a staging.
type record struct {
	File
	fetched bool
}

// lastOfEach yields the last record of each path, unless it says that the file was
// removed.
func lastOfEach(records iter.Seq2[extsort.Record, error]) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		var r record
		there := false
		for e, err := range records {
			if err != nil {
				yield(record{}, err)
				return
			}
			if there && e.Key != r.Path && !yield(r, nil) {
				return
			}
			if there = len(e.Value) > 0; !there {
				continue
			}
			if r, err = decodeRecord(e.Key, e.Value); err != nil {
				yield(record{}, err)
				return
			}
		}
		if there {
			yield(r, nil)
		}
	}
}

// A record is: 1 if the file was fetched, size and time as varints, the hash, the
// target of a link.
func encodeRecord(r record) []byte {
	b := make([]byte, 1, 64)
	if r.fetched {
		b[0] = 1
	}
	seconds := int64(0)
	if !r.IsLink() {
		seconds = r.ModTime.Unix()
	}
	b = binary.AppendVarint(b, r.Size)
	b = binary.AppendVarint(b, seconds)
	b = append(b, r.SHA256[:]...)
	return append(b, r.Link...)
}

func decodeRecord(path string, b []byte) (record, error) {
	r := record{File: File{Path: path}, fetched: b[0] == 1}
	b = b[1:]
	size, n := binary.Varint(b)
	seconds, m := binary.Varint(b[max(n, 0):])
	if n <= 0 || m <= 0 || len(b) < n+m+len(r.SHA256) {
		return r, fmt.Errorf("%q: a record that was not written so: %w", path, io.ErrUnexpectedEOF)
	}
	copy(r.SHA256[:], b[n+m:])
	r.Size, r.Link = size, string(b[n+m+len(r.SHA256):])
	if !r.IsLink() {
		r.ModTime = time.Unix(seconds, 0).UTC()
	}
	return r, nil
}
