package delta

import (
	"encoding/binary"
	"fmt"

	"freshet/internal/ostree"
)

// Op is a step of the program of a part. Which fields it has depends on the
// Code. Numbers are written as varints (LEB128), in the order given below.
type Op struct {
	Code   Code
	Mode   uint64 // index of owner, group and mode of the file
	Xattrs uint64 // index of its set of extended attributes
	Size   uint64 // bytes
	Offset uint64 // in the payload, or in the source that is set
}

// Code tells what an [Op] does.
type Code byte

// The codes, with the numbers that follow them.
const (
	OpSplice Code = 'S' // make an object of a piece of the payload: files have Mode, Xattrs, Size, Offset; metadata Size, Offset
	OpOpen   Code = 'o' // begin a file: Mode, Xattrs, Size
	OpWrite  Code = 'w' // append to it from the source, or from the payload when none is set: Size, Offset
	OpSource Code = 'r' // set the source: the file object whose 32 bytes of checksum are in the payload at Offset
	OpUnset  Code = 'R' // no source any more
	OpPatch  Code = 'B' // the whole file is the source with a patch from the payload: Offset, Size
	OpClose  Code = 'c' // the file is complete; no source any more
)

// fields returns pointers to the numbers of an op, in their order. Those of
// OpSplice depend on the type of the object.
func (o *Op) fields(t ostree.ObjectType) ([]*uint64, bool) {
	switch o.Code {
	case OpSplice:
		if t == ostree.TypeFile {
			return []*uint64{&o.Mode, &o.Xattrs, &o.Size, &o.Offset}, true
		}
		return []*uint64{&o.Size, &o.Offset}, true
	case OpOpen:
		return []*uint64{&o.Mode, &o.Xattrs, &o.Size}, true
	case OpWrite:
		return []*uint64{&o.Size, &o.Offset}, true
	case OpSource:
		return []*uint64{&o.Offset}, true
	case OpPatch:
		return []*uint64{&o.Offset, &o.Size}, true
	case OpUnset, OpClose:
		return nil, true
	}
	return nil, false
}

// appendOp appends an op that concerns an object of this type.
func appendOp(b []byte, o Op, t ostree.ObjectType) []byte {
	b = append(b, byte(o.Code))
	fields, _ := o.fields(t)
	for _, f := range fields {
		b = binary.AppendUvarint(b, *f)
	}
	return b
}

// nextOp takes the first op of a program; it concerns an object of this type.
func nextOp(program []byte, t ostree.ObjectType) (o Op, rest []byte, err error) {
	o.Code = Code(program[0])
	rest = program[1:]
	fields, ok := o.fields(t)
	if !ok {
		return Op{}, nil, fmt.Errorf("%w: operation %#x", ostree.ErrMalformed, program[0])
	}
	for _, f := range fields {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return Op{}, nil, fmt.Errorf("%w: operation %q is cut off", ostree.ErrMalformed, o.Code)
		}
		*f, rest = v, rest[n:]
	}
	return o, rest, nil
}
