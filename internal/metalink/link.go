package metalink

import "strconv"

// AppendLink appends the value of a Link header field that names another place of
// the same file (RFC 6249, section 3):
//
//	<https://mirror.example/f>; rel=duplicate; pri=1; geo=de
//
// Private places have none: nothing is appended.
func AppendLink(dst []byte, u *URL) []byte {
	if u.Private {
		return dst
	}
	dst = append(dst, '<')
	dst = AppendURL(dst, u)
	dst = append(dst, ">; rel=duplicate"...)
	if u.Priority > 0 {
		dst = append(dst, "; pri="...)
		dst = strconv.AppendInt(dst, int64(min(u.Priority, maxPriority)), 10)
	}
	if isCode(u.Location) {
		dst = append(dst, "; geo="...)
		dst = appendCode(dst, u.Location)
	}
	return dst
}

// isCode tells whether s looks like the code of a country, in either case.
func isCode(s string) bool { return len(s) == 2 && isLetter(s[0]) && isLetter(s[1]) }

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// appendCode appends the code of a country in lower case, as the RFCs have it.
func appendCode(dst []byte, code string) []byte { return append(dst, code[0]|0x20, code[1]|0x20) }
