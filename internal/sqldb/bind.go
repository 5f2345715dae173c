package sqldb

import (
	"strconv"
	"strings"
)

// numbered rewrites the placeholders of a query from "?" to "$1", "$2"…,
// leaving string literals, quoted names and comments alone.
func numbered(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	b.Grow(len(query) + 16)
	n := 0
	for i := 0; i < len(query); {
		if query[i] == '?' {
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
			i++
			continue
		}
		end := i + span(query[i:])
		b.WriteString(query[i:end])
		i = end
	}
	return b.String()
}

// span returns the length of the token at the start of s: a whole literal,
// quoted name or comment, or else one byte. s is not empty.
func span(s string) int {
	until := func(from int, mark string) int {
		if i := strings.Index(s[from:], mark); i >= 0 {
			return from + i + len(mark)
		}
		return len(s)
	}
	switch {
	case s[0] == '\'' || s[0] == '"':
		// A doubled quote inside reads as two literals side by side, which
		// has the same extent.
		return until(1, s[:1])
	case strings.HasPrefix(s, "--"):
		return until(2, "\n")
	case strings.HasPrefix(s, "/*"):
		return until(2, "*/")
	}
	return 1
}
