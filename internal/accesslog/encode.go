package accesslog

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
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
		b = e.slog(b, r, jsonFields{})
	case Text:
		b = e.slog(b, r, textFields{})
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

// combined appends the line in the format of that name.
func (e *encoder) combined(b []byte, r *Record) []byte {
	if addr := e.addresses.shown(r.Client); addr.IsValid() {
		b = addr.AppendTo(b)
	} else {
		b = append(b, "0.0.0.0"...) // readers take nothing but an address
	}
	b = append(b, " - - ["...)
	b = append(b, e.time(r.end(), "02/Jan/2006:15:04:05 -0700")...)
	b = append(b, `] "`...)
	b = appendHex(b, r.Method)
	b = append(b, ' ')
	if len(r.Target) > 0 {
		b = appendHex(b, r.Target)
	} else {
		b = appendHex(b, r.Path)
	}
	b = append(b, ' ')
	b = appendHex(b, r.proto())
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.Bytes, 10)
	b = append(b, ' ')
	b = appendQuoted(b, r.Referer)
	b = append(b, ' ')
	b = appendQuoted(b, r.UserAgent)
	// These four are always there, so that a reader can count on their place.
	b = append(b, ` outcome=`...)
	b = appendQuoted(b, r.Outcome)
	b = append(b, ` took="`...)
	b = appendSeconds(b, r.Took)
	b = append(b, `" ttfb="`...)
	if r.FirstByte > 0 {
		b = appendSeconds(b, r.FirstByte)
	} else {
		b = append(b, '-')
	}
	b = append(b, `" host=`...)
	b = appendQuoted(b, r.Host)
	text := func(name, value string) {
		if value != "" {
			b = append(b, name...)
			b = append(b, '"')
			b = appendHex(b, value)
			b = append(b, '"')
		}
	}
	span := func(name string, d time.Duration) {
		if d != 0 {
			b = append(b, name...)
			b = append(b, '"')
			b = appendSeconds(b, d)
			b = append(b, '"')
		}
	}
	text(` reason=`, r.Reason)
	text(` because=`, r.Because)
	text(` site=`, r.Site)
	if r.Key != 0 {
		b = append(b, ` key="`...)
		b = appendKey(b, r.Key)
		b = append(b, '"')
	}
	text(` upstream=`, r.Upstream.Origin)
	span(` upstream_connect=`, r.Upstream.Connect)
	span(` upstream_tls=`, r.Upstream.TLS)
	span(` upstream_ttfb=`, r.Upstream.FirstByte)
	span(` upstream_took=`, r.Upstream.Total)
	text(` error=`, r.Detail)
	for _, a := range r.More {
		b = append(b, ' ')
		b = appendHex(b, a.Key)
		b = append(b, '=')
		b = appendQuoted(b, a.Value.Resolve().String())
	}
	return append(b, '\n')
}

func (r *Record) proto() string {
	if r.Proto == "" {
		return "HTTP/1.1"
	}
	return r.Proto
}

// appendQuoted appends s in quotes, a dash for nothing.
func appendQuoted[T ~string | ~[]byte](b []byte, s T) []byte {
	b = append(b, '"')
	if len(s) == 0 {
		b = append(b, '-')
	}
	return append(appendHex(b, s), '"')
}

const hexDigits = "0123456789ABCDEF"

// appendHex appends s with every byte as \xHH that is not printable ASCII, or
// that could end a field, or begin such an escape.
func appendHex[T ~string | ~[]byte](b []byte, s T) []byte {
	begin := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[begin:i]...)
		b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		begin = i + 1
	}
	return append(b, s[begin:]...)
}

// appendSeconds appends seconds to the microsecond.
func appendSeconds(b []byte, d time.Duration) []byte {
	us := int64((d + time.Microsecond/2) / time.Microsecond)
	b = strconv.AppendInt(b, us/1e6, 10)
	b = append(b, '.')
	for frac, unit := us%1e6, int64(1e5); unit > 0; unit /= 10 {
		b = append(b, byte('0'+frac/unit%10))
	}
	return b
}

// keyDigits is the length of a key in hexadecimal.
const keyDigits = 16

func appendKey(b []byte, key uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[key>>shift&15])
	}
	return b
}

// fields appends attributes as one of the handlers of log/slog does.
type fields interface {
	open(b []byte) []byte
	name(b []byte, name string) []byte
	text(b []byte, s string) []byte
	span(b []byte, d time.Duration) []byte
	close(b []byte) []byte
	attr(b []byte, a slog.Attr) []byte
}

// slog appends the record as log/slog writes it.
func (e *encoder) slog(b []byte, r *Record, f fields) []byte {
	b = f.open(b)
	b = f.name(b, slog.TimeKey)
	if e.format == JSON {
		b = append(b, '"')
		b = r.end().AppendFormat(b, time.RFC3339Nano)
		b = append(b, '"')
	} else {
		b = e.millis(b, r.end())
	}
	b = append(b, e.constant(r.Level(), f)...)
	b = f.text(f.name(b, "method"), r.Method)
	b = f.text(f.name(b, "path"), r.Path)
	b = strconv.AppendInt(f.name(b, "status"), int64(r.Status), 10)
	b = strconv.AppendInt(f.name(b, "bytes"), r.Bytes, 10)
	b = f.span(f.name(b, "took"), r.Took)
	text := func(name, value string) {
		if value != "" {
			b = f.text(f.name(b, name), value)
		}
	}
	span := func(name string, d time.Duration) {
		if d != 0 {
			b = f.span(f.name(b, name), d)
		}
	}
	text("reason", r.Reason)
	text("error", r.Detail)
	text("outcome", r.Outcome)
	text("host", unsafe.String(unsafe.SliceData(r.Host), len(r.Host))) //nolint:gosec // only read, while the record lasts
	text("site", r.Site)
	text("because", r.Because)
	span("ttfb", r.FirstByte)
	if addr := e.addresses.shown(r.Client); addr.IsValid() {
		b = f.name(b, "client")
		if e.format == JSON {
			b = append(addr.AppendTo(append(b, '"')), '"')
		} else {
			b = addr.AppendTo(b)
		}
	}
	text("proto", r.Proto)
	if r.Key != 0 {
		b = f.name(b, "key")
		if e.format == JSON {
			b = append(appendKey(append(b, '"'), r.Key), '"')
		} else {
			b = appendKey(b, r.Key)
		}
	}
	text("upstream", r.Upstream.Origin)
	span("upstream_connect", r.Upstream.Connect)
	span("upstream_tls", r.Upstream.TLS)
	span("upstream_ttfb", r.Upstream.FirstByte)
	span("upstream_took", r.Upstream.Total)
	for _, a := range r.More {
		b = f.attr(b, a)
	}
	return f.close(b)
}

// constant is what is the same in all lines of a level, behind the time.
func (e *encoder) constant(level slog.Level, f fields) []byte {
	i := 0
	if level == slog.LevelWarn {
		i = 1
	}
	if e.constants[i] == nil {
		const time = "t" // something has to stand before
		b := f.text(f.name([]byte(time), slog.LevelKey), level.String())
		b = f.text(f.name(b, slog.MessageKey), Message)
		if e.role != "" {
			b = f.text(f.name(b, "role"), e.role)
		}
		e.constants[i] = b[len(time):]
	}
	return e.constants[i]
}

// millis appends a time as slog's text handler does.
func (e *encoder) millis(b []byte, t time.Time) []byte {
	const layout = "2006-01-02T15:04:05.000Z07:00"
	const fraction = len("2006-01-02T15:04:05.")
	begin := len(b)
	b = append(b, e.time(t, layout)...)
	ms := t.Nanosecond() / 1e6
	at := b[begin+fraction:]
	at[0], at[1], at[2] = byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10)
	return b
}

// textFields writes name=value.
type textFields struct{}

func (textFields) open(b []byte) []byte { return b }

func (textFields) close(b []byte) []byte { return b }

func (textFields) name(b []byte, name string) []byte {
	if n := len(b); n > 0 && b[n-1] != '\n' {
		b = append(b, ' ')
	}
	return append(append(b, name...), '=')
}

func (textFields) text(b []byte, s string) []byte {
	if quotes(s) {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

func (textFields) span(b []byte, d time.Duration) []byte { return appendDuration(b, d) }

func (f textFields) attr(b []byte, a slog.Attr) []byte {
	b = f.name(b, a.Key)
	return f.text(b, a.Value.Resolve().String())
}

// quotes reports whether slog's text handler puts s in quotes.
func quotes(s string) bool {
	if s == "" {
		return true
	}
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			// The backslash is among those that JSON escapes and this does not.
			if c != '\\' && (c <= ' ' || c == '=' || c == '"') {
				return true
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return true
		}
		i += n
	}
	return false
}

// appendDuration appends what d.String returns.
func appendDuration(b []byte, d time.Duration) []byte {
	if d < 0 || d == math.MinInt64 {
		return append(b, d.String()...)
	}
	u := uint64(d)
	switch {
	case u == 0:
		return append(b, "0s"...)
	case u < uint64(time.Microsecond):
		return append(strconv.AppendUint(b, u, 10), "ns"...)
	case u < uint64(time.Millisecond):
		return append(appendFraction(b, u, 1e3), "µs"...)
	case u < uint64(time.Second):
		return append(appendFraction(b, u, 1e6), "ms"...)
	}
	minutes, rest := u/uint64(time.Minute), u%uint64(time.Minute)
	if hours := minutes / 60; hours > 0 {
		b = append(strconv.AppendUint(b, hours, 10), 'h')
		minutes %= 60
		b = append(strconv.AppendUint(b, minutes, 10), 'm')
	} else if minutes > 0 {
		b = append(strconv.AppendUint(b, minutes, 10), 'm')
	}
	return append(appendFraction(b, rest, 1e9), 's')
}

// appendFraction appends v/unit without zeros at the end. unit is a power of
// ten.
func appendFraction(b []byte, v, unit uint64) []byte {
	b = strconv.AppendUint(b, v/unit, 10)
	v %= unit
	if v == 0 {
		return b
	}
	b = append(b, '.')
	for v > 0 {
		unit /= 10
		b = append(b, byte('0'+v/unit))
		v %= unit
	}
	return b
}

// jsonFields writes members of an object.
type jsonFields struct{}

func (jsonFields) open(b []byte) []byte { return append(b, '{') }

func (jsonFields) close(b []byte) []byte { return append(b, '}') }

func (jsonFields) name(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func (jsonFields) text(b []byte, s string) []byte {
	b = append(b, '"')
	b = appendJSON(b, s)
	return append(b, '"')
}

func (jsonFields) span(b []byte, d time.Duration) []byte { return strconv.AppendInt(b, int64(d), 10) }

func (f jsonFields) attr(b []byte, a slog.Attr) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(f.text(b, a.Key), ':')
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindDuration:
		return strconv.AppendInt(b, int64(v.Duration()), 10)
	default:
		return f.text(b, v.String())
	}
}

// appendJSON appends s as the inside of a JSON string; what is not UTF-8 becomes
// U+FFFD.
func appendJSON(b []byte, s string) []byte {
	begin := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		n := 1
		if c >= utf8.RuneSelf {
			var r rune
			r, n = utf8.DecodeRuneInString(s[i:])
			if (r != utf8.RuneError || n > 1) && r != '\u2028' && r != '\u2029' {
				i += n
				continue
			}
			b = append(b, s[begin:i]...)
			switch {
			case n == 1:
				b = append(b, `\ufffd`...)
			case r == '\u2028':
				b = append(b, `\u2028`...)
			default:
				b = append(b, `\u2029`...)
			}
			i += n
			begin = i
			continue
		}
		b = append(b, s[begin:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		}
		i += n
		begin = i
	}
	return append(b, s[begin:]...)
}
