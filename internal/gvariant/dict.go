package gvariant

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
)

// Dict is an a{sv} that can be changed. Entries keep the order in which they
// came, so that a dictionary that is parsed and written again has the same
// bytes. The zero value is an empty dictionary. It is made for the tens of
// entries that metadata has: finding a key takes time linear in their number.
type Dict struct {
	entries []Entry
}

// Entry is a key of a [Dict] with its value, which is not wrapped in a variant.
type Entry struct {
	Key   string
	Value Value
}

// NewDict makes a dictionary of entries.
func NewDict(entries ...Entry) Dict {
	var d Dict
	for _, e := range entries {
		d.Set(e.Key, e.Value)
	}
	return d
}

// DictOf takes the entries of v, which must be an a{sv}. Where a key comes
// twice, both entries are kept, and the first counts.
func DictOf(v Value) (Dict, error) {
	if !v.Is("a{sv}") {
		return Dict{}, fmt.Errorf("%w: type %.40q is not a{sv}", ErrMalformed, v.typ)
	}
	d := Dict{entries: make([]Entry, 0, v.Len())}
	for e := range v.Children() {
		m := newMembers(e)
		m.next()
		key := m.value().Str()
		m.next()
		d.entries = append(d.entries, Entry{Key: key, Value: m.value().Unwrap()})
	}
	return d, nil
}

// Len returns the number of entries.
func (d *Dict) Len() int { return len(d.entries) }

// All walks over the entries in order.
func (d *Dict) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for _, e := range d.entries {
			if !yield(e.Key, e.Value) {
				return
			}
		}
	}
}

func (d *Dict) index(key string) int {
	return slices.IndexFunc(d.entries, func(e Entry) bool { return e.Key == key })
}

// Get returns the value of a key; when there is none, the zero Value and false.
func (d *Dict) Get(key string) (Value, bool) {
	if i := d.index(key); i >= 0 {
		return d.entries[i].Value, true
	}
	return Value{}, false
}

// Has tells whether there is such a key.
func (d *Dict) Has(key string) bool { return d.index(key) >= 0 }

// Str returns the value of a key when it is a string, else "" and false.
func (d *Dict) Str(key string) (string, bool) {
	v, _ := d.Get(key)
	return v.Str(), v.Is("s")
}

// Strings returns the value of a key when it is an as, else nil and false.
func (d *Dict) Strings(key string) ([]string, bool) {
	v, _ := d.Get(key)
	return v.Strings(), v.Is("as")
}

// Set gives a key a value. A key that is there keeps its place; a new one goes
// to the end.
func (d *Dict) Set(key string, v Value) {
	if i := d.index(key); i >= 0 {
		d.entries[i].Value = v
		return
	}
	d.entries = append(d.entries, Entry{Key: key, Value: v})
}

// Delete removes all entries of a key and tells whether there was one.
func (d *Dict) Delete(key string) bool {
	n := len(d.entries)
	d.entries = slices.DeleteFunc(d.entries, func(e Entry) bool { return e.Key == key })
	return len(d.entries) < n
}

// Sort orders the entries by key, byte by byte.
func (d *Dict) Sort() {
	slices.SortStableFunc(d.entries, func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) })
}

// Clone returns a dictionary that can be changed without changing d.
func (d *Dict) Clone() Dict { return Dict{entries: slices.Clone(d.entries)} }

// Value returns the dictionary as an a{sv}.
func (d *Dict) Value() Value {
	b := ArrayBuilder{Elem: "{sv}"}
	for _, e := range d.entries {
		b.AppendTuple(String(e.Key), Variant(e.Value))
	}
	return b.Value()
}
