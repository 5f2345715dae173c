package metalink

import (
	"strconv"
	"strings"
)

// maxComment is the limit of the first line of a mirrorlist, in bytes: librepo
// reads lines of up to 4,096.
const maxComment = 4000

// Comment is the first line of a mirrorlist: what was asked for and by which
// rules the mirrors were chosen, each said by a call of a method, in this order.
// What would make the line longer than librepo reads is left out, and characters
// that would end it are replaced. Reset makes it ready for the next one; the zero
// value is empty, and its memory is used again.
type Comment struct {
	line []byte
}

// Reset empties the line.
func (c *Comment) Reset() { c.line = c.line[:0] }

// Path begins the line of a request for a path.
func (c *Comment) Path(path string) { c.say("# path = ", path, " ") }

// Repo begins the line of a request for a repository.
func (c *Comment) Repo(repo, arch string) { c.say("# repo = ", repo, " arch = ", arch, " ") }

// Netblock says that mirrors were chosen by the client's network.
func (c *Comment) Netblock() { c.say("Using preferred netblock ") }

// ASN says that mirrors were chosen by the client's autonomous system.
func (c *Comment) ASN(number uint32) {
	if len(c.line) < maxComment-len("Using ASN 4294967295 ") {
		c.line = append(c.line, "Using ASN "...)
		c.line = strconv.AppendUint(c.line, uint64(number), 10)
		c.line = append(c.line, ' ')
	}
}

// Country says that the mirrors of a country were chosen, or those of all
// countries, which is "global".
func (c *Comment) Country(code string) { c.say("country = ", code, " ") }

// Protocol says which protocols were asked for.
func (c *Comment) Protocol(value string) { c.say("protocol = ", value) }

// Bytes is the line, without its end. It is valid until the next call of a method.
func (c *Comment) Bytes() []byte { return c.line }

func (c *Comment) say(parts ...string) {
	n := len(c.line)
	for _, p := range parts {
		n += len(p)
	}
	if n > maxComment {
		return
	}
	n = len(c.line)
	for _, p := range parts {
		c.line = append(c.line, p...)
	}
	for i := n; i < len(c.line); i++ {
		if c.line[i] < ' ' || c.line[i] == 0x7f {
			c.line[i] = '?'
		}
	}
}

// AppendMirrorlist appends a mirrorlist: the comment's line, one with the time at
// which the database was made unless created is 0 (in seconds since 1970), and
// each URL on a line of its own.
func AppendMirrorlist(dst []byte, c *Comment, created int64, urls []URL) []byte {
	dst = append(append(dst, c.line...), '\n')
	if created != 0 {
		dst = append(dst, "# database creation time: "...)
		dst = strconv.AppendInt(dst, created, 10)
		dst = append(dst, '\n')
	}
	for i := range urls {
		dst = AppendURL(dst, &urls[i])
		dst = append(dst, '\n')
	}
	return dst
}

// AppendURL appends a URL, with the bytes percent-encoded that would end it in a
// line or in a header field: white space, control characters, and "<" and ">".
func AppendURL(dst []byte, u *URL) []byte {
	return appendURI(appendURI(dst, u.Base), u.Path)
}

func appendURI(dst []byte, s string) []byte {
	if strings.IndexFunc(s, endsURI) < 0 {
		return append(dst, s...)
	}
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if b := s[i]; endsURI(rune(b)) {
			dst = append(dst, '%', hex[b>>4], hex[b&15])
		} else {
			dst = append(dst, b)
		}
	}
	return dst
}

func endsURI(r rune) bool { return r <= ' ' || r == '<' || r == '>' || r == 0x7f }
