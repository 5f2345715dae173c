package httpcache

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func secs(n int64) Delta { return Delta{Set: true, D: time.Duration(n) * time.Second} }

func TestParseCacheControl(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		lines []string
		want  Directives
	}{
		{"absent", nil, Directives{}},
		{"several lines are one list (RFC 9110 §5.3)", []string{"max-age=1", "no-store"}, Directives{MaxAge: secs(1), NoStore: true}},
		{"names are case-insensitive (RFC 9111 §5.2)", []string{"MAX-AGE=5, No-Store"}, Directives{MaxAge: secs(5), NoStore: true}},
		{"quoted argument (§5.2)", []string{`max-age="7"`}, Directives{MaxAge: secs(7)}},
		{"quoted pair", []string{`max-age="\7"`}, Directives{MaxAge: secs(7)}},
		{"leading zeros", []string{"max-age=007"}, Directives{MaxAge: secs(7)}},
		{"empty list members (RFC 9110 §5.6.1.2)", []string{",, max-age=1 ,,no-cache,"}, Directives{MaxAge: secs(1), NoCache: true}},
		{"unknown are ignored (§5.2.3)", []string{`community="UCI, max-age=100", max-age=2`}, Directives{MaxAge: secs(2)}},
		{"not a number is stale (§4.2.1)", []string{"max-age=abc"}, Directives{MaxAge: secs(0)}},
		{"negative is stale", []string{"max-age=-1"}, Directives{MaxAge: secs(0)}},
		{"fraction is stale", []string{"max-age=1.5"}, Directives{MaxAge: secs(0)}},
		{"missing argument is stale", []string{"max-age"}, Directives{MaxAge: secs(0)}},
		{"empty argument is stale", []string{"max-age="}, Directives{MaxAge: secs(0)}},
		{"space around = is stale", []string{"max-age = 100"}, Directives{MaxAge: secs(0)}},
		{"a forgotten comma before a known directive", []string{"max-age=100 stale-while-revalidate=5 stale-if-error=7"}, Directives{MaxAge: secs(100), StaleWhileRevalidate: secs(5), StaleIfError: secs(7)}},
		{"anything else after a value is stale", []string{"max-age=100 200", "max-age=100 foo=1"}, Directives{MaxAge: secs(0)}},
		{"a forgotten comma after a word", []string{"public max-age=100 private"}, Directives{Public: true, MaxAge: secs(100), Private: true}},
		{"overflow counts as 2^31 (§1.2.2)", []string{"max-age=99999999999999999999"}, Directives{MaxAge: Delta{true, MaxDelta}}},
		{"the smaller of two (§4.2.1)", []string{"max-age=10, max-age=3, max-age=20"}, Directives{MaxAge: secs(3)}},
		{"unterminated string takes the rest", []string{`foo="bar, max-age=10`}, Directives{}},
		{"qualified (§5.2.2.4)", []string{`no-cache="set-cookie, x-a"`}, Directives{NoCacheFields: []string{"Set-Cookie", "X-A"}}},
		{"qualified private, token form", []string{`private=x-a`}, Directives{PrivateFields: []string{"X-A"}}},
		{"qualified without names is unqualified", []string{`private=""`}, Directives{Private: true}},
		{"both forms", []string{`no-cache="a", no-cache`}, Directives{NoCache: true, NoCacheFields: []string{"A"}}},
		{"forbidding with an argument still forbids", []string{"no-store=1, must-revalidate=x"}, Directives{NoStore: true, MustRevalidate: true}},
		{"RFC 5861", []string{"stale-while-revalidate=1, stale-if-error=2"}, Directives{StaleWhileRevalidate: secs(1), StaleIfError: secs(2)}},
		{"bad RFC 5861 is ignored", []string{"stale-while-revalidate=x"}, Directives{}},
		{
			"request (§5.2.1)",
			[]string{"max-stale, min-fresh=3, only-if-cached, no-transform"},
			Directives{maxStaleAny: true, MinFresh: secs(3), OnlyIfCached: true, NoTransform: true},
		},
		{"max-stale with a number", []string{"max-stale=3"}, Directives{MaxStale: secs(3)}},
		{
			"words",
			[]string{"public, immutable, must-understand, proxy-revalidate, s-maxage=4, private"},
			Directives{Public: true, Immutable: true, MustUnderstand: true, ProxyRevalidate: true, SMaxAge: secs(4), Private: true},
		},
		{"garbage", []string{"=;@ max-age=1"}, Directives{}},
	} {
		got := ParseCacheControl(http.Header{"Cache-Control": c.lines})
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(Directives{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s %q:\n%s", c.name, c.lines, diff)
		}
	}
}

func FuzzParseCacheControl(f *testing.F) {
	for _, s := range []string{`max-age=1, private="a,b"`, `x="\`, `no-cache="`, ",,=,", `a b "c,d" e, max-age=3`, "max-age=1\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		d := parseDirectives([]string{line})
		for _, v := range []Delta{d.MaxAge, d.SMaxAge, d.MaxStale, d.MinFresh, d.StaleIfError, d.StaleWhileRevalidate} {
			if v.D < 0 || v.D > MaxDelta || !v.Set && v.D != 0 {
				t.Errorf("%q: %+v", line, v)
			}
		}
		for _, name := range append(d.NoCacheFields, d.PrivateFields...) {
			if !isTokens(name) {
				t.Errorf("%q: field name %q", line, name)
			}
		}
		// What forbids is never lost by adding to the list.
		if more := parseDirectives([]string{"no-store", line}); !more.NoStore {
			t.Errorf("%q hides no-store", line)
		}
		if !strings.Contains(line, `"`) {
			if more := parseDirectives([]string{line + ", no-store"}); !more.NoStore {
				t.Errorf("%q hides a later no-store", line)
			}
		}
	})
}
