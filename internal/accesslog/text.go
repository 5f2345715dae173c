package accesslog

import (
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// text appends the line as the text handler of log/slog writes it, but for its
// end.
func (e *encoder) text(b []byte, r *Record) []byte {
	b = e.millis(append(b, "time="...), r.end())
	b = append(b, e.constant(r.Level())...)
	b = appendText(append(b, " method="...), r.Method)
	b = appendText(append(b, " path="...), r.Path)
	b = strconv.AppendInt(append(b, " status="...), int64(r.Status), 10)
	b = strconv.AppendInt(append(b, " bytes="...), r.Bytes, 10)
	b = append(b, " took="...)
	tookAt := len(b)
	b = appendDuration(b, r.Took)
	took := b[tookAt:]
	b = namedText(b, " reason=", r.Reason)
	b = namedText(b, " error=", r.Detail)
	b = namedText(b, " outcome=", r.Outcome)
	b = namedText(b, " host=", view(r.Host))
	b = namedText(b, " site=", r.Site)
	b = namedText(b, " because=", r.Because)
	if r.FirstByte == r.Took && r.Took != 0 { // most answers of a cache are one piece
		b = append(append(b, " ttfb="...), took...)
	} else {
		b = namedSpan(b, " ttfb=", r.FirstByte)
	}
	if addr := e.addresses.shown(r.Client); addr.IsValid() {
		b = addr.AppendTo(append(b, " client="...))
	}
	b = namedText(b, " proto=", r.Proto)
	if r.Key != 0 {
		b = appendKey(append(b, " key="...), r.Key)
	}
	if r.Upstream != (Upstream{}) {
		b = namedText(b, " upstream=", r.Upstream.Origin)
		b = namedSpan(b, " upstream_connect=", r.Upstream.Connect)
		b = namedSpan(b, " upstream_tls=", r.Upstream.TLS)
		b = namedSpan(b, " upstream_ttfb=", r.Upstream.FirstByte)
		b = namedSpan(b, " upstream_took=", r.Upstream.Total)
	}
	for _, a := range r.More {
		b = append(append(append(b, ' '), a.Key...), '=')
		b = appendText(b, a.Value.Resolve().String())
	}
	return b
}

// constantText is what is the same in all lines of a level and role.
func constantText(level slog.Level, role string) []byte {
	b := append([]byte(" level="), level.String()...)
	return namedText(append(b, " msg="+Message...), " role=", role)
}

func namedText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(append(b, name...), value)
}

func namedSpan(b []byte, name string, d time.Duration) []byte {
	if d == 0 {
		return b
	}
	return appendDuration(append(b, name...), d)
}

// appendText appends s, in quotes if it needs them.
func appendText(b []byte, s string) []byte {
	switch {
	case s != "" && harmless(s) && strings.IndexByte(s, ' ') < 0 && strings.IndexByte(s, '=') < 0:
		return append(b, s...)
	case quotes(s):
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
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
		return append(appendFraction(b, u, 3), "µs"...)
	case u < uint64(time.Second):
		return append(appendFraction(b, u, 6), "ms"...)
	}
	minutes, rest := u/uint64(time.Minute), u%uint64(time.Minute)
	if hours := minutes / 60; hours > 0 {
		b = append(strconv.AppendUint(b, hours, 10), 'h')
		minutes %= 60
		b = append(strconv.AppendUint(b, minutes, 10), 'm')
	} else if minutes > 0 {
		b = append(strconv.AppendUint(b, minutes, 10), 'm')
	}
	return append(appendFraction(b, rest, 9), 's')
}

// appendFraction appends v with the point before its last digits, without zeros
// at the end.
func appendFraction(b []byte, v uint64, digits int) []byte {
	var room [16]byte
	at := len(room)
	for range digits {
		digit := byte(v % 10)
		if v /= 10; digit != 0 || at < len(room) {
			at--
			room[at] = '0' + digit
		}
	}
	if b = strconv.AppendUint(b, v, 10); at < len(room) {
		b = append(append(b, '.'), room[at:]...)
	}
	return b
}
