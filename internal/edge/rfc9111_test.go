package edge

import (
	"testing"
	"time"
)

const second = time.Second

// fresh and its like are answers of an origin.
func fresh(more ...string) []string {
	return append([]string{"Cache-Control: max-age=100", "Date: @0"}, more...)
}

func aged(cc string, more ...string) []string {
	return append([]string{"Cache-Control: " + cc, "Date: @0"}, more...)
}

// TestStoring is RFC 9111 §3.
func TestStoring(t *testing.T) {
	t.Parallel()
	reused := func(says string, from ...string) statement {
		return statement{says, []step{{from: from, gives: -1, status: statusOf(from)}, {gives: -1, status: statusOf(from)}}}
	}
	refused := func(says string, from ...string) statement {
		return statement{says, []step{{from: from, gives: -1, status: statusOf(from)}, {from: from, gives: -1, status: statusOf(from)}}}
	}
	table := []statement{
		reused("§3: explicit freshness by max-age", fresh()...),
		reused("§3: by s-maxage", aged("s-maxage=100")...),
		reused("§3: by Expires", "Expires: @100", "Date: @0"),
		reused("§3: heuristically cacheable, with Last-Modified", "Last-Modified: @-1000", "Date: @0"),
		refused("§3: nothing says how long", "Date: @0"),
		refused("§3: no-store", aged("max-age=100, no-store")...),
		refused("§3: private", aged("max-age=100, private")...),
		refused("§5.2.2.4: no-cache", aged("max-age=100, no-cache")...),
		reused("§3: a status without meaning to us, explicit freshness", append(fresh(), ":299")...),
		refused("§3: 302 needs explicit freshness", ":302", "Last-Modified: @-1000", "Date: @0"),
		reused("§3: 302 with it", append(fresh(), ":302")...),
		reused("§3: 404 with it", append(fresh(), ":404")...),
		reused("§3: 503 with it", append(fresh(), ":503")...),
		refused("§3: 503 without", ":503", "Last-Modified: @-1000", "Date: @0"),
		refused("§5.2.2.3: must-understand, not understood", append(aged("max-age=100, no-store, must-understand"), ":599")...),
		reused("§5.2.2.3: must-understand overrides no-store where understood", aged("max-age=100, no-store, must-understand")...),
		refused("§4.1: Vary: *", fresh("Vary: *")...),
		refused("§4.1: * among others", fresh("Vary: Accept, *")...),
		refused("§4.1: * on another line", fresh("Vary: Accept", "Vary: *")...),
		reused("§5.2.3: unknown directives are ignored", aged("foo, bar=\"max-age=0, no-store\", max-age=100")...),
		refused("§3.3: partial content is not combined here", append(fresh("Content-Range: bytes 0-7/100"), ":206")...),
		{"§5.2.1.5: no-store of a request", []step{{send: []string{"Cache-Control: no-store"}, from: fresh()}, {from: fresh()}}},
		{"§3: the answer to another method is not for GET", []step{{method: "POST", from: fresh()}, {from: fresh()}}},
		{"§2: the query is part of the key", []step{{path: "?a", from: fresh()}, {path: "?b", from: fresh()}, {path: "?a", gives: 1}, {path: "?b", gives: 2}}},
		{"§3.1: fields that concern a connection", []step{
			{from: fresh("Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "X-End: 1", "Proxy-Authenticate: a")},
			{has: []string{"!X-Hop", "!Keep-Alive", "X-End: 1", "!Proxy-Authenticate"}},
		}},
		{"§3.1: unknown fields are stored", []step{{from: fresh("X-A: 1", "X-A: 2")}, {has: []string{"X-A: 1, 2"}}}},
		{"§5.2.2.7: fields of private are for the one who asked", []step{
			{from: aged(`max-age=100, private="x-a, x-b"`, "X-A: 1", "X-B: 2", "X-C: 3"), has: []string{"X-A: 1", "X-B: 2", "X-C: 3"}},
			{has: []string{"!X-A", "!X-B", "X-C: 3"}},
		}},
		{"§5.2.2.4: fields of no-cache likewise", []step{
			{from: aged(`max-age=100, no-cache="set-cookie"`, "Set-Cookie: a=b"), has: []string{"Set-Cookie: a=b"}},
			{has: []string{"!Set-Cookie"}},
		}},
		{"bytes beyond ASCII in fields survive", []step{{from: fresh("X-A: \xff\xfe\xe4")}, {has: []string{"X-A: \xff\xfe\xe4"}}}},
	}
	playAll(t, "none", "/3/", table)
}

func statusOf(from []string) int {
	for _, f := range from {
		if len(f) == 4 && f[0] == ':' {
			return int(f[1]-'0')*100 + int(f[2]-'0')*10 + int(f[3]-'0')
		}
	}
	return 200
}

// TestStoringWithCredentials is RFC 9111 §3.5.
func TestStoringWithCredentials(t *testing.T) {
	t.Parallel()
	with := []string{"Authorization: Basic eDp5"}
	table := []statement{{"§3.5: what is stored may be used", []step{{from: fresh()}, {send: with}}}}
	for cc, shared := range map[string]bool{
		"max-age=100": false, "max-age=100, public": true, "max-age=100, must-revalidate": true, "s-maxage=100": true,
		"max-age=100, proxy-revalidate": false,
	} {
		st := statement{"§3.5: " + cc, []step{{send: with, from: aged(cc), asks: with}, {from: aged(cc), asks: []string{"!Authorization"}}}}
		if shared {
			st.steps[1] = step{}
		}
		table = append(table, st)
	}
	table = append(table, statement{"in the background nobody's credentials are used", []step{
		{from: aged("max-age=10, stale-while-revalidate=50, public", `Etag: "a"`)},
		{after: 20 * second, send: append(with, "Cookie: a=b"), from: aged("max-age=10", ":304", `Etag: "a"`), gives: 1, asks: []string{"!Authorization", "!Cookie", `If-None-Match: "a"`}},
		{},
	}})
	playAll(t, "none", "/35/", table)
}

// TestVariants is RFC 9111 §4.1.
func TestVariants(t *testing.T) {
	t.Parallel()
	vary := fresh("Vary: Foo, accept-language")
	foo := func(values ...string) []string {
		var send []string
		for _, v := range values {
			send = append(send, "Foo: "+v)
		}
		return send
	}
	playAll(t, "none", "/41/", []statement{
		{"same values", []step{{send: foo("1"), from: vary}, {send: foo("1")}}},
		{"other value", []step{{send: foo("1"), from: vary}, {send: foo("2"), from: vary}, {send: foo("1"), gives: 1}, {send: foo("2"), gives: 2}}},
		{"absent in one", []step{{send: foo("1"), from: vary}, {from: vary}, {gives: 2}}},
		{"absent in both", []step{{from: vary}, {}}},
		{"empty is not absent", []step{{from: vary}, {send: foo(""), from: vary}}},
		{"lines are combined", []step{{send: foo("1", "2"), from: vary}, {send: foo("1,2")}}},
		{"white space around commas", []step{{send: foo("1,2"), from: vary}, {send: foo("1 ,  2")}}},
		{"order counts", []step{{send: foo("1, 2"), from: vary}, {send: foo("2, 1"), from: vary}}},
		{"case counts", []step{{send: foo("a"), from: vary}, {send: foo("A"), from: vary}}},
		{"other fields do not count", []step{{send: append(foo("1"), "Bar: 1"), from: vary}, {send: append(foo("1"), "Bar: 2")}}},
		{"the fields are sent on", []step{{send: append(foo("1"), "Accept-Language: de"), from: vary, asks: []string{"Foo: 1", "Accept-Language: de"}}}},
		{"Vary of another 304 is not taken for granted", []step{
			{from: aged("max-age=10", `Etag: "a"`)},
			{after: 20 * second, send: foo("1"), from: append(fresh(), ":304", `Etag: "a"`, "Vary: Foo"), gives: 1},
			{send: foo("2"), from: append(fresh(), ":304", `Etag: "a"`, "Vary: Foo"), gives: 1},
		}},
	})
}

// TestFreshnessOfAnswers is RFC 9111 §4.2 and §5.
func TestFreshnessOfAnswers(t *testing.T) {
	t.Parallel()
	until := func(says string, lifetime time.Duration, from ...string) statement {
		return statement{says, []step{
			{from: from},
			{after: lifetime - second},
			{after: second, from: from},
		}}
	}
	stale := func(says string, from ...string) statement {
		return statement{says, []step{{from: from}, {from: from}}}
	}
	date := func(s string) []string { return []string{"Expires: " + s, "Date: @0"} }
	table := []statement{
		until("§4.2.1: s-maxage before max-age", 20*second, aged("max-age=10, s-maxage=20")...),
		until("§4.2.1: max-age before Expires", 10*second, aged("max-age=10", "Expires: @50")...),
		until("§4.2.1: Expires minus Date, and Date counts as age", 20*second, "Expires: @20", "Date: @-10"),
		until("§4.2.1: the smaller of two", 5*second, aged("max-age=10, max-age=5")...),
		until("§4.2.2: a tenth of the time since Last-Modified", 100*second, "Last-Modified: @-1000", "Date: @0"),
		until("§4.2.2: at most a day", 24*time.Hour, "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT", "Date: @0"),
		until("§4.2.3: Age counts", 10*second, aged("max-age=30", "Age: 20")...),
		until("§4.2.3: Date counts", 10*second, "Cache-Control: max-age=30", "Date: @-20"),
		until("§4.2.3: a Date in the future does not", 30*second, "Cache-Control: max-age=30", "Date: @50"),
		until("§4.2.3: without Date", 30*second, "Cache-Control: max-age=30"),
		until("§5.1: the first of several Ages", 10*second, aged("max-age=30", "Age: 20, 5", "Age: 0")...),
		until("§5.1: an Age that is no number", 30*second, aged("max-age=30", "Age: 20.0")...),
		until("§5.2: quoted form", 30*second, aged(`max-age="30"`)...),
		until("forgotten commas", 30*second, aged("max-age=30 stale-if-error=5")...),
		stale("§4.2.1: max-age=0", aged("max-age=0", "Expires: @50")...),
		stale("§4.2.1: max-age that is no number", aged("max-age=1.5", "Expires: @50")...),
		stale("§1.2.2: an Age beyond all bounds", aged("max-age=100", "Age: 99999999999999999999")...),
		stale("§5.3: 0", date("0")...),
		stale("§5.3: two lines", "Expires: @50", "Expires: @60", "Date: @0"),
		stale("RFC 9110 §5.6.7: UTC", date("Fri, 18 Aug 2006 02:01:18 UTC")...),
		stale("RFC 9110 §5.6.7: one digit", date("Fri, 18 Aug 2006 2:01:18 GMT")...),
		stale("RFC 9110 §5.6.7: two spaces", date("Fri, 18  Aug 2006 02:01:18 GMT")...),
		until("RFC 9110 §5.6.7: RFC 850", 24*time.Hour, "Expires: Sunday, 06-Nov-05 08:49:37 GMT", "Date: Sat, 05 Nov 2005 08:49:37 GMT"),
		until("RFC 9110 §5.6.7: asctime", 24*time.Hour, "Expires: Sun Nov  6 08:49:37 2005", "Date: Sat, 05 Nov 2005 08:49:37 GMT"),
		{"§5.1: Age is sent", []step{{from: fresh("Age: 20")}, {after: 7 * second, has: []string{"Age: 27"}}}},
		{"§5.1: and is what it was at the origin's", []step{{from: aged("max-age=10", `Etag: "a"`)}, {after: 20 * second, from: aged("max-age=10", ":304", `Etag: "a"`), gives: 1}, {after: 5 * second, has: []string{"Age: 5"}}}},
		{"RFC 9110 §6.6.1: Date stays that of the origin", []step{{from: []string{"Date: Mon, 03 Jan 2000 00:00:00 GMT", "Cache-Control: max-age=100000000"}}, {after: 7 * second, has: []string{"Date: Mon, 03 Jan 2000 00:00:00 GMT"}}}},
		{"§5.3: Expires stays", []step{{from: fresh("Expires: Mon, 03 Jan 2000 00:00:00 GMT")}, {has: []string{"Expires: Mon, 03 Jan 2000 00:00:00 GMT"}}}},
		// What clients wish (§5.2.1).
		{"§5.2.1.1: max-age", []step{{from: fresh()}, {after: 5 * second, send: []string{"Cache-Control: max-age=5"}}, {after: second, send: []string{"Cache-Control: max-age=5"}, from: fresh()}}},
		{"§5.2.1.3: min-fresh", []step{{from: fresh()}, {send: []string{"Cache-Control: min-fresh=100"}}, {after: second, send: []string{"Cache-Control: min-fresh=100"}, from: fresh()}}},
		{"§5.2.1.4: no-cache", []step{{from: fresh()}, {send: []string{"Cache-Control: no-cache"}, from: fresh()}}},
		{"§5.4: Pragma", []step{{from: fresh()}, {send: []string{"Pragma: no-cache"}, from: fresh()}}},
		{"§5.4: Pragma beside Cache-Control", []step{{from: fresh()}, {send: []string{"Pragma: no-cache", "Cache-Control: max-age=5"}}}},
		{"§5.2.1.7: only-if-cached", []step{{send: []string{"Cache-Control: only-if-cached"}, status: 504, gives: -1}, {from: fresh()}, {send: []string{"Cache-Control: only-if-cached"}, gives: 2}}},
	}
	playAll(t, "none", "/42/", table)
}

// TestStaleAnswers is RFC 9111 §4.2.4 and RFC 5861.
func TestStaleAnswers(t *testing.T) {
	t.Parallel()
	cut := []string{":cut"}
	failing := []string{":503", "Cache-Control: max-age=1000", "Date: @0"}
	table := []statement{
		{"§4.2.4: the origin cannot be reached", []step{{from: aged("max-age=10")}, {after: 20 * second, from: cut, gives: 1, has: []string{"Age: 20"}}}},
		{"RFC 5861 §3: within stale-while-revalidate", []step{
			{from: aged("max-age=10, stale-while-revalidate=50")},
			{after: 59 * second, from: fresh(), gives: 1, has: []string{"Age: 59"}},
			{gives: 2},
		}},
		{"RFC 5861 §3: after it", []step{{from: aged("max-age=10, stale-while-revalidate=50")}, {after: 60 * second, from: fresh()}}},
		{"RFC 5861 §4: an error within stale-if-error", []step{{from: aged("max-age=10, stale-if-error=50")}, {after: 59 * second, from: failing, gives: 1}}},
		{"RFC 5861 §4: after it", []step{{from: aged("max-age=10, stale-if-error=50")}, {after: 60 * second, from: failing, status: 503, gives: -1}}},
		{"RFC 5861 §4: an error without it is the answer", []step{{from: aged("max-age=10")}, {after: 20 * second, from: failing, status: 503, gives: -1}}},
		{"an error never takes the place of something better", []step{
			{from: aged("max-age=10, stale-if-error=1000", `Etag: "a"`)},
			{after: 20 * second, from: failing, gives: 1},
			{after: 20 * second, from: append(failing, `Etag: "b"`), gives: 1},
			{after: 20 * second, from: aged("max-age=10", ":304", `Etag: "a"`), gives: 1, asks: []string{`If-None-Match: "a"`}},
		}},
		{"an error that is stored is not used stale", []step{{from: append(aged("max-age=10"), ":503"), status: 503}, {status: 503}, {after: 20 * second, from: cut, status: 502}}},
	}
	for _, cc := range []string{"must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=10"} {
		table = append(table, statement{"§4.2.4: not with " + cc, []step{{from: aged("max-age=10, " + cc)}, {after: 20 * second, from: cut, status: 502}}})
	}
	playAll(t, "none", "/424/", table)
}

// TestValidation is RFC 9111 §4.3.
func TestValidation(t *testing.T) {
	t.Parallel()
	const modified = "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT"
	const since = "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT"
	playAll(t, "none", "/43/", []statement{
		{"§4.3.1: by entity-tag", []step{
			{from: aged("max-age=10", `Etag: "a"`)},
			{after: 20 * second, from: fresh(":304", `Etag: "a"`), gives: 1, asks: []string{`If-None-Match: "a"`, "!If-Modified-Since"}},
			{},
		}},
		{"§4.3.1: weak ones too", []step{{from: aged("max-age=10", `Etag: W/"a"`)}, {after: 20 * second, from: fresh(":304", `Etag: W/"a"`), gives: 1, asks: []string{`If-None-Match: W/"a"`}}}},
		{"§4.3.1: by Last-Modified", []step{{from: aged("max-age=10", modified)}, {after: 20 * second, from: fresh(":304"), gives: 1, asks: []string{since}}}},
		{"§4.3.1: by both", []step{{from: aged("max-age=10", modified, `Etag: "a"`)}, {after: 20 * second, from: fresh(":304"), gives: 1, asks: []string{since, `If-None-Match: "a"`}}}},
		{"§4.3.3: 200 takes the place", []step{{from: aged("max-age=10", `Etag: "a"`)}, {after: 20 * second, from: fresh(`Etag: "b"`)}, {gives: 2}}},
		{"§5.2.2.4: no-cache is validated each time", []step{
			{from: aged("no-cache, max-age=50", `Etag: "a"`)},
			{from: aged("no-cache, max-age=50", ":304", `Etag: "a"`), gives: 1},
			{from: aged("no-cache, max-age=50", ":304", `Etag: "a"`), gives: 1},
		}},
		{"§4.3.4: a 304 updates fields", []step{
			{from: aged("max-age=10", `Etag: "a"`, "X-A: 1", "X-B: 1")},
			{after: 20 * second, from: fresh(":304", `Etag: "a"`, "X-A: 2", "X-C: 3"), gives: 1, has: []string{"X-A: 2", "X-B: 1", "X-C: 3"}},
			{has: []string{"X-A: 2", "X-B: 1", "X-C: 3", "Cache-Control: max-age=100"}},
		}},
		{"§3.2: but not what tells of the bytes", []step{
			{from: aged("max-age=10", `Etag: "a"`)},
			{after: 20 * second, from: fresh(":304", `Etag: "a"`, "Content-Encoding: gzip", "Content-Type: a/b", "Content-Range: bytes 0-1/2"), gives: 1},
			{has: []string{"!Content-Encoding", "Content-Type: text/plain", "!Content-Range", "Content-Length: 8"}},
		}},
		{"§5.2.2.5: nothing of a 304 with no-store is kept", []step{
			{from: aged("max-age=10", `Etag: "a"`, "X-A: 1")},
			{after: 20 * second, from: aged("no-store, max-age=100", ":304", `Etag: "a"`, "X-A: 2"), gives: 1},
			{from: fresh(":304", `Etag: "a"`), gives: 1, has: []string{"X-A: 1"}},
		}},
		// What clients ask (§4.3.2).
		{"§4.3.2: If-None-Match on a hit", []step{{from: fresh(`Etag: "a"`)}, {send: []string{`If-None-Match: "b", W/"a"`}, status: 304, has: []string{`Etag: "a"`, "!Content-Length", "!Content-Type", "Age"}}, {send: []string{`If-None-Match: "b"`}}}},
		{"§4.3.2: * matches", []step{{from: fresh()}, {send: []string{"If-None-Match: *"}, status: 304}}},
		{"§4.3.2: If-Modified-Since on a hit", []step{{from: fresh(modified)}, {send: []string{since}, status: 304}, {send: []string{"If-Modified-Since: Fri, 31 Dec 1999 00:00:00 GMT"}}}},
		{"RFC 9110 §13.1.3: If-None-Match before it", []step{{from: fresh(modified, `Etag: "a"`)}, {send: []string{since, `If-None-Match: "b"`}}}},
		{"RFC 9110 §13.1.3: no date, no condition", []step{{from: fresh(modified)}, {send: []string{"If-Modified-Since: yesterday"}}}},
		{"§4.3.2: the client's validator goes along where ours is stale", []step{
			{from: aged("max-age=10", `Etag: "a"`)},
			{after: 20 * second, send: []string{`If-None-Match: "a"`}, from: fresh(":304", `Etag: "a"`), status: 304, asks: []string{`If-None-Match: "a"`}},
			{},
		}},
		{"RFC 9110 §13.1.1: If-Match is the origin's", []step{{from: fresh(`Etag: "a"`)}, {send: []string{`If-Match: "b"`}, from: []string{":412"}, status: 412, asks: []string{`If-Match: "b"`}}}},
		{"RFC 9110 §13.1.4: If-Unmodified-Since is the origin's", []step{{from: fresh(modified)}, {send: []string{"If-Unmodified-Since: Fri, 31 Dec 1999 00:00:00 GMT"}, from: []string{":412"}, status: 412}}},
		{"RFC 9110 §13.2.1: no conditions on what is no success", []step{{from: fresh(":404", `Etag: "a"`), status: 404}, {send: []string{`If-None-Match: "a"`}, status: 404}}},
		// HEAD (RFC 9110 §9.3.2).
		{"RFC 9110 §9.3.2: HEAD from a stored GET", []step{{from: fresh(`Etag: "a"`)}, {method: "HEAD", has: []string{"Content-Length: 8", `Etag: "a"`, "Age"}}}},
		{"§4: a stored HEAD is none for GET", []step{{method: "HEAD", from: fresh()}, {from: fresh()}}},
	})
}

// TestInvalidation is RFC 9111 §4.4.
func TestInvalidation(t *testing.T) {
	t.Parallel()
	var table []statement
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "M-SEARCH"} {
		table = append(
			table,
			statement{"§4.4: " + method, []step{{from: fresh()}, {method: method, from: []string{"Date: @0"}}, {from: fresh()}}},
			statement{"§4.4: not when it fails: " + method, []step{{from: fresh()}, {method: method, from: []string{":500"}, status: 500}, {}}},
			statement{"§4.4: nor when it is refused: " + method, []step{{from: fresh()}, {method: method, from: []string{":403"}, status: 403}, {}}},
		)
	}
	table = append(
		table,
		statement{"§4.4: all variants", []step{
			{send: []string{"Foo: 1"}, from: fresh("Vary: Foo")},
			{send: []string{"Foo: 2"}, from: fresh("Vary: Foo")},
			{method: "POST", from: []string{":204"}, status: 204},
			{send: []string{"Foo: 1"}, from: fresh("Vary: Foo")},
			{send: []string{"Foo: 2"}, from: fresh("Vary: Foo")},
		}},
		statement{"§4.4: Location and Content-Location of the same origin", []step{
			{path: "/a", from: fresh()},
			{path: "/b", from: fresh()},
			{path: "/c", from: fresh()},
			{path: "/x", method: "POST", from: []string{":201", "Location: a", "Content-Location: http://origin.mem/44/16/b"}, status: 201},
			{path: "/a", from: fresh()},
			{path: "/b", from: fresh()},
			{path: "/c", gives: 3},
		}},
		statement{"§4.4: not of another", []step{
			{path: "/a", from: fresh()},
			{path: "/x", method: "POST", from: []string{":201", "Location: http://other.mem/44/17/a"}, status: 201},
			{path: "/a"},
		}},
		statement{"§4.4: safe methods change nothing", []step{
			{from: fresh()},
			{method: "OPTIONS", from: []string{"Allow: GET"}},
			{},
		}},
	)
	playAll(t, "none", "/44/", table)
}

// TestFieldsSurviveARestart shows that fields are kept byte for byte
// (RFC 9110 §5.5 allows those beyond ASCII), and that age goes on.
func TestFieldsSurviveARestart(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		s := newScript(t, "none")
		odd := "X-A: \xff\xfe \xe4\t\"\\x"
		s.play(statement{"before", []step{{from: fresh(odd, "X-A: 2", "Vary: Foo"), send: []string{"Foo: \xe4"}}}}, "/x")
		s.restart()
		s.play(statement{"after", []step{
			{after: 7 * second, send: []string{"Foo: \xe4"}, has: []string{odd + ", 2", "Age: 7"}},
			{send: []string{"Foo: \xf6"}, from: fresh("Vary: Foo")},
		}}, "/x")
	})
}
