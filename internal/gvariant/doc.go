// Package gvariant reads and writes GVariant, the serialisation of GLib that
// OSTree and Flatpak use for everything but file content. Numbers are
// little-endian, which is what every repository in the field holds; fields that
// a format defines as big-endian inside a native number have their own
// accessors ([Value.Uint64BE]) and constructors ([Uint64BE]).
//
// A [Value] is a type string with its serialised bytes. It is made by a
// constructor, or by [Parse] from bytes of others, and is immutable. Parse
// accepts normal form only: offsets, padding, terminators, truth values, UTF-8
// and nested types are all checked, once, in time and memory linear in the
// input. So a Value is always well-formed, its accessors need no errors, and
// what was parsed and is built anew has the same bytes. libostree demands
// normal form too.
//
// Accessors read straight from the bytes and never fail: on a value of another
// type, or an index or key that is not there, they answer with the zero value,
// whose type string is empty.
//
// The format is described in the "GVariant Specification" of GLib. In short:
// containers align their members, and follow them by a table of the ends of
// those whose size is not fixed by the type, in numbers as wide as the size of
// the container demands.
package gvariant
