package httpcache

import (
	"math"
	"strconv"
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b         string
		strong, weak bool
	}{ // the table of RFC 9110 §8.8.3.2
		{`W/"1"`, `W/"1"`, false, true},
		{`W/"1"`, `W/"2"`, false, false},
		{`W/"1"`, `"1"`, false, true},
		{`"1"`, `"1"`, true, true},
		{`1`, `1`, false, false},
		{`"a"b"`, `"a"b"`, false, false},
		{``, ``, false, false},
	} {
		if StrongMatch(c.a, c.b) != c.strong || WeakMatch(c.a, c.b) != c.weak {
			t.Errorf("%s %s: strong %v, weak %v", c.a, c.b, StrongMatch(c.a, c.b), WeakMatch(c.a, c.b))
		}
	}
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	tagged := fields(`Etag: "a"`, "Last-Modified: "+date(10), "Date: "+date(30))
	for _, c := range []struct {
		name   string
		req    []string
		stored []string
		want   Condition
	}{
		{"none", nil, nil, Send},
		{"§13.1.2: same tag", []string{`If-None-Match: "a"`}, nil, NotModified},
		{"§13.1.2: weak comparison", []string{`If-None-Match: W/"a"`}, nil, NotModified},
		{"§13.1.2: list", []string{`If-None-Match: "x", W/"y,z" ,"a"`}, nil, NotModified},
		{"§13.1.2: lines", []string{`If-None-Match: "x"`, `If-None-Match: "a"`}, nil, NotModified},
		{"§13.1.2: star", []string{`If-None-Match: *`}, nil, NotModified},
		{"§13.1.2: other", []string{`If-None-Match: "b"`}, nil, Send},
		{"§13.1.2: malformed", []string{`If-None-Match: a, "a"`}, nil, Send},
		{"§13.1.3: If-None-Match goes first", []string{`If-None-Match: "b"`, "If-Modified-Since: " + date(50)}, nil, Send},
		{"§13.1.3: not modified since", []string{"If-Modified-Since: " + date(10)}, nil, NotModified},
		{"§13.1.3: modified since", []string{"If-Modified-Since: " + date(9)}, nil, Send},
		{"§13.1.3: invalid date", []string{"If-Modified-Since: soon"}, nil, Send},
		{"RFC 9111 §4.3.2: Date stands in", []string{"If-Modified-Since: " + date(30)}, []string{"Date: " + date(30)}, NotModified},
		{"RFC 9111 §4.3.2: neither", []string{"If-Modified-Since: " + date(30)}, []string{"X: 1"}, Send},
		{"RFC 9111 §4.3.2: If-Match is not for caches", []string{`If-Match: "zzz"`}, nil, Send},
	} {
		stored := tagged
		if c.stored != nil {
			stored = fields(c.stored...)
		}
		if got := Evaluate(fields(c.req...), stored); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestSetValidators(t *testing.T) {
	t.Parallel()
	req := fields()
	if !SetValidators(req, fields(`Etag: W/"a"`, "Last-Modified: "+date(3))) ||
		req.Get("If-None-Match") != `W/"a"` || req.Get("If-Modified-Since") != date(3) {
		t.Errorf("%v", req)
	}
	req = fields()
	if SetValidators(req, fields("Etag: bad", "Last-Modified: x")) || len(req) != 0 {
		t.Errorf("%v", req)
	}
}

func TestSameRepresentation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{`Etag: "a"`, `Etag: "a"`, true},
		{`Etag: W/"a"`, `Etag: W/"a"`, false},
		{`Etag: "a"`, `Etag: "b"`, false},
		{`Etag: "a"`, "X: 1", false},
		{"Last-Modified: x", "Last-Modified: x", true},
		{"X: 1", "X: 1", false},
	} {
		if got := SameRepresentation(fields(c.a), fields(c.b)); got != c.want {
			t.Errorf("%s, %s: %v", c.a, c.b, got)
		}
	}
}

func TestIfRange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, value string
		stored      []string
		want        bool
	}{ // RFC 9110 §13.1.5
		{"absent", "", nil, true},
		{"same tag", `"a"`, []string{`Etag: "a"`}, true},
		{"weak tag never matches", `W/"a"`, []string{`Etag: W/"a"`}, false},
		{"other tag", `"b"`, []string{`Etag: "a"`}, false},
		{"same date", date(10), []string{"Last-Modified: " + date(10), "Date: " + date(30)}, true},
		{"later date is not the same", date(11), []string{"Last-Modified: " + date(10), "Date: " + date(30)}, false},
		{"date of the same second is weak (§8.8.2.2)", date(10), []string{"Last-Modified: " + date(10), "Date: " + date(10)}, false},
		{"garbage", "x", []string{`Etag: "a"`}, false},
	} {
		req := fields()
		if c.value != "" {
			req.Set("If-Range", c.value)
		}
		if got := IfRange(req, fields(c.stored...)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestParseRange(t *testing.T) {
	t.Parallel()
	many := func(n int) string { return "bytes=" + strings.Repeat("0-0,", n-1) + "0-0" }
	for _, c := range []struct {
		name, field string
		size        int64
		want        []Range
		ok          bool
	}{
		{"§14.1.2: first and last", "bytes=0-499", 1000, []Range{{0, 500}}, true},
		{"§14.1.2: to the end", "bytes=500-", 1000, []Range{{500, 500}}, true},
		{"§14.1.2: suffix", "bytes=-10", 1000, []Range{{990, 10}}, true},
		{"§14.1.2: suffix longer than all", "bytes=-2000", 1000, []Range{{0, 1000}}, true},
		{"§14.1.2: last beyond the end", "bytes=990-2000", 1000, []Range{{990, 10}}, true},
		{"§14.1.2: several", "bytes=0-0, 5-6 ,-1", 1000, []Range{{0, 1}, {5, 2}, {999, 1}}, true},
		{"§14.2: unit is case-insensitive", "BYTES=0-0", 1000, []Range{{0, 1}}, true},
		{"§14.2: other unit", "lines=0-1", 1000, nil, true},
		{"§14.2: malformed: reversed", "bytes=5-4", 1000, nil, true},
		{"§14.2: malformed: letters", "bytes=a-b", 1000, nil, true},
		{"§14.2: malformed: no dash", "bytes=5", 1000, nil, true},
		{"§14.2: malformed: only a dash", "bytes=-", 1000, nil, true},
		{"§14.2: malformed: sign", "bytes=+1-2", 1000, nil, true},
		{"§14.2: malformed: one of several", "bytes=0-1,x", 1000, nil, true},
		{"§14.2: malformed: empty", "bytes=", 1000, nil, true},
		{"§14.2: malformed: no =", "bytes 0-1", 1000, nil, true},
		{"empty members", "bytes=,0-0,,", 1000, []Range{{0, 1}}, true},
		{"§15.5.17: beyond the end", "bytes=1000-", 1000, nil, false},
		{"§15.5.17: empty suffix", "bytes=-0", 1000, nil, false},
		{"§15.5.17: of nothing", "bytes=0-", 0, nil, false},
		{"one of two beyond", "bytes=0-0,2000-", 1000, []Range{{0, 1}}, true},
		{"overflow of last", "bytes=1-99999999999999999999", 1000, []Range{{1, 999}}, true},
		{"overflow of first", "bytes=99999999999999999999-", 1000, nil, false},
		{"256 are served", many(256), 1000, make([]Range, 256), true},
		{"257 are not", many(257), 1000, nil, true},
		{"§17.15: more than the whole", "bytes=0-,0-,0-", 1000, nil, true},
	} {
		got, ok := ParseRange(c.field, c.size)
		if ok != c.ok || len(got) != len(c.want) {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, got, ok, c.want, c.ok)
			continue
		}
		for i := range got {
			if c.want[i] != (Range{}) && got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5,3-", "bytes=9223372036854775807-9223372036854775807", "bytes=--1", "x=1-2"} {
		f.Add(s, int64(1000))
		f.Add(s, int64(math.MaxInt64))
	}
	f.Fuzz(func(t *testing.T, field string, size int64) {
		if size < 0 {
			return
		}
		ranges, _ := ParseRange(field, size)
		for _, r := range ranges {
			if r.Start < 0 || r.Length < 1 || r.Start > size-r.Length {
				t.Errorf("%q of %d: %+v", field, size, r)
			}
		}
		if len(ranges) > MaxRanges {
			t.Errorf("%d ranges", len(ranges))
		}
	})
}

func FuzzETags(f *testing.F) {
	for _, s := range []string{`"a"`, `W/"a", "b"`, "*", `"`, `W/`, `"a" "b"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		if matchList(list, `"zz"`) && !strings.Contains(list, `"zz"`) && strings.Trim(list, " \t") != "*" {
			t.Errorf("%q matches a tag it does not hold", list)
		}
		if validETag(list) && !WeakMatch(list, list) {
			t.Errorf("%q does not match itself", list)
		}
	})
}

func TestMultipart(t *testing.T) {
	t.Parallel()
	m := Multipart{Boundary: "B", ContentType: "a/b", Size: 100, Ranges: []Range{{0, 1}, {50, 2}}}
	got := m.Head(0) + "x" + m.Head(1) + "yz" + m.Tail() // RFC 9110 §14.6
	want := "--B\r\nContent-Type: a/b\r\nContent-Range: bytes 0-0/100\r\n\r\nx" +
		"\r\n--B\r\nContent-Type: a/b\r\nContent-Range: bytes 50-51/100\r\n\r\nyz\r\n--B--\r\n"
	if got != want || m.Length() != int64(len(want)) || m.Type() != "multipart/byteranges; boundary=B" {
		t.Errorf("%q, length %d, type %q", got, m.Length(), m.Type())
	}
	if got := Unsatisfied(100); got != "bytes */100" {
		t.Errorf("%q", got)
	}
}

func TestStatusFields(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]CacheStatus{ // RFC 9211 §2
		"c; hit; ttl=5": {Cache: "c", Hit: true, Fwd: "stale", HasTTL: true, TTL: 5},
		"c; fwd=stale; fwd-status=304; ttl=-3; collapsed": {Cache: "c", Fwd: "stale", FwdStatus: 304, HasTTL: true, TTL: -3, Collapsed: true},
		"c; fwd=uri-miss; stored; detail=x":               {Cache: "c", Fwd: "uri-miss", Stored: true, Detail: "x"},
	} {
		if got := string(s.Append(nil)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for want, s := range map[string]ProxyStatus{ // RFC 9209 §2
		`p; error=dns_error; details="a\"b\\c?"`:  {Proxy: "p", Error: "dns_error", Details: "a\"b\\c\n"},
		`p; received-status=503; details="words"`: {Proxy: "p", ReceivedStatus: 503, Details: "words"},
	} {
		if got := string(s.Append(nil)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func BenchmarkParseCacheControl(b *testing.B) {
	lines := []string{"public, max-age=" + strconv.Itoa(3600) + ", stale-while-revalidate=60"}
	b.ReportAllocs()
	for b.Loop() {
		_ = parseDirectives(lines)
	}
}
