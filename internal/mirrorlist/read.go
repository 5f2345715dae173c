package mirrorlist

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits of a file.
const (
	// maxMessage is how many bytes one entry of a table may have. A directory on 1,000
	// mirrors has 30 kB.
	maxMessage = 16 << 20
	// maxEntries is how many entries the tables may have together.
	maxEntries = 1 << 25
)

// ErrMalformed is wrapped by errors of files that are no snapshot, or a damaged one.
var ErrMalformed = errors.New("not a mirror list snapshot, or cut off")

// ReadFile reads the snapshot in a file. Errors name the file.
func ReadFile(name string) (*Snapshot, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	s, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", name, err)
	}
	return s, nil
}

// Read reads a snapshot up to the end of r. It takes little more memory than the
// snapshot in the end; of a file that repeats itself, as real ones do, far less than the
// file's size.
//
// An error wraps ErrMalformed or ErrTooMany, or is that of r. The file as a whole is
// refused if it is damaged, or has no time or no directories; single entries that make no
// sense are left out (see Problems).
func Read(r io.Reader) (*Snapshot, error) {
	d := newDecoder()
	in := input{r: bufio.NewReaderSize(r, 1<<18)}
	for entries := 0; ; entries++ {
		start := in.offset
		f, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && entries == maxEntries {
			err = fmt.Errorf("more than %d entries: %w", maxEntries, ErrTooMany)
		}
		if err == nil {
			err = d.field(f)
		}
		if err != nil {
			return nil, fmt.Errorf("byte %d: %w", start, err)
		}
	}
	switch {
	case !d.b.timed:
		return nil, fmt.Errorf("it has no time: %w", ErrMalformed)
	case len(d.b.s.directories) == 0:
		return nil, fmt.Errorf("it has no directories: %w", ErrMalformed)
	}
	return d.b.Snapshot()
}

// wireField is a field of a message: a number, or bytes that are valid until the next
// one is read.
type wireField struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64
	bytes  []byte
}

// input yields the fields of the outermost message.
type input struct {
	r      *bufio.Reader
	offset int64
	buffer []byte
}

// next returns the next field, or io.EOF at the end of the file if that is not inside of
// a field.
func (in *input) next() (wireField, error) {
	tag, err := in.varint()
	if err != nil {
		return wireField{}, err
	}
	f := wireField{kind: protowire.Type(tag & 7)}
	if f.number, _ = protowire.DecodeTag(tag); !f.number.IsValid() {
		return f, fmt.Errorf("field number %d: %w", tag>>3, ErrMalformed)
	}
	switch f.kind {
	case protowire.VarintType:
		f.value, err = in.varint()
	case protowire.Fixed64Type:
		err = in.fill(8)
	case protowire.Fixed32Type:
		err = in.fill(4)
	case protowire.BytesType:
		var length uint64
		if length, err = in.varint(); err == nil && length > maxMessage {
			return f, fmt.Errorf("field %d of %d bytes, when %d are allowed: %w", f.number, length, maxMessage, ErrMalformed)
		}
		if err == nil {
			err = in.fill(int(length))
		}
		f.bytes = in.buffer
	default:
		return f, fmt.Errorf("field %d is of unknown kind %d: %w", f.number, f.kind, ErrMalformed)
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("field %d ends early: %w", f.number, ErrMalformed)
	}
	return f, err
}

// varint reads a number. io.EOF means that there is not one byte.
func (in *input) varint() (uint64, error) {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		c, err := in.r.ReadByte()
		if err != nil {
			if shift > 0 && errors.Is(err, io.EOF) {
				err = fmt.Errorf("a number ends early: %w", ErrMalformed)
			}
			return 0, err
		}
		in.offset++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, nil
		}
	}
	return 0, fmt.Errorf("a number has more than 64 bits: %w", ErrMalformed)
}

// fill reads n bytes into the buffer. The buffer grows with what is there, not with what
// is promised.
func (in *input) fill(n int) error {
	const step = 1 << 20
	in.buffer = in.buffer[:0]
	for len(in.buffer) < n {
		start := len(in.buffer)
		end := min(n, start+step)
		in.buffer = slices.Grow(in.buffer, end-start)[:end]
		read, err := io.ReadFull(in.r, in.buffer[start:end])
		in.offset += int64(read)
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = io.EOF
			}
			return err
		}
	}
	return nil
}
