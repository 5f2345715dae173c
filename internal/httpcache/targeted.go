package httpcache

import (
	"net/http" //nolint:depguard // its Header type, status names and dates
	"strings"
)

// ParseResponse reads the directives by which a shared cache of a content
// delivery network handles a response: those of CDN-Cache-Control if the field
// is there and well-formed, and then those alone (RFC 9213 §2.2); else those of
// Cache-Control. With the former, Expires has no say either.
func ParseResponse(h http.Header) Directives {
	if lines := h["Cdn-Cache-Control"]; len(lines) > 0 {
		if d, ok := parseTargeted(strings.Join(lines, ", ")); ok {
			return d
		}
	}
	return ParseCacheControl(h)
}

// parseTargeted reads a targeted field. ok is false if it is to be ignored as a
// whole: it is empty, no Dictionary (RFC 9651 §4.2.2), or gives a known
// directive a value of another type than RFC 9213 §2.1 says.
func parseTargeted(field string) (d Directives, ok bool) {
	p := sfParser{s: strings.Trim(field, " ")}
	if p.s == "" {
		return d, false
	}
	d.targeted = true
	members := make(map[string]sfValue, 4)
	for {
		key, value, ok := p.member()
		if !ok {
			return Directives{}, false
		}
		members[key] = value // the last one counts
		p.skipOWS()
		if p.s == "" {
			break
		}
		if !p.take(',') {
			return Directives{}, false
		}
		if p.skipOWS(); p.s == "" {
			return Directives{}, false // trailing comma
		}
	}
	for key, value := range members {
		if !d.target(key, value) {
			return Directives{}, false
		}
	}
	return d, true
}

// target applies one member of a targeted field. It reports false for a value
// of the wrong type.
func (d *Directives) target(key string, v sfValue) bool {
	var delta *Delta
	var flag *bool
	switch key {
	case "max-age":
		delta = &d.MaxAge
	case "s-maxage":
		delta = &d.SMaxAge
	case "stale-while-revalidate":
		delta = &d.StaleWhileRevalidate
	case "stale-if-error":
		delta = &d.StaleIfError
	case "no-store":
		flag = &d.NoStore
	case "no-transform":
		flag = &d.NoTransform
	case "must-revalidate":
		flag = &d.MustRevalidate
	case "proxy-revalidate":
		flag = &d.ProxyRevalidate
	case "public":
		flag = &d.Public
	case "immutable":
		flag = &d.Immutable
	case "must-understand":
		flag = &d.MustUnderstand
	case "no-cache":
		return v.names(&d.NoCache, &d.NoCacheFields)
	case "private":
		return v.names(&d.Private, &d.PrivateFields)
	default:
		return true // unknown (RFC 9111 §5.2.3)
	}
	if delta != nil {
		seconds, ok := parseSeconds(v.text)
		*delta = Delta{Set: true, D: seconds}
		return v.kind == sfInteger && ok
	}
	*flag = v.truth
	return v.kind == sfBoolean
}

// names reads no-cache and private: a Boolean, or a String of field names.
func (v sfValue) names(all *bool, fields *[]string) bool {
	switch v.kind {
	case sfBoolean:
		*all = v.truth
		return true
	case sfString:
		*fields = qualified(all, nil, v.text, true)
		return true
	case sfOther, sfInteger:
	}
	return false
}

// sfKind is a type of structured values, as far as directives need it.
type sfKind uint8

const (
	sfOther sfKind = iota // Decimal, Token, Byte Sequence, Inner List, ...
	sfInteger
	sfString
	sfBoolean
)

// sfValue is a member's value; text holds digits (with a sign) or the String.
type sfValue struct {
	kind  sfKind
	text  string
	truth bool
}

// sfParser reads structured fields (RFC 9651 §4.2) from the front of s.
type sfParser struct{ s string }

func (p *sfParser) take(c byte) bool {
	if p.s == "" || p.s[0] != c {
		return false
	}
	p.s = p.s[1:]
	return true
}

func (p *sfParser) skipOWS() { p.s = strings.TrimLeft(p.s, " \t") }

// while takes the longest begin of which every byte is accepted.
func (p *sfParser) while(accept func(c byte) bool) string {
	i := 0
	for i < len(p.s) && accept(p.s[i]) {
		i++
	}
	taken := p.s[:i]
	p.s = p.s[i:]
	return taken
}

// key reads a key (§4.2.3.3).
func (p *sfParser) key() (string, bool) {
	if p.s == "" || !isLower(p.s[0]) && p.s[0] != '*' {
		return "", false
	}
	return p.while(func(c byte) bool { return isLower(c) || isDigit(c) || strings.IndexByte("_-.*", c) >= 0 }), true
}

// member reads a member of a Dictionary with its parameters (§4.2.2).
func (p *sfParser) member() (key string, v sfValue, ok bool) {
	if key, ok = p.key(); !ok {
		return "", v, false
	}
	v = sfValue{kind: sfBoolean, truth: true}
	if p.take('=') {
		if strings.HasPrefix(p.s, "(") {
			v, ok = sfValue{}, p.innerList()
		} else {
			v, ok = p.bare()
		}
	}
	return key, v, ok && p.parameters()
}

// innerList reads an Inner List without its parameters (§4.2.1.2).
func (p *sfParser) innerList() bool {
	if !p.take('(') {
		return false
	}
	for {
		p.s = strings.TrimLeft(p.s, " ")
		if p.take(')') {
			return true
		}
		if _, ok := p.bare(); !ok || !p.parameters() {
			return false
		}
		if p.s == "" || p.s[0] != ' ' && p.s[0] != ')' {
			return false
		}
	}
}

// parameters reads what follows a value; directives have no use for it.
func (p *sfParser) parameters() bool {
	for p.take(';') {
		p.s = strings.TrimLeft(p.s, " ")
		if _, ok := p.key(); !ok {
			return false
		}
		if p.take('=') {
			if _, ok := p.bare(); !ok {
				return false
			}
		}
	}
	return true
}

// bare reads a bare item (§4.2.3.1).
func (p *sfParser) bare() (sfValue, bool) {
	if p.s == "" {
		return sfValue{}, false
	}
	switch c := p.s[0]; {
	case c == '-' || isDigit(c):
		return p.number()
	case c == '"':
		return p.quoted()
	case c == '?':
		if len(p.s) < 2 || p.s[1] != '0' && p.s[1] != '1' {
			return sfValue{}, false
		}
		v := sfValue{kind: sfBoolean, truth: p.s[1] == '1'}
		p.s = p.s[2:]
		return v, true
	case c == '@': // a Date (RFC 9651 §4.2.9)
		p.s = p.s[1:]
		v, ok := p.number()
		return sfValue{}, ok && v.kind == sfInteger
	case c == ':':
		p.s = p.s[1:]
		p.while(func(c byte) bool { return isAlpha(c) || isDigit(c) || strings.IndexByte("+/=", c) >= 0 })
		return sfValue{}, p.take(':')
	case isAlpha(c) || c == '*':
		p.while(func(c byte) bool { return isToken(c) || c == ':' || c == '/' })
		return sfValue{}, true
	}
	return sfValue{}, false
}

// number reads an Integer or Decimal (§4.2.4).
func (p *sfParser) number() (sfValue, bool) {
	whole := p.s
	p.take('-')
	n := len(p.while(isDigit))
	if n == 0 || n > 15 {
		return sfValue{}, false
	}
	if p.take('.') {
		fraction := len(p.while(isDigit))
		return sfValue{}, n <= 12 && fraction >= 1 && fraction <= 3
	}
	return sfValue{kind: sfInteger, text: whole[:len(whole)-len(p.s)]}, true
}

// quoted reads a String (§4.2.5).
func (p *sfParser) quoted() (sfValue, bool) {
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		c := p.s[i]
		if c == '"' {
			p.s = p.s[i+1:]
			return sfValue{kind: sfString, text: b.String()}, true
		}
		if c == '\\' {
			if i++; i == len(p.s) || p.s[i] != '"' && p.s[i] != '\\' {
				return sfValue{}, false
			}
			c = p.s[i]
		} else if c < 0x20 || c > 0x7e {
			return sfValue{}, false
		}
		b.WriteByte(c)
	}
	return sfValue{}, false
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isAlpha(c byte) bool { return isLower(c | 0x20) }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
