package edge

import "testing"

// TestRangeStatements is RFC 9110 §14, and §13.1.5, for what is stored. TestRanges
// has long bodies, and those on their way.
func TestRangeStatements(t *testing.T) {
	t.Parallel()
	const modified = "Last-Modified: Fri, 31 Dec 1999 00:00:00 GMT"
	stored := step{from: fresh(`Etag: "a"`, modified, "Expires: @100", "Content-Location: /elsewhere", "Content-Language: de")}
	whole := func(says string, send ...string) statement {
		return statement{says, []step{stored, {send: send, has: []string{"Content-Length: 8", "!Content-Range"}}}}
	}
	part := func(says, field string, send ...string) statement {
		return statement{says, []step{stored, {send: send, status: 206, gives: -1, has: []string{"Content-Range: " + field, "Accept-Ranges: bytes"}}}}
	}
	playAll(t, "none", "/14/", []statement{
		part("§14.1.2: first and last", "bytes 0-1/8", "Range: bytes=0-1"),
		part("§14.1.2: up to the end", "bytes 5-7/8", "Range: bytes=5-"),
		part("§14.1.2: past the end", "bytes 5-7/8", "Range: bytes=5-999"),
		part("§14.1.2: beyond every number", "bytes 5-7/8", "Range: bytes=5-99999999999999999999999"),
		part("§14.1.2: a suffix", "bytes 6-7/8", "Range: bytes=-2"),
		part("§14.1.2: a suffix longer than all", "bytes 0-7/8", "Range: bytes=-99"),
		part("§14.1: the unit in any case", "bytes 0-1/8", "Range: Bytes=0-1"),
		part("§14.1.1: empty list members", "bytes 0-1/8", "Range: bytes=,0-1, ,"),
		part("§14.1.2: one of two can be had", "bytes 0-1/8", "Range: bytes=0-1,50-60"),
		whole("§14.2: another unit", "Range: rows=0-1"),
		whole("§14.1.1: the end before the start", "Range: bytes=5-2"),
		whole("§14.1.1: no numbers", "Range: bytes=a-b"),
		whole("§14.1.1: no ranges", "Range: bytes="),
		whole("§14.1.1: no =", "Range: bytes 0-1"),
		whole("§14.1.1: a sign", "Range: bytes=+1-2"),
		whole("§14.2: several fields", "Range: bytes=0-1", "Range: bytes=2-3"),
		whole("§17.15: more bytes than there are", "Range: bytes=0-7,0-7"),
		{"§14.2: for GET alone", []step{stored, {method: "HEAD", send: []string{"Range: bytes=0-1"}, has: []string{"Content-Length: 8", "!Content-Range"}}}},
		{"§15.5.17: none can be had", []step{stored, {send: []string{"Range: bytes=8-"}, status: 416, gives: -1, has: []string{"Content-Range: bytes */8", "Content-Length: 0"}}}},
		{"§15.5.17: the last zero bytes", []step{stored, {send: []string{"Range: bytes=-0"}, status: 416, gives: -1, has: []string{"Content-Range: bytes */8"}}}},
		{"§15.3.7: the fields of a part", []step{stored, {send: []string{"Range: bytes=0-1"}, status: 206, gives: -1, has: []string{
			`Etag: "a"`, modified, "Date", "Cache-Control: max-age=100", "Expires", "Content-Location: /elsewhere", "Age", "Content-Length: 2", "Content-Type: text/plain",
		}}}},
		{"§14.2: parts of a success only", []step{{from: fresh(":404", `Etag: "a"`), status: 404}, {send: []string{"Range: bytes=0-1"}, status: 404, has: []string{"!Content-Range"}}}},
		part("§13.1.5: If-Range, same tag", "bytes 0-1/8", "Range: bytes=0-1", `If-Range: "a"`),
		whole("§13.1.5: another tag", "Range: bytes=0-1", `If-Range: "b"`),
		whole("§13.1.5: a weak tag is none", "Range: bytes=0-1", `If-Range: W/"a"`),
		part("§13.1.5: same date", "bytes 0-1/8", "Range: bytes=0-1", "If-Range: Fri, 31 Dec 1999 00:00:00 GMT"),
		whole("§13.1.5: a later date does not do", "Range: bytes=0-1", "If-Range: Fri, 31 Dec 1999 00:00:01 GMT"),
		whole("§13.1.5: no date", "Range: bytes=0-1", "If-Range: yesterday"),
		whole("§13.1.5: several", "Range: bytes=0-1", `If-Range: "a"`, `If-Range: "a"`),
		{"§13.1.5: nor a weak tag of ours", []step{{from: fresh(`Etag: W/"a"`)}, {send: []string{"Range: bytes=0-1", `If-Range: W/"a"`}}}},
		{"§8.8.2.2: a date is weak if the file could have changed within it", []step{{from: fresh("Last-Modified: @0")}, {send: []string{"Range: bytes=0-1", "If-Range: @0"}}}},
		{"§13.2.2: conditions come first", []step{stored, {send: []string{"Range: bytes=0-1", `If-None-Match: "a"`}, status: 304, gives: -1, has: []string{"!Content-Range", "!Content-Length"}}}},
		{"§13.2.2: and fail first", []step{stored, {send: []string{"Range: bytes=0-1", `If-None-Match: "b"`}, status: 206, gives: -1}}},
	})
}
