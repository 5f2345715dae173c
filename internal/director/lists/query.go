package lists

import "strings"

// query holds the parameters that are understood.
type query struct {
	path, repo, arch, ip, country, netblock, protocol param
	redirect, time                                    bool
}

// param is the value of a parameter as it was sent, and whether there is one.
type param struct {
	value string
	given bool
}

// parseQuery reads the part of a request target behind the question mark. Pairs
// are separated by "&"; of a pair, what is between the first "=" and a second
// one counts; of a parameter that comes twice, the last one does. Names are
// matched as they are, with regard to case. Nothing is decoded.
func parseQuery(raw string) (q query) {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(pair, "=")
		value, _, _ = strings.Cut(value, "=")
		p := param{value, true}
		switch name {
		case "path":
			q.path = p
		case "repo":
			q.repo = p
		case "arch":
			q.arch = p
		case "ip":
			q.ip = p
		case "country":
			q.country = p
		case "netblock":
			q.netblock = p
		case "protocol":
			q.protocol = p
		case "redirect":
			q.redirect = true
		case "time":
			q.time = true
		}
	}
	return q
}

// decoded is s with each "%" and the two hexadecimal digits behind it replaced by
// the byte that they stand for (RFC 3986 §2.1). "+" stays: it is a letter in the
// names of files. If that gives a control character, which could end the line of
// an answer, all of s is as it was.
func decoded(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	to := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) {
			if hi, lo := unhex(s[i+1]), unhex(s[i+2]); hi < 16 && lo < 16 {
				c = hi<<4 | lo
				i += 2
			}
		}
		if c < ' ' || c == 0x7f {
			return s
		}
		to = append(to, c)
	}
	return string(to)
}

// unhex is the value of a hexadecimal digit, 16 or more if it is none.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
