package httpcache

import (
	"net/http"
	"testing"
	"time"
)

// fields makes a header of "Name: value" lines.
func fields(lines ...string) http.Header {
	h := make(http.Header)
	for _, l := range lines {
		for i := range l {
			if l[i] == ':' {
				h.Add(l[:i], l[i+2:])
				break
			}
		}
	}
	return h
}

func at(sec int) time.Time { return time.Date(2026, 11, 20, 12, 0, sec, 0, time.UTC) }

func date(sec int) string { return at(sec).Format(http.TimeFormat) }

func TestStorable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		req    []string
		status int
		resp   []string
		want   bool
	}{
		{"§3: max-age", nil, 200, []string{"Cache-Control: max-age=1"}, true},
		{"§3: heuristically cacheable status", nil, 200, nil, true},
		{"§3: other status without lifetime", nil, 302, nil, false},
		{"§3: other status with lifetime", nil, 302, []string{"Cache-Control: max-age=1"}, true},
		{"§3: other status with Expires", nil, 302, []string{"Expires: " + date(9)}, true},
		{"§3: other status, public", nil, 302, []string{"Cache-Control: public"}, true},
		{"§3: interim", nil, 103, []string{"Cache-Control: max-age=1"}, false},
		{"§3.3: partial", nil, 206, []string{"Cache-Control: max-age=1"}, false},
		{"§3: 304", nil, 304, []string{"Cache-Control: max-age=1"}, false},
		{"§5.2.2.5: no-store", nil, 200, []string{"Cache-Control: no-store, max-age=1"}, false},
		{"§5.2.1.5: request no-store", []string{"Cache-Control: no-store"}, 200, []string{"Cache-Control: max-age=1"}, false},
		{"§5.2.2.7: private", nil, 200, []string{"Cache-Control: private, max-age=1"}, false},
		{"§5.2.2.7: private fields", nil, 200, []string{`Cache-Control: private="x", max-age=1`}, true},
		{"§5.2.2.4: no-cache may be stored", nil, 200, []string{"Cache-Control: no-cache"}, true},
		{"§5.2.2.3: must-understand, understood", nil, 200, []string{"Cache-Control: must-understand, no-store, max-age=1"}, true},
		{"§5.2.2.3: must-understand, not understood", nil, 499, []string{"Cache-Control: must-understand, max-age=1"}, false},
		{"§3.5: Authorization", []string{"Authorization: x"}, 200, []string{"Cache-Control: max-age=1"}, false},
		{"§3.5: Authorization, public", []string{"Authorization: x"}, 200, []string{"Cache-Control: max-age=1, public"}, true},
		{"§3.5: Authorization, must-revalidate", []string{"Authorization: x"}, 200, []string{"Cache-Control: max-age=1, must-revalidate"}, true},
		{"§3.5: Authorization, s-maxage", []string{"Authorization: x"}, 200, []string{"Cache-Control: s-maxage=1"}, true},
		{"§4.1: Vary *", nil, 200, []string{"Cache-Control: max-age=1", "Vary: a, *"}, false},
	} {
		req, resp := fields(c.req...), fields(c.resp...)
		if got := Storable(req, ParseCacheControl(req), c.status, resp, ParseCacheControl(resp)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestLifetime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		status   int
		resp     []string
		want     time.Duration
		explicit bool
	}{
		{"§4.2.1: s-maxage first", 200, []string{"Cache-Control: max-age=5, s-maxage=7", "Expires: " + date(60), "Date: " + date(0)}, 7 * time.Second, true},
		{"§4.2.1: then max-age", 200, []string{"Cache-Control: max-age=5", "Expires: " + date(60), "Date: " + date(0)}, 5 * time.Second, true},
		{"§4.2.1: then Expires - Date", 200, []string{"Expires: " + date(60), "Date: " + date(20)}, 40 * time.Second, true},
		{"§4.2.1: Expires without Date", 200, []string{"Expires: " + date(60)}, 50 * time.Second, true},
		{"§5.3: Expires in the past", 200, []string{"Expires: " + date(0), "Date: " + date(20)}, 0, true},
		{"§5.3: invalid Expires", 200, []string{"Expires: 0", "Date: " + date(20)}, 0, true},
		{"§5.3: two Expires", 200, []string{"Expires: " + date(60), "Expires: " + date(50), "Date: " + date(20)}, 0, true},
		{"§4.2.2: tenth of the time since Last-Modified", 200, []string{"Last-Modified: " + date(0), "Date: " + date(20)}, 2 * time.Second, false},
		{"§4.2.2: bounded", 200, []string{"Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT", "Date: " + date(20)}, 24 * time.Hour, false},
		{"§4.2.2: Last-Modified in the future", 200, []string{"Last-Modified: " + date(40), "Date: " + date(20)}, 0, false},
		{"§4.2.2: not for other codes", 302, []string{"Last-Modified: " + date(0), "Date: " + date(20)}, 0, false},
		{"§4.2.2: unless public", 302, []string{"Last-Modified: " + date(0), "Date: " + date(20), "Cache-Control: public"}, 2 * time.Second, false},
		{"nothing", 200, nil, 0, false},
	} {
		h := fields(c.resp...)
		got, explicit := Lifetime(c.status, h, ParseCacheControl(h), at(10))
		if got != c.want || explicit != c.explicit {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, got, explicit, c.want, c.explicit)
		}
	}
}

func TestInitialAge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		resp []string
		want time.Duration
	}{
		{"§4.2.3: response delay", []string{"Date: " + date(10)}, 2 * time.Second},
		{"§4.2.3: apparent age", []string{"Date: " + date(3)}, 7 * time.Second},
		{"§4.2.3: Date in the future", []string{"Date: " + date(30)}, 2 * time.Second},
		{"§4.2.3: Age and delay", []string{"Date: " + date(10), "Age: 100"}, 102 * time.Second},
		{"§4.2.3: the greater", []string{"Date: " + date(3), "Age: 1"}, 7 * time.Second},
		{"§5.1: first of a list", []string{"Age: 100, 5"}, 102 * time.Second},
		{"§5.1: invalid is ignored", []string{"Age: abc"}, 2 * time.Second},
		{"§5.1: negative is ignored", []string{"Age: -5"}, 2 * time.Second},
		{"§1.2.2: overflow", []string{"Age: 99999999999999"}, MaxDelta + 2*time.Second},
	} {
		if got := InitialAge(fields(c.resp...), at(8), at(10)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	base := Freshness{Lifetime: 100 * time.Second, Revalidate: 10 * time.Second, OnError: 60 * time.Second}
	aged := func(s int) Freshness { f := base; f.Age = time.Duration(s) * time.Second; return f }
	noCache := aged(1)
	noCache.NoCache = true
	for _, c := range []struct {
		name  string
		f     Freshness
		req   string
		want  Reuse
		error bool
	}{
		{"§4.2: fresh", aged(99), "", Fresh, true},
		{"§4.2: age equal to lifetime is stale", aged(100), "", Stale, true},
		{"RFC 5861 §3: within", aged(109), "", Stale, true},
		{"RFC 5861 §3: after", aged(110), "", Validate, true},
		{"RFC 5861 §4: within", aged(159), "", Validate, true},
		{"RFC 5861 §4: after", aged(160), "", Validate, false},
		{"§5.2.2.4: no-cache", noCache, "", Validate, false},
		{"§5.2.1.4: request no-cache", aged(1), "no-cache", Validate, true},
		{"§5.2.1.1: request max-age, younger", aged(5), "max-age=5", Fresh, true},
		{"§5.2.1.1: request max-age, older", aged(6), "max-age=5", Validate, true},
		{"§5.2.1.1: max-age wants no stale ones", aged(105), "max-age=1000", Validate, true},
		{"§5.2.1.3: min-fresh, enough", aged(50), "min-fresh=50", Fresh, true},
		{"§5.2.1.3: min-fresh, not enough", aged(51), "min-fresh=50", Validate, true},
		{"§5.2.1.2: max-stale does not lengthen", aged(130), "max-stale=1000", Validate, true},
	} {
		if got := c.f.Decide(parseDirectives([]string{c.req})); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := c.f.UsableOnError(); got != c.error {
			t.Errorf("%s: usable on error: %v", c.name, got)
		}
	}
}

func TestStaleAllowed(t *testing.T) {
	t.Parallel()
	for cc, want := range map[string]bool{ // §4.2.4
		"max-age=1": true, "": true,
		"must-revalidate": false, "proxy-revalidate": false, "no-cache": false, "s-maxage=1": false,
		"s-maxage=1, stale-if-error=5": true, "must-revalidate, stale-if-error=5": false,
	} {
		if got := parseDirectives([]string{cc}).StaleAllowed(); got != want {
			t.Errorf("%q: %v", cc, got)
		}
	}
}

func TestStoredHeader(t *testing.T) {
	t.Parallel()
	h := fields("Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: 5", "Transfer-Encoding: chunked", "Age: 5",
		"Proxy-Authenticate: x", "X-Secret: 1", "Set-Cookie: a=b", "Etag: \"x\"", `Cache-Control: private="x-secret", no-cache="set-cookie"`)
	got := StoredHeader(h, ParseCacheControl(h)) // RFC 9111 §3.1, §5.2.2.4, §5.2.2.7
	if len(got) != 2 || got.Get("Etag") != `"x"` || got.Get("Cache-Control") == "" {
		t.Errorf("stored: %v", got)
	}
	if len(h) != 10 {
		t.Errorf("the original was changed: %v", h)
	}
}

func TestFreshen(t *testing.T) {
	t.Parallel()
	stored := fields("Etag: \"x\"", "Content-Length: 5", "Content-Type: a/b", "Cache-Control: max-age=1", "X-Old: stays")
	got := Freshen(stored, fields("Etag: \"x\"", "Content-Length: 0", "Content-Encoding: gzip", "Cache-Control: max-age=9",
		"X-New: 1", "Connection: X-Hop", "X-Hop: 1"), Directives{}) // RFC 9111 §3.2
	want := fields("Etag: \"x\"", "Content-Length: 5", "Content-Type: a/b", "Cache-Control: max-age=9", "X-Old: stays", "X-New: 1")
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name := range want {
		if got.Get(name) != want.Get(name) {
			t.Errorf("%s: %q, want %q", name, got.Get(name), want.Get(name))
		}
	}
	if stored.Get("Cache-Control") != "max-age=1" {
		t.Error("the stored header was changed")
	}
}

func TestVary(t *testing.T) {
	t.Parallel()
	names, any := VaryFields(fields("Vary: accept-encoding, Foo", "Vary: foo"))
	if any || len(names) != 2 || names[0] != "Accept-Encoding" || names[1] != "Foo" {
		t.Errorf("fields %q, %v", names, any)
	}
	for _, v := range []string{"*", "a, *", "a b"} {
		if _, any := VaryFields(fields("Vary: " + v)); !any {
			t.Errorf("Vary: %s matches something", v)
		}
	}
	key := func(lines ...string) string { return VaryKey([]string{"Foo"}, fields(lines...)) }
	for _, c := range []struct { // RFC 9111 §4.1
		a, b []string
		same bool
	}{
		{[]string{"Foo: 1"}, []string{"Foo: 1", "Bar: 2"}, true},
		{[]string{"Foo: 1"}, []string{"Foo: 2"}, false},
		{[]string{"Foo: 1"}, nil, false},
		{nil, nil, true},
		{[]string{"Foo: "}, nil, false},
		{[]string{"Foo: 1, 2"}, []string{"Foo: 1,2"}, true},
		{[]string{"Foo: 1", "Foo: 2"}, []string{"Foo: 1,2"}, true},
		{[]string{"Foo: 1, 2"}, []string{"Foo: 2, 1"}, false},
	} {
		if got := key(c.a...) == key(c.b...); got != c.same {
			t.Errorf("%q and %q: match %v", c.a, c.b, got)
		}
	}
}

func TestInvalidates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct { // RFC 9111 §4.4
		method string
		status int
		want   bool
	}{
		{"PUT", 200, true},
		{"POST", 302, true},
		{"DELETE", 204, true},
		{"M-SEARCH", 200, true},
		{"PUT", 404, false},
		{"PUT", 500, false},
		{"GET", 200, false},
		{"HEAD", 200, false},
		{"OPTIONS", 200, false},
	} {
		if got := Invalidates(c.method, c.status); got != c.want {
			t.Errorf("%s %d: %v", c.method, c.status, got)
		}
	}
}
