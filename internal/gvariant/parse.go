package gvariant

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// ErrMalformed is wrapped by every error of [Parse].
var ErrMalformed = errors.New("malformed variant")

// Parse takes data as a value of the type. The value keeps data, which must not
// be changed afterwards. Everything below it is checked, so that the value can
// be read without errors; see the package comment.
func Parse(typ string, data []byte) (Value, error) {
	if !ValidType(typ) {
		return Value{}, fmt.Errorf("%w: %.40q is not a type", ErrMalformed, typ)
	}
	// The budget bounds the time spent on types that nest deeply around very
	// little data; honest data needs a fraction of it.
	c := checker{budget: 4096 + 64*len(data)}
	if err := c.check(Value{typ: typ, data: data}, 0); err != nil {
		return Value{}, fmt.Errorf("%w of type %.40s: %w", ErrMalformed, typ, err)
	}
	return Value{typ: typ, data: slices.Clip(data)}, nil
}

var (
	errSize      = errors.New("size does not fit the type")
	errBool      = errors.New("truth value is neither 0 nor 1")
	errString    = errors.New("string is not terminated UTF-8")
	errPath      = errors.New("not an object path")
	errSignature = errors.New("not a signature")
	errType      = errors.New("variant has no valid type")
	errOffset    = errors.New("offset out of bounds")
	errWidth     = errors.New("offsets are wider than need be")
	errPadding   = errors.New("padding is not zero")
	errDepth     = errors.New("nested too deeply")
	errMaybe     = errors.New("maybe is not terminated")
)

type checker struct{ budget int }

// check demands that v, whose type is valid, is in normal form.
func (c *checker) check(v Value, depth int) error {
	if c.budget -= len(v.typ); depth > maxDepth || c.budget < 0 {
		return errDepth
	}
	switch v.typ[0] {
	case 'b':
		if len(v.data) != 1 {
			return errSize
		}
		if v.data[0] > 1 {
			return errBool
		}
		return nil
	case 's', 'o', 'g':
		return checkString(v)
	case 'v':
		i := bytes.LastIndexByte(v.data, 0)
		if i < 0 {
			return errType
		}
		if c.budget -= len(v.data) - i; c.budget < 0 {
			return errDepth
		}
		t := typeString(v.data[i+1:])
		if !ValidType(t) {
			return errType
		}
		return c.check(Value{typ: t, data: v.data[:i]}, depth+1)
	case 'm':
		return c.checkMaybe(v, depth)
	case 'a':
		return c.checkArray(v, depth)
	case '(', '{':
		return c.checkTuple(v, depth)
	}
	if _, _, size := scan(v.typ, 0); len(v.data) != size {
		return errSize
	}
	return nil
}

func checkString(v Value) error {
	end := len(v.data) - 1
	if end < 0 || bytes.IndexByte(v.data, 0) != end || !utf8.Valid(v.data[:end]) {
		return errString
	}
	switch v.typ[0] {
	case 'o':
		if !validPath(v.data[:end]) {
			return errPath
		}
	case 'g':
		s := string(v.data[:end])
		for i := 0; i < len(s); {
			next, ok := typeEnd(s, i, 0)
			if !ok {
				return errSignature
			}
			i = next
		}
	}
	return nil
}

// validPath tells whether p is a D-Bus object path: "/" or "/a/b_2".
func validPath(p []byte) bool {
	if len(p) == 0 || p[0] != '/' {
		return false
	}
	for i, c := range p[1:] {
		switch {
		case c == '/':
			if p[i] == '/' {
				return false
			}
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		default:
			return false
		}
	}
	return len(p) == 1 || p[len(p)-1] != '/'
}

func (c *checker) checkMaybe(v Value, depth int) error {
	if len(v.data) == 0 {
		return nil
	}
	content := Value{typ: v.typ[1:], data: v.data}
	if _, _, size := scan(v.typ, 1); size == 0 {
		end := len(v.data) - 1
		if v.data[end] != 0 {
			return errMaybe
		}
		content.data = v.data[:end]
	}
	return c.check(content, depth+1)
}

func (c *checker) checkArray(v Value, depth int) error {
	_, align, fixed := scan(v.typ, 1)
	elem := v.typ[1:]
	if fixed > 0 {
		if len(v.data)%fixed != 0 {
			return errSize
		}
		switch elem[0] {
		case 'b', '(', '{':
			for i := 0; i < len(v.data); i += fixed {
				if err := c.check(Value{typ: elem, data: v.data[i : i+fixed]}, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if len(v.data) == 0 {
		return nil
	}
	width := offsetSize(len(v.data))
	table := readOffset(v.data[len(v.data)-width:])
	if table < 0 || table >= len(v.data) || (len(v.data)-table)%width != 0 {
		return errOffset
	}
	if width > minOffsetSize(table, (len(v.data)-table)/width) {
		return errWidth
	}
	last := 0
	for at := table; at < len(v.data); at += width {
		start, end := alignUp(last, align), readOffset(v.data[at:at+width])
		if end < start || end > table {
			return errOffset
		}
		if !zero(v.data[last:start]) {
			return errPadding
		}
		if err := c.check(Value{typ: elem, data: v.data[start:end]}, depth+1); err != nil {
			return err
		}
		last = end
	}
	return nil
}

func (c *checker) checkTuple(v Value, depth int) error {
	_, _, fixed := scan(v.typ, 0)
	if fixed > 0 && len(v.data) != fixed {
		return errSize
	}
	if v.typ == "()" {
		if v.data[0] != 0 {
			return errPadding
		}
		return nil
	}
	var (
		width = offsetSize(len(v.data))
		stop  = len(v.typ) - 1
		body  = len(v.data) // where the table of offsets begins
		last  = 0           // end of the member before
		used  = 0
	)
	for t := 1; t < stop; {
		next, align, size := scan(v.typ, t)
		start := alignUp(last, align)
		var end int
		switch {
		case size > 0:
			end = start + size
		case next == stop:
			end = body
		default:
			if body -= width; body < 0 || width == 0 {
				return errOffset
			}
			used++
			end = readOffset(v.data[body : body+width])
		}
		if end < start || end > body {
			return errOffset
		}
		if !zero(v.data[last:start]) {
			return errPadding
		}
		if err := c.check(Value{typ: v.typ[t:next], data: v.data[start:end]}, depth+1); err != nil {
			return err
		}
		last, t = end, next
	}
	switch {
	case fixed > 0:
		if !zero(v.data[last:]) {
			return errPadding
		}
	case last != body:
		return errOffset
	case used > 0 && width > minOffsetSize(body, used):
		return errWidth
	}
	return nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
