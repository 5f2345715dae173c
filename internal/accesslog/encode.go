package accesslog

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strconv"
	"time"
	"unsafe"
)

// Format is how lines look.
type Format uint8

// The formats.
const (
	Text Format = iota
	JSON
	Combined
)

// ParseFormat reads the name of a format.
func ParseFormat(s string) (Format, error) {
	switch s {
	case "text":
		return Text, nil
	case "json":
		return JSON, nil
	case "combined":
		return Combined, nil
	}
	return 0, fmt.Errorf(`want "text", "json" or "combined", got %q`, s)
}

// encoder appends lines. It keeps the time it wrote last, so each goroutine
// needs its own.
type encoder struct {
	format    Format
	addresses Addresses
	role      string

	second int64
	clock  [40]byte // the second, in the format's notation
	n      int      // clock[:n]

	constants [2][]byte // by level: INFO, WARN
}

// append appends the line of a record.
func (e *encoder) append(b []byte, r *Record) []byte {
	switch e.format {
	case Combined:
		return e.combined(b, r)
	case JSON:
		b = e.json(b, r)
	case Text:
		b = e.text(b, r)
	}
	return append(b, '\n')
}

// time returns the second of t in the layout.
func (e *encoder) time(t time.Time, layout string) []byte {
	if s := t.Unix(); s != e.second || e.n == 0 {
		e.second = s
		e.n = len(t.AppendFormat(e.clock[:0], layout))
	}
	return e.clock[:e.n]
}

// constant is what is the same in all lines of a level, behind the time.
func (e *encoder) constant(level slog.Level) []byte {
	i := 0
	if level == slog.LevelWarn {
		i = 1
	}
	if e.constants[i] == nil {
		if e.format == JSON {
			e.constants[i] = constantJSON(level, e.role)
		} else {
			e.constants[i] = constantText(level, e.role)
		}
	}
	return e.constants[i]
}

// harmless reports whether all of s is printable ASCII but quotes and
// backslashes: what most values are, and what no format has to look at any
// closer.
func harmless(s string) bool {
	p := unsafe.Slice(unsafe.StringData(s), len(s)) //nolint:gosec // only read
	if len(p) < 8 {
		var last [8]byte
		for i := range last {
			last[i] = '-'
		}
		copy(last[:], p)
		return harmless8(last[:])
	}
	for i := 0; i < len(p)-8; i += 8 {
		if !harmless8(p[i:]) {
			return false
		}
	}
	return harmless8(p[len(p)-8:])
}

// harmless8 is harmless for the first eight bytes, which it looks at all at
// once: of each, the highest bit tells.
func harmless8(p []byte) bool {
	const each, highest = 0x0101010101010101, 0x8080808080808080
	x := binary.LittleEndian.Uint64(p)
	quote, backslash, del := x^each*'"', x^each*'\\', x^each*0x7f
	return (x|(x-each*' ')|(quote-each)|(backslash-each)|(del-each))&highest == 0
}

// view is b as a string, as long as b does not change.
func view(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // only read, while the record lasts
}

// appendSeconds appends seconds to the microsecond.
func appendSeconds(b []byte, d time.Duration) []byte {
	us := int64((d + time.Microsecond/2) / time.Microsecond)
	b = strconv.AppendInt(b, us/1e6, 10)
	var room [7]byte
	room[0] = '.'
	frac := us % 1e6
	for i := len(room) - 1; i > 0; i-- {
		room[i] = byte('0' + frac%10)
		frac /= 10
	}
	return append(b, room[:]...)
}

// keyDigits is the length of a key in hexadecimal.
const keyDigits = 16

func appendKey(b []byte, key uint64) []byte {
	const digits = "0123456789abcdef"
	var room [keyDigits]byte
	for i := range room {
		room[i] = digits[key>>60]
		key <<= 4
	}
	return append(b, room[:]...)
}
