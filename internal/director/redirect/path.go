package redirect

import (
	"strings"
	"unicode/utf8"
)

// maxPath is the limit of a path, in bytes.
const maxPath = 4096

// cleanPath is what the path of a target means: without percent-encoding, empty
// segments, and segments of dots, of which none leads above the root. It reports false
// for what no file can be called by: control characters, a broken "%", or a path that
// is longer than those of file systems. A path that is clean comes back as it is.
func cleanPath(raw string) (string, bool) {
	if raw == "" || raw[0] != '/' || len(raw) > 3*maxPath {
		return "", false
	}
	if !isClean(raw) {
		var ok bool
		if raw, ok = unescape(raw); !ok {
			return "", false
		}
		if strings.Contains(raw, "//") || strings.Contains(raw, "/.") {
			raw = withoutDots(raw)
		}
	}
	return raw, len(raw) <= maxPath
}

// isClean reports whether nothing is to be done with a path. It may say no too often.
func isClean(p string) bool {
	last := byte(0)
	for i := range len(p) {
		c := p[i]
		if c == '%' || last == '/' && (c == '/' || c == '.') || c < ' ' || c >= 0x7f {
			return false
		}
		last = c
	}
	return true
}

// unescape is a path with each "%" and the two digits behind it replaced by their byte.
func unescape(p string) (string, bool) {
	to := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '%' {
			if i+2 >= len(p) || unhex(p[i+1]) > 15 || unhex(p[i+2]) > 15 {
				return "", false
			}
			c = unhex(p[i+1])<<4 | unhex(p[i+2])
			i += 2
		}
		if c < ' ' || c == 0x7f {
			return "", false
		}
		to = append(to, c)
	}
	return string(to), true
}

// unhex is the value of a hexadecimal digit, 16 if it is none.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}

// withoutDots removes empty segments and resolves those that are "." or "..". A slash
// at the end stays, and is there also behind a last segment of dots.
func withoutDots(p string) string {
	var segments []string
	folder := false
	for s := range strings.SplitSeq(p, "/") {
		folder = true
		switch s {
		case "", ".":
		case "..":
			segments = segments[:max(0, len(segments)-1)]
		default:
			segments = append(segments, s)
			folder = false
		}
	}
	p = "/" + strings.Join(segments, "/")
	if folder && len(segments) > 0 {
		p += "/"
	}
	return p
}

// appendPath appends a path as it stands in a URL (RFC 3986 §3.3). What has a meaning
// of its own anywhere, in a URL or around it, is percent-encoded.
func appendPath(to []byte, p string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(p) {
		if c := p[i]; c < utf8.RuneSelf && literal[c] {
			to = append(to, c)
		} else {
			to = append(to, '%', hex[c>>4], hex[c&15])
		}
	}
	return to
}

// literal are the characters of a path that stand for themselves: all that RFC 3986
// allows but "'", "(" and ")", which end URLs in other places. A colon does not look like
// a scheme's, since it is never in a URL's first segment.
var literal = func() (set [utf8.RuneSelf]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&*+,;=:@/" {
		set[c] = true
	}
	return set
}()
