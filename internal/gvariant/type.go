package gvariant

// maxDepth bounds how deep types and values may nest; GLib has the same bound
// (G_VARIANT_MAX_RECURSION_DEPTH).
const maxDepth = 128

// ValidType tells whether t is one complete type that values can have.
func ValidType(t string) bool {
	end, ok := typeEnd(t, 0, 0)
	return ok && end == len(t)
}

// typeEnd returns the index after the complete type at t[i:].
func typeEnd(t string, i, depth int) (end int, ok bool) {
	if i >= len(t) || depth >= maxDepth {
		return 0, false
	}
	switch t[i] {
	case 'b', 'y', 'n', 'q', 'i', 'u', 'h', 'x', 't', 'd', 's', 'o', 'g', 'v':
		return i + 1, true
	case 'a', 'm':
		return typeEnd(t, i+1, depth+1)
	case '(':
		for i++; i < len(t) && t[i] != ')'; {
			if i, ok = typeEnd(t, i, depth+1); !ok {
				return 0, false
			}
		}
		return i + 1, i < len(t)
	case '{':
		if i+1 >= len(t) || !basic(t[i+1]) {
			return 0, false
		}
		if i, ok = typeEnd(t, i+2, depth+1); !ok || i >= len(t) || t[i] != '}' {
			return 0, false
		}
		return i + 1, true
	}
	return 0, false
}

// basic tells whether a type may be the key of a dictionary.
func basic(c byte) bool {
	switch c {
	case 'b', 'y', 'n', 'q', 'i', 'u', 'h', 'x', 't', 'd', 's', 'o', 'g':
		return true
	}
	return false
}

// scan measures the complete type at t[i:], which must be valid: the index
// after it, its alignment, and its size in bytes when that is fixed, else 0.
func scan(t string, i int) (end, align, size int) {
	switch t[i] {
	case 'b', 'y':
		return i + 1, 1, 1
	case 'n', 'q':
		return i + 1, 2, 2
	case 'i', 'u', 'h':
		return i + 1, 4, 4
	case 'x', 't', 'd':
		return i + 1, 8, 8
	case 'v':
		return i + 1, 8, 0
	case 'a', 'm':
		end, align, _ = scan(t, i+1)
		return end, align, 0
	case '(', '{':
		fixed := true
		align = 1
		i++
		for t[i] != ')' && t[i] != '}' {
			next, a, s := scan(t, i)
			align = max(align, a)
			size = alignUp(size, a) + s
			fixed = fixed && s > 0
			i = next
		}
		switch {
		case !fixed:
			size = 0
		case size == 0: // the unit tuple takes a byte
			size = 1
		default:
			size = alignUp(size, align)
		}
		return i + 1, align, size
	}
	return i + 1, 1, 0 // strings
}

func alignUp(n, align int) int { return (n + align - 1) &^ (align - 1) }

// offsetSize returns the width of the offsets in a container of size bytes,
// the offsets included.
func offsetSize(size int) int {
	switch {
	case size == 0:
		return 0
	case uint64(size) <= 0xff:
		return 1
	case uint64(size) <= 0xffff:
		return 2
	case uint64(size) <= 0xffffffff:
		return 4
	}
	return 8
}

// minOffsetSize returns the width a writer chooses for n offsets after a body
// of so many bytes.
func minOffsetSize(body, n int) int {
	for _, width := range [...]int{1, 2, 4} {
		if offsetSize(body+n*width) <= width {
			return width
		}
	}
	return 8
}

// readOffset reads the little-endian number in b, which has the width of the
// offsets. What does not fit an int is -1.
func readOffset(b []byte) int {
	var n uint64
	for i, c := range b {
		n |= uint64(c) << (8 * i)
	}
	if n > 1<<62 {
		return -1
	}
	return int(n)
}

func appendOffset(dst []byte, n, width int) []byte {
	for i := range width {
		dst = append(dst, byte(uint64(n)>>(8*i)))
	}
	return dst
}

// typeString turns bytes into a type string, without allocating for the types
// that repositories are made of.
func typeString(b []byte) string {
	switch string(b) {
	case "s":
		return "s"
	case "b":
		return "b"
	case "y":
		return "y"
	case "i":
		return "i"
	case "u":
		return "u"
	case "t":
		return "t"
	case "v":
		return "v"
	case "ay":
		return "ay"
	case "as":
		return "as"
	case "aay":
		return "aay"
	case "a{sv}":
		return "a{sv}"
	case "a(ss)":
		return "a(ss)"
	case "(tts)":
		return "(tts)"
	}
	return string(b)
}
