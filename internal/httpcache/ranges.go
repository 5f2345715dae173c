package httpcache

import (
	"math"
	"strconv"
	"strings"
)

// MaxRanges is how many ranges of one request are served; a request with more
// gets the whole representation.
const MaxRanges = 256

// Range is a part of a representation: Length bytes from byte Start on. Length
// is at least 1.
type Range struct{ Start, Length int64 }

// ContentRange is the value of a 206 response's Content-Range field.
func (r Range) ContentRange(size int64) string {
	b := make([]byte, 0, 48)
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, r.Start, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, r.Start+r.Length-1, 10)
	b = append(b, '/')
	return string(strconv.AppendInt(b, size, 10))
}

// Unsatisfied is the value of a 416 response's Content-Range field.
func Unsatisfied(size int64) string { return "bytes */" + strconv.FormatInt(size, 10) }

// ParseContentRange reads the Content-Range field of a 206 response (RFC 9110
// §14.4): the part that was sent, which is not empty, and the size of the whole.
// ok is false if it says anything else, also that the size is not known.
func ParseContentRange(field string) (part Range, size int64, ok bool) {
	unit, rest, _ := strings.Cut(field, " ")
	span, total, _ := strings.Cut(rest, "/")
	from, to, _ := strings.Cut(span, "-")
	start, ok1 := parsePos(from)
	end, ok2 := parsePos(to)
	size, ok3 := parsePos(total)
	ok = strings.EqualFold(unit, "bytes") && ok1 && ok2 && ok3 && start <= end && end < size
	return Range{start, end - start + 1}, size, ok
}

// ParseRange reads the Range field of a request for a representation of the
// given size (RFC 9110 §14.1.2, §14.2).
//
// No ranges and satisfiable true mean that the field is to be ignored: it is
// absent, of another unit, malformed, asks for more than [MaxRanges] parts, or
// for more bytes in total than the representation has. satisfiable false means
// 416: no range overlaps the representation. The ranges are in the order of
// the request and lie within the size.
func ParseRange(field string, size int64) (ranges []Range, satisfiable bool) {
	unit, set, ok := strings.Cut(field, "=")
	if !ok || !strings.EqualFold(strings.Trim(unit, " \t"), "bytes") {
		return nil, true
	}
	n, total := 0, int64(0)
	for spec := range strings.SplitSeq(set, ",") {
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue
		}
		if n++; n > MaxRanges {
			return nil, true
		}
		r, ok := parseSpec(spec, size)
		if !ok {
			return nil, true
		}
		if r.Length > 0 {
			ranges = append(ranges, r)
			total += r.Length
			if total > size && len(ranges) > 1 {
				return nil, true // overlapping: a cheap way to make us send much (§17.15)
			}
		}
	}
	if n == 0 {
		return nil, true
	}
	return ranges, len(ranges) > 0
}

// parseSpec reads one range-spec. Length 0 stands for an unsatisfiable one.
func parseSpec(spec string, size int64) (Range, bool) {
	from, to, ok := strings.Cut(spec, "-")
	if !ok {
		return Range{}, false
	}
	if from == "" {
		n, ok := parsePos(to)
		n = min(n, size)
		return Range{size - n, n}, ok
	}
	start, ok := parsePos(from)
	if !ok {
		return Range{}, false
	}
	end := int64(math.MaxInt64)
	if to != "" {
		if end, ok = parsePos(to); !ok || end < start {
			return Range{}, false
		}
	}
	if start >= size {
		return Range{}, true
	}
	return Range{start, min(end, size-1) - start + 1}, true
}

// parsePos reads 1*DIGIT; what does not fit counts as the largest number.
func parsePos(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		c := int64(s[i]) - '0'
		if c < 0 || c > 9 {
			return 0, false
		}
		if n > (math.MaxInt64-c)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + c
	}
	return n, true
}

// Multipart is the frame of a multipart/byteranges body (RFC 9110 §14.6).
type Multipart struct {
	// Boundary must not occur in the parts; a random token will not.
	Boundary string
	// ContentType is that of the representation, "" if it has none.
	ContentType string
	// Size is that of the whole representation.
	Size   int64
	Ranges []Range
}

// Type is the value of the response's Content-Type field.
func (m Multipart) Type() string { return "multipart/byteranges; boundary=" + m.Boundary }

// Length is the length of the whole body.
func (m Multipart) Length() int64 {
	var n int64
	for i, r := range m.Ranges {
		n += int64(len(m.Head(i))) + r.Length
	}
	return n + int64(len(m.Tail()))
}

// Head is what stands before the bytes of the i-th range.
func (m Multipart) Head(i int) string {
	var b strings.Builder
	if i > 0 {
		b.WriteString("\r\n")
	}
	b.WriteString("--")
	b.WriteString(m.Boundary)
	if m.ContentType != "" {
		b.WriteString("\r\nContent-Type: ")
		b.WriteString(m.ContentType)
	}
	b.WriteString("\r\nContent-Range: ")
	b.WriteString(m.Ranges[i].ContentRange(m.Size))
	b.WriteString("\r\n\r\n")
	return b.String()
}

// Tail is what stands after the last range.
func (m Multipart) Tail() string { return "\r\n--" + m.Boundary + "--\r\n" }
