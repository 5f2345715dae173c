package accesslog

import (
	"log/slog"
	"strconv"
	"time"
	"unicode/utf8"
)

// json appends the line as the JSON handler of log/slog writes it, but for its
// end.
func (e *encoder) json(b []byte, r *Record) []byte {
	b = append(b, `{"time":"`...)
	b = append(r.end().AppendFormat(b, time.RFC3339Nano), '"')
	b = append(b, e.constant(r.Level())...)
	b = appendString(append(b, `,"method":`...), r.Method)
	b = appendString(append(b, `,"path":`...), r.Path)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(r.Status), 10)
	b = strconv.AppendInt(append(b, `,"bytes":`...), r.Bytes, 10)
	b = strconv.AppendInt(append(b, `,"took":`...), int64(r.Took), 10)
	b = namedString(b, `,"reason":`, r.Reason)
	b = namedString(b, `,"error":`, r.Detail)
	b = namedString(b, `,"outcome":`, r.Outcome)
	b = namedString(b, `,"host":`, view(r.Host))
	b = namedString(b, `,"site":`, r.Site)
	b = namedString(b, `,"because":`, r.Because)
	b = namedNumber(b, `,"ttfb":`, r.FirstByte)
	if addr := e.addresses.shown(r.Client); addr.IsValid() {
		b = append(addr.AppendTo(append(b, `,"client":"`...)), '"')
	}
	b = namedString(b, `,"proto":`, r.Proto)
	if r.Key != 0 {
		b = append(appendKey(append(b, `,"key":"`...), r.Key), '"')
	}
	if r.Upstream != (Upstream{}) {
		b = namedString(b, `,"upstream":`, r.Upstream.Origin)
		b = namedNumber(b, `,"upstream_connect":`, r.Upstream.Connect)
		b = namedNumber(b, `,"upstream_tls":`, r.Upstream.TLS)
		b = namedNumber(b, `,"upstream_ttfb":`, r.Upstream.FirstByte)
		b = namedNumber(b, `,"upstream_took":`, r.Upstream.Total)
	}
	for _, a := range r.More {
		b = append(appendString(append(b, ','), a.Key), ':')
		b = appendValue(b, a.Value.Resolve())
	}
	return append(b, '}')
}

// constantJSON is what is the same in all lines of a level and role.
func constantJSON(level slog.Level, role string) []byte {
	b := append([]byte(`,"level":"`), level.String()...)
	return namedString(append(b, `","msg":"`+Message+`"`...), `,"role":`, role)
}

func namedString(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

func namedNumber(b []byte, name string, d time.Duration) []byte {
	if d == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), int64(d), 10)
}

func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	if harmless(s) {
		b = append(b, s...)
	} else {
		b = appendJSON(b, s)
	}
	return append(b, '"')
}

func appendValue(b []byte, v slog.Value) []byte {
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
		return appendString(b, v.String())
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
