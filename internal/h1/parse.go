package h1

import (
	"bytes"
	"net/http"
	"net/netip"
	"time"

	"freshet/internal/accesslog"
)

// Request is a GET or HEAD request without a body. Its slices are only read, and
// valid until [Handler.Sent] returns, or [Handler.Answer] if that reports false.
type Request struct {
	// H2 says that the request came by HTTP/2: the head of the answer is to be
	// of that. The functions of package h2 write it.
	H2 bool
	// Clear says that the connection is none of TLS.
	Clear bool
	// Head says that the method is HEAD; it is GET otherwise.
	Head bool
	// Close says that the client wants the connection closed afterwards.
	Close bool
	// Target is the request target as it was sent: it begins with a slash and
	// has nothing but characters that RFC 3986 §3.3 and §3.4 allow, with every
	// "%" followed by two hexadecimal digits.
	Target []byte
	// Host is the value of the Host field: letters, digits and ".-_:[]".
	Host []byte
	// Fields are the other fields but Connection, in the order they came in.
	// Values have no white space at their ends.
	Fields []Field
	// Remote is the address of the client, as in [net/http.Request.RemoteAddr].
	// It is the same for all requests of a connection.
	Remote string
	// Begun is when the header was there.
	Begun time.Time
	// Client is the address the connection comes from, invalid if it has none.
	Client netip.Addr

	connection Field // as it came, if it did
}

// Note enters into rec what the request says of itself. What it enters is the
// request's, and good as long as that is.
func (r *Request) Note(rec *accesslog.Record) {
	rec.Begun, rec.Client, rec.Method = r.Begun, r.Client, http.MethodGet
	rec.Target, rec.Host, rec.TLS = r.Target, r.Host, !r.Clear
	if r.Head {
		rec.Method = http.MethodHead
	}
	if r.H2 {
		rec.Proto = "HTTP/2.0"
	}
	for _, field := range r.Fields {
		switch {
		case field.Is("user-agent"):
			rec.UserAgent = field.Value
		case field.Is("referer"):
			rec.Referer = field.Value
		}
	}
}

// Field is a header field. The case of its name is the client's.
type Field struct{ Name, Value []byte }

// Is compares the name of the field, without regard to case. name must be in
// lower case.
func (f Field) Is(name string) bool { return len(f.Name) == len(name) && equalFold(f.Name, name) }

// maxFields bounds the fields that are looked at here.
const maxFields = 64

// oddity is why a request is not for this package.
type oddity uint8

const (
	plain oddity = iota
	oddMethod
	oddTarget
	oddVersion
	oddLine // not ended by CRLF
	oddField
	oddFolding
	oddHost
	oddBody
	oddConnection
	oddExpect
	oddSize
	oddities
)

func (o oddity) String() string {
	return [...]string{
		"plain", "method", "target", "version", "line_end", "field", "folding", "host",
		"body", "connection", "expect", "size", "",
	}[o]
}

// parse reads one request from the begin of b. n is the length of its header
// with the empty line, 0 if more bytes are needed. For an odd request n means
// nothing. r.Fields is appended to.
func (r *Request) parse(b []byte) (n int, odd oddity) {
	line, n, odd := cutLine(b, 0)
	if n == 0 || odd != plain {
		return 0, odd
	}
	if odd = r.parseLine(line); odd != plain {
		return 0, odd
	}
	hosts, connections := 0, 0
	for {
		if line, n, odd = cutLine(b, n); n == 0 || odd != plain {
			return 0, odd
		}
		if len(line) == 0 {
			break
		}
		f, odd := parseField(line)
		if odd != plain {
			return 0, odd
		}
		switch known(f) {
		case oddHost:
			hosts++
			if r.Host = f.Value; !ValidHost(r.Host) {
				return 0, oddHost
			}
			continue
		case oddConnection:
			connections++
			r.connection = f
			switch {
			case connections > 1:
				return 0, oddConnection
			case f.valueIs("close"):
				r.Close = true
			case !f.valueIs("keep-alive"):
				return 0, oddConnection
			}
			continue
		case plain:
		case oddBody:
			return 0, oddBody
		default:
			return 0, oddExpect
		}
		if len(r.Fields) == maxFields {
			return 0, oddSize
		}
		r.Fields = append(r.Fields, f)
	}
	if hosts != 1 {
		return 0, oddHost
	}
	return n, plain
}

// cutLine returns the line that begins at from, without its CRLF, and where the
// next one begins; 0 if the line is not complete.
func cutLine(b []byte, from int) (line []byte, next int, odd oddity) {
	i := bytes.IndexByte(b[from:], '\n')
	if i < 0 {
		return nil, 0, plain
	}
	if i == 0 || b[from+i-1] != '\r' {
		return nil, 0, oddLine
	}
	return b[from : from+i-1], from + i + 1, plain
}

// parseLine reads the request line (RFC 9112 §3).
func (r *Request) parseLine(line []byte) oddity {
	const version = " HTTP/1.1"
	switch {
	case bytes.HasPrefix(line, []byte("GET ")):
		line = line[4:]
	case bytes.HasPrefix(line, []byte("HEAD ")):
		r.Head = true
		line = line[5:]
	default:
		return oddMethod
	}
	if !bytes.HasSuffix(line, []byte(version)) {
		return oddVersion
	}
	r.Target = line[:len(line)-len(version)]
	if !ValidTarget(r.Target) {
		return oddTarget
	}
	return plain
}

// ValidTarget reports whether s is a [Request.Target]: an origin-form (RFC 9112
// §3.2.1).
func ValidTarget(s []byte) bool {
	if len(s) == 0 || s[0] != '/' {
		return false
	}
	for i, c := range s {
		if !inTarget().has(c) {
			return false
		}
		if c == '%' && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return inHex().has(c) }

// ValidHost reports whether s may be a [Request.Host].
func ValidHost(s []byte) bool {
	for _, c := range s {
		if !inHost().has(c) {
			return false
		}
	}
	return len(s) > 0
}

// parseField reads a field line (RFC 9112 §5).
func parseField(line []byte) (f Field, odd oddity) {
	if line[0] == ' ' || line[0] == '\t' {
		return f, oddFolding
	}
	i := 0
	for i < len(line) && inName().has(line[i]) {
		i++
	}
	if i == 0 || i == len(line) || line[i] != ':' {
		return f, oddField
	}
	f.Name, f.Value = line[:i], line[i+1:]
	for _, c := range f.Value {
		if c >= 0x7f || c < ' ' && c != '\t' {
			return f, oddField
		}
	}
	f.Value = trim(f.Value)
	return f, plain
}

func trim(s []byte) []byte {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// known tells the fields that mean something to a server, by the oddity that a
// fault in them is. plain is any other field.
func known(f Field) oddity {
	switch len(f.Name) {
	case 2:
		if f.Is("te") {
			return oddExpect
		}
	case 4:
		if f.Is("host") {
			return oddHost
		}
	case 6:
		if f.Is("expect") {
			return oddExpect
		}
	case 7:
		if f.Is("upgrade") || f.Is("trailer") {
			return oddExpect
		}
	case 10:
		if f.Is("connection") {
			return oddConnection
		}
	case 14:
		if f.Is("content-length") || f.Is("http2-settings") {
			return oddBody
		}
	case 16:
		if f.Is("proxy-connection") {
			return oddExpect
		}
	case 17:
		if f.Is("transfer-encoding") {
			return oddBody
		}
	}
	return plain
}

func (f Field) valueIs(s string) bool { return len(f.Value) == len(s) && equalFold(f.Value, s) }

// equalFold compares two strings of the same length; s is in lower case and of
// letters, digits and "-".
func equalFold(b []byte, s string) bool {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// chars is a set of ASCII characters, a bit for each: those below 64, and the
// others.
type chars struct{ lo, hi uint64 }

const (
	digits  = (1<<10 - 1) << '0'
	letters = (1<<26-1)<<('A'-64) | (1<<26-1)<<('a'-64)
	hexes   = (1<<6-1)<<('A'-64) | (1<<6-1)<<('a'-64)

	markLo = 1<<'!' | 1<<'$' | 1<<'&' | 1<<'\'' | 1<<'(' | 1<<')' | 1<<'*' | 1<<'+' | 1<<',' | 1<<';' | 1<<'='
	nameLo = 1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.'
	nameHi = 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | 1<<('|'-64) | 1<<('~'-64)
)

// has reports whether c is in the set.
func (s chars) has(c byte) bool {
	if c < 64 {
		return s.lo>>c&1 != 0
	}
	return c < 128 && s.hi>>(c-64)&1 != 0
}

// inName are those of a token (RFC 9110 §5.6.2).
func inName() chars { return chars{digits | nameLo, letters | nameHi} }

// inTarget are those of a path and a query (RFC 3986 §3.3, §3.4).
func inTarget() chars {
	return chars{
		digits | markLo | 1<<'-' | 1<<'.' | 1<<':' | 1<<'/' | 1<<'?' | 1<<'%',
		letters | 1<<('_'-64) | 1<<('~'-64) | 1<<('@'-64),
	}
}

func inHost() chars {
	return chars{digits | 1<<'.' | 1<<'-' | 1<<':', letters | 1<<('_'-64) | 1<<('['-64) | 1<<(']'-64)}
}

func inHex() chars { return chars{digits, hexes} }
