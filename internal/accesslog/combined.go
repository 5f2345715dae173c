package accesslog

import (
	"strconv"
	"time"
)

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
		b = appendHex(b, view(r.Target))
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
	b = appendQuoted(b, view(r.Referer))
	b = append(b, ' ')
	b = appendQuoted(b, view(r.UserAgent))
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
	b = appendQuoted(b, view(r.Host))
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
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	if len(s) == 0 {
		b = append(b, '-')
	}
	return append(appendHex(b, s), '"')
}

const hexDigits = "0123456789ABCDEF"

// appendHex appends s with every byte as \xHH that is not printable ASCII, or
// that could end a field, or begin such an escape.
func appendHex(b []byte, s string) []byte {
	if harmless(s) {
		return append(b, s...)
	}
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
