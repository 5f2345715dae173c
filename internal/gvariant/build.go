package gvariant

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Bool makes a b.
func Bool(b bool) Value {
	if b {
		return Value{typ: "b", data: []byte{1}}
	}
	return Value{typ: "b", data: []byte{0}}
}

// Byte makes a y.
func Byte(b byte) Value { return Value{typ: "y", data: []byte{b}} }

// Int16 makes an n.
func Int16(n int16) Value {
	return Value{typ: "n", data: binary.LittleEndian.AppendUint16(nil, uint16(n))}
}

// Uint16 makes a q.
func Uint16(n uint16) Value {
	return Value{typ: "q", data: binary.LittleEndian.AppendUint16(nil, n)}
}

// Int32 makes an i.
func Int32(n int32) Value {
	return Value{typ: "i", data: binary.LittleEndian.AppendUint32(nil, uint32(n))}
}

// Uint32 makes a u.
func Uint32(n uint32) Value {
	return Value{typ: "u", data: binary.LittleEndian.AppendUint32(nil, n)}
}

// Uint32BE makes a u that is stored big-endian.
func Uint32BE(n uint32) Value {
	return Value{typ: "u", data: binary.BigEndian.AppendUint32(nil, n)}
}

// Int64 makes an x.
func Int64(n int64) Value {
	return Value{typ: "x", data: binary.LittleEndian.AppendUint64(nil, uint64(n))}
}

// Uint64 makes a t.
func Uint64(n uint64) Value {
	return Value{typ: "t", data: binary.LittleEndian.AppendUint64(nil, n)}
}

// Uint64BE makes a t that is stored big-endian.
func Uint64BE(n uint64) Value {
	return Value{typ: "t", data: binary.BigEndian.AppendUint64(nil, n)}
}

// Double makes a d.
func Double(f float64) Value {
	return Value{typ: "d", data: binary.LittleEndian.AppendUint64(nil, math.Float64bits(f))}
}

// String makes an s. What such a string cannot hold is replaced by U+FFFD:
// NUL and bytes that are not UTF-8.
func String(s string) Value {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	data := make([]byte, len(s)+1)
	copy(data, s)
	return Value{typ: "s", data: data}
}

// Bytes makes an ay that keeps b, which must not be changed afterwards.
func Bytes(b []byte) Value { return Value{typ: "ay", data: slices.Clip(b)} }

// Strings makes an as.
func Strings(list []string) Value {
	b := ArrayBuilder{Elem: "s"}
	for _, s := range list {
		b.Append(String(s))
	}
	return b.Value()
}

// Variant wraps a value into a v.
func Variant(v Value) Value {
	data := make([]byte, 0, len(v.data)+1+len(v.typ))
	data = append(data, v.data...)
	data = append(data, 0)
	return Value{typ: "v", data: append(data, v.typ...)}
}

// Just makes a maybe (m…) that holds v.
func Just(v Value) Value {
	if _, _, size := scan(v.typ, 0); size > 0 {
		return Value{typ: "m" + v.typ, data: v.data}
	}
	return Value{typ: "m" + v.typ, data: append(slices.Clip(v.data), 0)}
}

// Nothing makes a maybe of the type elem that holds nothing.
func Nothing(elem string) Value { return Value{typ: "m" + elem} }

// Tuple makes a tuple of values.
func Tuple(values ...Value) Value {
	var typ strings.Builder
	size := 16
	typ.WriteByte('(')
	for _, v := range values {
		typ.WriteString(v.typ)
		size += len(v.data) + 8
	}
	typ.WriteByte(')')
	return Value{typ: typ.String(), data: appendTuple(make([]byte, 0, size), values)}
}

// DictEntry makes a dict entry {kv}; key must be of a basic type.
func DictEntry(key, value Value) Value {
	return Value{typ: "{" + key.typ + value.typ + "}", data: appendTuple(nil, []Value{key, value})}
}

// Array makes an array of the element type. All values must have that type:
// another one is a mistake of the program, and panics as a wrong index does.
func Array(elem string, values ...Value) Value {
	b := ArrayBuilder{Elem: elem}
	for _, v := range values {
		b.Append(v)
	}
	return b.Value()
}

// appendTuple appends the serialisation of a tuple of values to dst, the
// length of which is a multiple of the tuple's alignment.
func appendTuple(dst []byte, values []Value) []byte {
	base := len(dst)
	if len(values) == 0 {
		return append(dst, 0)
	}
	var (
		ends     [16]int
		offsets  = ends[:0]
		maxAlign = 1
		fixed    = true
	)
	for i, v := range values {
		_, align, size := scan(v.typ, 0)
		maxAlign = max(maxAlign, align)
		dst = pad(dst, base, align)
		dst = append(dst, v.data...)
		if size == 0 {
			fixed = false
			if i < len(values)-1 {
				offsets = append(offsets, len(dst)-base)
			}
		}
	}
	if fixed {
		return pad(dst, base, maxAlign)
	}
	width := minOffsetSize(len(dst)-base, len(offsets))
	for _, end := range slices.Backward(offsets) {
		dst = appendOffset(dst, end, width)
	}
	return dst
}

// pad appends zeros until dst is aligned, counted from base.
func pad(dst []byte, base, align int) []byte {
	for (len(dst)-base)&(align-1) != 0 {
		dst = append(dst, 0)
	}
	return dst
}

// ArrayBuilder serialises an array into one growing buffer. Set Elem, then
// append. The zero value of the other fields is ready.
type ArrayBuilder struct {
	Elem string // type of the elements

	data  []byte
	ends  []int
	align int
	fixed int
}

func (b *ArrayBuilder) begin() {
	if b.align == 0 {
		_, b.align, b.fixed = scan(b.Elem, 0)
	}
	b.data = pad(b.data, 0, b.align)
}

func (b *ArrayBuilder) finish() {
	if b.fixed == 0 {
		b.ends = append(b.ends, len(b.data))
	}
}

// Grow makes room for n further elements of so many bytes in total.
func (b *ArrayBuilder) Grow(n, size int) {
	if cap(b.data)-len(b.data) < size {
		b.data = append(make([]byte, 0, len(b.data)+size), b.data...)
	}
	if cap(b.ends)-len(b.ends) < n {
		b.ends = append(make([]int, 0, len(b.ends)+n), b.ends...)
	}
}

// Len returns the number of elements so far.
func (b *ArrayBuilder) Len() int {
	if b.fixed > 0 {
		return len(b.data) / b.fixed
	}
	return len(b.ends)
}

// Append adds an element, which must have the type Elem.
func (b *ArrayBuilder) Append(v Value) {
	if v.typ != b.Elem {
		panic(fmt.Sprintf("gvariant: %s appended to an array of %s", v.typ, b.Elem))
	}
	b.AppendRaw(v.data)
}

// AppendRaw adds an element that was serialised before: data is the
// [Value.Data] of a value of the type Elem. Elements that do not change can so
// be kept serialised. The builder keeps no reference to data.
func (b *ArrayBuilder) AppendRaw(data []byte) {
	b.begin()
	b.data = append(b.data, data...)
	b.finish()
}

// AppendTuple adds an element that is a tuple, or dict entry, of the values,
// whose types must together be the type Elem; it saves the making of a value.
func (b *ArrayBuilder) AppendTuple(values ...Value) {
	at := 1
	for _, v := range values {
		if !strings.HasPrefix(b.Elem[at:], v.typ) {
			panic(fmt.Sprintf("gvariant: %s in a tuple of an array of %s", v.typ, b.Elem))
		}
		at += len(v.typ)
	}
	if at != len(b.Elem)-1 {
		panic("gvariant: too few values for an element of an array of " + b.Elem)
	}
	b.begin()
	b.data = appendTuple(b.data, values)
	b.finish()
}

// Value returns the array. The builder must not be used afterwards.
func (b *ArrayBuilder) Value() Value {
	if b.fixed > 0 || len(b.ends) == 0 {
		return Value{typ: "a" + b.Elem, data: slices.Clip(b.data)}
	}
	width := minOffsetSize(len(b.data), len(b.ends))
	for _, end := range b.ends {
		b.data = appendOffset(b.data, end, width)
	}
	return Value{typ: "a" + b.Elem, data: slices.Clip(b.data)}
}
