package httpcache

import (
	"net/http" //nolint:depguard // its Header type, status names and dates
	"strings"
	"time"
)

// Condition is the outcome of a request's preconditions.
type Condition uint8

const (
	// Send says: answer with the representation.
	Send Condition = iota
	// NotModified says: answer 304.
	NotModified
)

// Evaluate applies If-None-Match and If-Modified-Since of a GET or HEAD
// request to a stored 200 response with the header fields stored
// (RFC 9110 §13.2.2, RFC 9111 §4.3.2). It ignores If-Match and
// If-Unmodified-Since, which are meant for the origin.
func Evaluate(req, stored http.Header) Condition {
	if lines := req["If-None-Match"]; len(lines) > 0 {
		etag := first(stored["Etag"])
		for _, line := range lines {
			if matchList(line, etag) {
				return NotModified
			}
		}
		return Send // If-Modified-Since is ignored then (§13.1.3)
	}
	since, ok := headerTime(req, "If-Modified-Since")
	if !ok {
		return Send
	}
	modified, ok := headerTime(stored, "Last-Modified")
	if !ok {
		if modified, ok = headerTime(stored, "Date"); !ok { // RFC 9111 §4.3.2
			return Send
		}
	}
	if modified.After(since) {
		return Send
	}
	return NotModified
}

// matchList reports whether an If-None-Match list holds the tag, by weak
// comparison (RFC 9110 §13.1.2). "*" matches whatever is stored.
func matchList(list, etag string) bool {
	if strings.Trim(list, " \t") == "*" {
		return true
	}
	for list != "" {
		var tag string
		var ok bool
		if tag, list, ok = nextETag(list); !ok {
			return false
		}
		if tag != "" && WeakMatch(tag, etag) {
			return true
		}
	}
	return false
}

// nextETag cuts one entity-tag from a list.
func nextETag(s string) (tag, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t,")
	if s == "" {
		return "", "", true
	}
	start := s
	s = strings.TrimPrefix(s, "W/")
	if !strings.HasPrefix(s, `"`) {
		return "", "", false
	}
	end := strings.IndexByte(s[1:], '"')
	if end < 0 {
		return "", "", false
	}
	n := len(start) - len(s) + 1 + end + 1
	tag, rest = start[:n], strings.TrimLeft(start[n:], " \t")
	if !validETag(tag) || rest != "" && rest[0] != ',' {
		return "", "", false
	}
	return tag, rest, true
}

// validETag reports whether s is an entity-tag (RFC 9110 §8.8.3).
func validETag(s string) bool {
	s = strings.TrimPrefix(s, "W/")
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return false
	}
	for i := 1; i < len(s)-1; i++ {
		if c := s[i]; c == '"' || c < 0x21 || c == 0x7f {
			return false
		}
	}
	return true
}

// WeakMatch is the weak comparison of RFC 9110 §8.8.3.2. Malformed tags match
// nothing.
func WeakMatch(a, b string) bool {
	return validETag(a) && validETag(b) && strings.TrimPrefix(a, "W/") == strings.TrimPrefix(b, "W/")
}

// StrongMatch is the strong comparison of RFC 9110 §8.8.3.2.
func StrongMatch(a, b string) bool {
	return a == b && validETag(a) && !strings.HasPrefix(a, "W/")
}

// SetValidators puts the conditions into req that ask the origin whether the
// stored response is still current (RFC 9111 §4.3.1). It reports false if the
// stored response has no validator.
func SetValidators(req, stored http.Header) bool {
	found := false
	if tag := first(stored["Etag"]); validETag(tag) {
		req["If-None-Match"] = []string{tag}
		found = true
	}
	if modified, ok := headerTime(stored, "Last-Modified"); ok {
		req["If-Modified-Since"] = []string{modified.UTC().Format(http.TimeFormat)}
		found = true
	}
	return found
}

// SameRepresentation reports whether two responses prove by their validators
// to be of the same representation: same strong entity-tag, or, without tags,
// same Last-Modified and Content-Length.
func SameRepresentation(a, b http.Header) bool {
	if x, y := first(a["Etag"]), first(b["Etag"]); x != "" || y != "" {
		return StrongMatch(x, y)
	}
	x, y := first(a["Last-Modified"]), first(b["Last-Modified"])
	return x != "" && x == y && first(a["Content-Length"]) == first(b["Content-Length"])
}

// IfRange reports whether the Range of a request applies to the stored
// response (RFC 9110 §13.1.5). It is true without an If-Range field.
func IfRange(req, stored http.Header) bool {
	lines := req["If-Range"]
	if len(lines) == 0 {
		return true
	}
	if len(lines) > 1 {
		return false
	}
	value := strings.Trim(lines[0], " \t")
	if strings.HasPrefix(value, `"`) || strings.HasPrefix(value, "W/") {
		return StrongMatch(value, first(stored["Etag"]))
	}
	want, ok := ParseDate(value, time.Now())
	if !ok {
		return false
	}
	modified, ok := headerTime(stored, "Last-Modified")
	date, dated := headerTime(stored, "Date")
	// The date is a strong validator only if the origin could not have changed
	// the file within the same second (§8.8.2.2).
	return ok && dated && modified.Equal(want) && date.Sub(modified) >= time.Second
}

func first(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return lines[0]
}
