package httpcache

import (
	"net/http" //nolint:depguard // its Header type, status names and dates
	"net/textproto"
	"strings"
	"time"
)

// MaxDelta is the largest delta-seconds value; greater ones count as this
// (RFC 9111 §1.2.2).
const MaxDelta = (1 << 31) * time.Second

// Delta is an optional number of seconds.
type Delta struct {
	Set bool
	D   time.Duration
}

// Directives are the parsed Cache-Control directives of a request or of a
// response (RFC 9111 §5.2, RFC 5861, RFC 8246).
type Directives struct {
	MaxAge, SMaxAge, MaxStale, MinFresh Delta
	StaleWhileRevalidate, StaleIfError  Delta
	NoStore, NoTransform, OnlyIfCached  bool
	MustRevalidate, ProxyRevalidate     bool
	Public, MustUnderstand, Immutable   bool
	NoCache, Private                    bool     // without field names
	NoCacheFields, PrivateFields        []string // canonical names of the qualified forms
	maxStaleAny                         bool
	targeted                            bool // Expires does not count
}

// ParseCacheControl reads all Cache-Control lines of a message.
//
// Directive names are case-insensitive, arguments may be tokens or quoted
// strings. A directive given twice counts with its smaller value. A max-age or
// s-maxage that is not a number counts as 0, so that the response is stale
// (RFC 9111 §4.2.1); any other malformed directive is ignored, as are unknown
// ones (§5.2.3).
func ParseCacheControl(h http.Header) Directives {
	return parseDirectives(h["Cache-Control"])
}

func parseDirectives(lines []string) Directives {
	var d Directives
	for _, line := range lines {
		for rest := line; rest != ""; {
			var name, arg string
			var hasArg, valid bool
			name, arg, hasArg, valid, rest = nextDirective(rest)
			if name != "" {
				d.apply(name, arg, hasArg, valid)
			}
		}
	}
	return d
}

// nextDirective cuts one list element. valid is false if the element has a
// good name but goes on otherwise than its grammar allows.
func nextDirective(s string) (name, arg string, hasArg, valid bool, rest string) {
	s = strings.TrimLeft(s, " \t,")
	i := 0
	for i < len(s) && isToken(s[i]) {
		i++
	}
	name, s = s[:i], s[i:]
	valid = true
	if strings.HasPrefix(s, "=") {
		hasArg = true
		s = s[1:]
		if strings.HasPrefix(s, `"`) {
			arg, s, valid = cutQuoted(s)
		} else {
			i = 0
			for i < len(s) && isToken(s[i]) {
				i++
			}
			arg, s = s[:i], s[i:]
			valid = i > 0
		}
	}
	// Up to the next comma there may be only white space. What stands there
	// instead may contain quoted commas. Where a directive of ours follows, a
	// comma was forgotten: some origins write the list so.
	if rest := strings.TrimLeft(s, " \t"); name != "" && len(rest) < len(s) && beginsDirective(rest) {
		return name, arg, hasArg, valid, rest
	}
	for s != "" && s[0] != ',' {
		switch {
		case s[0] == '"':
			valid = false
			_, s, _ = cutQuoted(s)
			continue
		case s[0] != ' ' && s[0] != '\t':
			valid = false
		}
		s = s[1:]
	}
	return name, arg, hasArg, valid, s
}

// beginsDirective reports whether s goes on with the name of a known directive.
func beginsDirective(s string) bool {
	i := 0
	for i < len(s) && isToken(s[i]) {
		i++
	}
	switch strings.ToLower(s[:i]) {
	case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
		return strings.HasPrefix(s[i:], "=")
	case "no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate", "immutable", "no-transform", "must-understand":
		return true
	}
	return false
}

// cutQuoted cuts a quoted-string (RFC 9110 §5.6.4) from the begin of s. An
// unterminated one takes everything.
func cutQuoted(s string) (value, rest string, ok bool) {
	if i := strings.IndexAny(s[1:], `"\`); i >= 0 && s[1+i] == '"' {
		return s[1 : 1+i], s[i+2:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), "", false
}

func (d *Directives) apply(name, arg string, hasArg, valid bool) {
	switch strings.ToLower(name) {
	case "max-age":
		d.MaxAge.lower(arg, valid, true)
	case "s-maxage":
		d.SMaxAge.lower(arg, valid, true)
	case "min-fresh":
		d.MinFresh.lower(arg, valid, false)
	case "max-stale":
		if !hasArg && valid {
			d.maxStaleAny = true
			break
		}
		d.MaxStale.lower(arg, valid, false)
	case "stale-while-revalidate":
		d.StaleWhileRevalidate.lower(arg, valid, false)
	case "stale-if-error":
		d.StaleIfError.lower(arg, valid, false)
	// What forbids is obeyed even when it carries an argument it should not.
	case "no-store":
		d.NoStore = true
	case "must-revalidate":
		d.MustRevalidate = true
	case "proxy-revalidate":
		d.ProxyRevalidate = true
	case "no-transform":
		d.NoTransform = true
	case "no-cache":
		d.NoCacheFields = qualified(&d.NoCache, d.NoCacheFields, arg, hasArg && valid)
	case "private":
		d.PrivateFields = qualified(&d.Private, d.PrivateFields, arg, hasArg && valid)
	case "public":
		d.Public = d.Public || valid
	case "immutable":
		d.Immutable = d.Immutable || valid
	case "must-understand":
		d.MustUnderstand = d.MustUnderstand || valid
	case "only-if-cached":
		d.OnlyIfCached = d.OnlyIfCached || valid
	}
}

// lower sets t to the argument unless it already holds less.
func (t *Delta) lower(arg string, valid, strict bool) {
	v, ok := parseSeconds(arg)
	if !ok || !valid {
		if strict {
			*t = Delta{Set: true}
		}
		return
	}
	if !t.Set || v < t.D {
		*t = Delta{Set: true, D: v}
	}
}

// qualified reads the field names of no-cache="…" and private="…". Without
// any it is the unqualified form, which is the stricter one.
func qualified(all *bool, fields []string, arg string, hasArg bool) []string {
	n := len(fields)
	if hasArg {
		for name := range strings.SplitSeq(arg, ",") {
			if name = strings.Trim(name, " \t"); isTokens(name) {
				fields = append(fields, textproto.CanonicalMIMEHeaderKey(name))
			}
		}
	}
	if len(fields) == n {
		*all = true
	}
	return fields
}

// parseSeconds reads delta-seconds (RFC 9111 §1.2.2): digits only.
func parseSeconds(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	var n time.Duration
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if n = n*10 + time.Duration(s[i]-'0'); n > 1<<31 {
			n = 1 << 31
		}
	}
	return n * time.Second, true
}

// isToken reports whether c may stand in a token (RFC 9110 §5.6.2).
func isToken(c byte) bool {
	switch {
	case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func isTokens(s string) bool {
	for i := range len(s) {
		if !isToken(s[i]) {
			return false
		}
	}
	return s != ""
}
