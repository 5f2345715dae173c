package delta

import (
	"bytes"
	"encoding/binary"
	"path"
	"strings"
)

// kind is how content is compressed. Payload is laid out in this order: stored
// content needs no time, and the program at the end is compressed with what
// is plain.
type kind uint8

const (
	kindStored kind = iota // does not get smaller
	kindX86                // machine code for x86
	kindPlain              // all else
)

const (
	// incompressible is the share of its size that content keeps under deflate
	// from which on it is stored, in percent.
	incompressible = 97
	// overhead is what the header of a .filez adds to the deflated content.
	overhead = 100
)

// classify sets kind and group by the first bytes, the name, and what deflate
// made of the content.
func (o *object) classify(magic []byte) {
	o.kind, o.group = kindPlain, extension(o.path)
	machine := codeOf(magic)
	if machine != codeNone {
		o.group = " code" // before extensions
	}
	switch {
	case o.size > 4*overhead && (o.stored-min(o.stored, overhead))*100 >= o.size*incompressible:
		o.kind = kindStored
	case machine == codeX86:
		o.kind = kindX86
	}
}

type code uint8

const (
	codeNone  code = iota
	codeX86        // 32 or 64 bits
	codeOther      // for another machine
)

// codeOf tells programs and libraries by their first bytes: ELF, and PE, which
// Wine brings along.
func codeOf(b []byte) code {
	switch {
	case len(b) >= 20 && bytes.HasPrefix(b, []byte("\x7fELF")):
		if b[5] == 1 { // little-endian
			if m := binary.LittleEndian.Uint16(b[18:]); m == 62 || m == 3 {
				return codeX86
			}
		}
		return codeOther
	case len(b) >= 64 && b[0] == 'M' && b[1] == 'Z':
		at := int(binary.LittleEndian.Uint32(b[60:]))
		if at < 0 || at > len(b)-6 || string(b[at:at+4]) != "PE\x00\x00" {
			return codeNone
		}
		if m := binary.LittleEndian.Uint16(b[at+4:]); m == 0x8664 || m == 0x14C {
			return codeX86
		}
		return codeOther
	}
	return codeNone
}

// extension is what the name says of the content: "png"; for "libx.so.1.2", "so".
func extension(name string) string {
	base := path.Base(name)
	for {
		i := strings.LastIndexByte(base, '.')
		if i <= 0 {
			return ""
		}
		if ext := base[i+1:]; ext != "" && strings.Trim(ext, "0123456789") != "" {
			return strings.ToLower(ext)
		}
		base = base[:i]
	}
}

// stem is a name without its numbers, which is what versions have in common:
// "libx-#.so.#".
func stem(name string) string {
	var b strings.Builder
	number := false
	for i := range len(name) {
		c := name[i]
		if c >= '0' && c <= '9' || number && c == '.' && i+1 < len(name) && name[i+1] >= '0' && name[i+1] <= '9' {
			if !number {
				b.WriteByte('#')
			}
			number = true
			continue
		}
		number = false
		b.WriteByte(c)
	}
	return b.String()
}
