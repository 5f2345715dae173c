package metalink

import (
	"encoding/binary"
	"unicode/utf8"
)

// appendXML appends text so that it can stand in an element and in an attribute
// in double quotes.
func appendXML(dst []byte, s string) []byte {
	begin := len(dst)
	dst = append(dst, s...)
	if isPlain(dst[begin:]) {
		return dst
	}
	dst = dst[:begin]
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '&':
			dst = append(dst, "&amp;"...)
		case r == '<':
			dst = append(dst, "&lt;"...)
		case r == '>':
			dst = append(dst, "&gt;"...)
		case r == '"':
			dst = append(dst, "&quot;"...)
		case !legalXML(r, n):
			dst = append(dst, "\uFFFD"...)
		default:
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return dst
}

// isPlain tells whether text is printable ASCII without the characters that mean
// something to XML. It looks at eight bytes at once, as an answer has a hundred
// kilobytes.
func isPlain(b []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		w := binary.LittleEndian.Uint64(b)
		quotes := (w | 4*ones) ^ '&'*ones                             // a zero byte for " and &
		angles := (w | 2*ones) ^ '>'*ones                             // and for < and >
		odd := w | (w - ' '*ones) | (quotes - ones) | (angles - ones) // a top bit, at the least for what is not plain
		if odd&tops != 0 {
			return false
		}
	}
	for _, c := range b {
		if c < ' ' || c >= utf8.RuneSelf || c|4 == '&' || c|2 == '>' {
			return false
		}
	}
	return true
}

// legalXML tells whether a document of XML 1.0 may have a rune, decoded from n
// bytes, on one line.
func legalXML(r rune, n int) bool {
	return r >= ' ' && r != 0xfffe && r != 0xffff && (r != utf8.RuneError || n > 1)
}

// AppendComment appends text so that it can stand in a comment of XML, which
// must not have two hyphens in a row or end in one. Lines stay lines.
func AppendComment(dst []byte, s string) []byte {
	last := ' '
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '-' && last == '-':
			dst = append(dst, ' ', '-')
		case r == '\n' || legalXML(r, n):
			dst = append(dst, s[i:i+n]...)
		default:
			dst = append(dst, "\uFFFD"...)
		}
		last = r
		i += n
	}
	if last == '-' {
		dst = append(dst, ' ')
	}
	return dst
}
