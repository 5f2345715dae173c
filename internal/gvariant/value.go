package gvariant

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math"
	"sort"
)

// Value is an immutable, well-formed value. The zero Value has no type and
// reads as zero. Values may be used by several goroutines at once.
type Value struct {
	typ  string
	data []byte
}

// Type returns the type string; it is empty for the zero Value only.
func (v Value) Type() string { return v.typ }

// Is tells whether the value has this type.
func (v Value) Is(typ string) bool { return v.typ == typ }

// Data returns the serialised bytes, which must not be changed.
func (v Value) Data() []byte { return v.data }

// Equal tells whether two values have the same type and content.
func (v Value) Equal(w Value) bool { return v.typ == w.typ && bytes.Equal(v.data, w.data) }

// Bool reads a b.
func (v Value) Bool() bool { return v.typ == "b" && v.data[0] != 0 }

// Byte reads a y.
func (v Value) Byte() byte {
	if v.typ != "y" {
		return 0
	}
	return v.data[0]
}

// Uint64 reads a number without a sign of any width: y, q, u, t or h.
func (v Value) Uint64() uint64 {
	switch v.typ {
	case "y":
		return uint64(v.data[0])
	case "q":
		return uint64(binary.LittleEndian.Uint16(v.data))
	case "u", "h":
		return uint64(binary.LittleEndian.Uint32(v.data))
	case "t":
		return binary.LittleEndian.Uint64(v.data)
	}
	return 0
}

// Int64 reads a number with a sign of any width: n, i or x.
func (v Value) Int64() int64 {
	switch v.typ {
	case "n":
		return int64(int16(binary.LittleEndian.Uint16(v.data)))
	case "i":
		return int64(int32(binary.LittleEndian.Uint32(v.data)))
	case "x":
		return int64(binary.LittleEndian.Uint64(v.data))
	}
	return 0
}

// Uint32 reads a u.
func (v Value) Uint32() uint32 {
	if v.typ != "u" {
		return 0
	}
	return binary.LittleEndian.Uint32(v.data)
}

// Uint32BE reads a u whose format says that it is stored big-endian.
func (v Value) Uint32BE() uint32 {
	if v.typ != "u" {
		return 0
	}
	return binary.BigEndian.Uint32(v.data)
}

// Uint64BE reads a t whose format says that it is stored big-endian.
func (v Value) Uint64BE() uint64 {
	if v.typ != "t" {
		return 0
	}
	return binary.BigEndian.Uint64(v.data)
}

// Double reads a d.
func (v Value) Double() float64 {
	if v.typ != "d" {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(v.data))
}

// Str reads an s, o or g.
func (v Value) Str() string { return string(v.strBytes()) }

// strBytes returns a string without its NUL.
func (v Value) strBytes() []byte {
	switch v.typ {
	case "s", "o", "g":
		return v.data[:len(v.data)-1]
	}
	return nil
}

// Bytes reads an ay. The bytes are those of the value and must not be changed.
func (v Value) Bytes() []byte {
	if v.typ != "ay" {
		return nil
	}
	return v.data
}

// Strings reads an as.
func (v Value) Strings() []string {
	if v.typ != "as" {
		return nil
	}
	list := make([]string, 0, v.Len())
	for s := range v.Children() {
		list = append(list, s.Str())
	}
	return list
}

// Unwrap returns what a variant (v) holds.
func (v Value) Unwrap() Value {
	if v.typ != "v" {
		return Value{}
	}
	i := bytes.LastIndexByte(v.data, 0)
	return Value{typ: typeString(v.data[i+1:]), data: v.data[:i:i]}
}

// Len returns the number of elements of an array, members of a tuple or dict
// entry (2), content of a maybe (0 or 1) or of a variant (1); 0 for the rest.
func (v Value) Len() int {
	if v.typ == "" {
		return 0
	}
	switch v.typ[0] {
	case 'a':
		return v.array().len
	case 'm':
		if len(v.data) == 0 {
			return 0
		}
		return 1
	case 'v':
		return 1
	case '(', '{':
		n := 0
		for i := 1; i < len(v.typ)-1; n++ {
			i, _, _ = scan(v.typ, i)
		}
		return n
	}
	return 0
}

// Child returns the element, member or content at index i, counted from 0. For
// arrays this takes constant time.
func (v Value) Child(i int) Value {
	if v.typ == "" || i < 0 {
		return Value{}
	}
	switch v.typ[0] {
	case 'a':
		if a := v.array(); i < a.len {
			return a.child(i)
		}
	case 'm':
		if i == 0 && len(v.data) > 0 {
			if _, _, size := scan(v.typ, 1); size == 0 {
				return Value{typ: v.typ[1:], data: v.data[:len(v.data)-1]}
			}
			return Value{typ: v.typ[1:], data: v.data}
		}
	case 'v':
		if i == 0 {
			return v.Unwrap()
		}
	case '(', '{':
		for m := newMembers(v); m.next(); i-- {
			if i == 0 {
				return m.value()
			}
		}
	}
	return Value{}
}

// Children walks over the elements, members or content in order. It is faster
// than asking for each [Value.Child].
func (v Value) Children() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.typ == "" {
			return
		}
		switch v.typ[0] {
		case 'a':
			a := v.array()
			for i := range a.len {
				if !yield(a.child(i)) {
					return
				}
			}
		case '(', '{':
			for m := newMembers(v); m.next(); {
				if !yield(m.value()) {
					return
				}
			}
		case 'm', 'v':
			if v.Len() == 1 {
				yield(v.Child(0))
			}
		}
	}
}

// Lookup finds the first entry of a dictionary with string keys (a{s…}) that
// has this key, and returns its value; a variant is unwrapped. It tries one
// entry after the other.
func (v Value) Lookup(key string) (Value, bool) {
	if len(v.typ) < 4 || v.typ[:3] != "a{s" {
		return Value{}, false
	}
	for entry := range v.Children() {
		m := newMembers(entry)
		m.next()
		if string(m.value().strBytes()) != key {
			continue
		}
		m.next()
		found := m.value()
		if found.typ == "v" {
			found = found.Unwrap()
		}
		return found, true
	}
	return Value{}, false
}

// Search finds a key in an array of tuples or dict entries that begin with a
// string and are sorted by it, byte by byte (a(s…), a{s…}). It returns the
// index of the entry, or where it would have to be inserted. In an array that
// is not sorted it may miss the key, but does no harm.
func (v Value) Search(key string) (index int, found bool) {
	if len(v.typ) < 3 || v.typ[0] != 'a' || v.typ[1] != '(' && v.typ[1] != '{' || v.typ[2] != 's' {
		return 0, false
	}
	a := v.array()
	at := func(i int) []byte {
		m := newMembers(a.child(i))
		m.next()
		return m.value().strBytes()
	}
	index = sort.Search(a.len, func(i int) bool { return string(at(i)) >= key })
	return index, index < a.len && string(at(index)) == key
}

// array is what must be known about an array to find its elements.
type array struct {
	v          Value
	align      int
	fixed      int // size of an element; 0 when they have ends of their own
	width, off int // of the table of ends
	len        int
}

func (v Value) array() array {
	a := array{v: v}
	_, a.align, a.fixed = scan(v.typ, 1)
	switch {
	case a.fixed > 0:
		a.len = len(v.data) / a.fixed
	case len(v.data) > 0:
		a.width = offsetSize(len(v.data))
		a.off = readOffset(v.data[len(v.data)-a.width:])
		a.len = (len(v.data) - a.off) / a.width
	}
	return a
}

func (a *array) end(i int) int {
	at := a.off + i*a.width
	return readOffset(a.v.data[at : at+a.width])
}

func (a *array) child(i int) Value {
	if a.fixed > 0 {
		return Value{typ: a.v.typ[1:], data: a.v.data[i*a.fixed : (i+1)*a.fixed : (i+1)*a.fixed]}
	}
	start := 0
	if i > 0 {
		start = alignUp(a.end(i-1), a.align)
	}
	end := a.end(i)
	return Value{typ: a.v.typ[1:], data: a.v.data[start:end:end]}
}

// members walks over the members of a tuple or dict entry.
type members struct {
	v     Value
	t     int // index in the type, after the current member
	from  int // index in the type, of the current member
	start int
	end   int
	used  int // offsets read so far
	width int
}

func newMembers(v Value) members {
	return members{v: v, t: 1, width: offsetSize(len(v.data))}
}

func (m *members) next() bool {
	last := len(m.v.typ) - 1
	if m.t >= last {
		return false
	}
	next, align, size := scan(m.v.typ, m.t)
	m.from, m.t = m.t, next
	m.start = alignUp(m.end, align)
	switch {
	case size > 0:
		m.end = m.start + size
	case next == last:
		m.end = len(m.v.data) - m.used*m.width
	default:
		m.used++
		at := len(m.v.data) - m.used*m.width
		m.end = readOffset(m.v.data[at : at+m.width])
	}
	return true
}

func (m *members) value() Value {
	return Value{typ: m.v.typ[m.from:m.t], data: m.v.data[m.start:m.end:m.end]}
}
