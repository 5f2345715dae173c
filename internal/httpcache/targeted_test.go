package httpcache

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fallback is what Cache-Control says in these tests.
func fallback() Directives { return Directives{MaxAge: secs(77)} }

func TestParseResponse(t *testing.T) {
	t.Parallel()
	cdn := func(d Directives) Directives { d.targeted = true; return d }
	for _, c := range []struct {
		name  string
		lines []string
		want  Directives
	}{
		{"absent", nil, fallback()},
		{"RFC 9213 §2.2: it decides alone", []string{"max-age=5"}, cdn(Directives{MaxAge: secs(5)})},
		{"RFC 9651 §4.2: lines are one list", []string{"max-age=5", "no-store"}, cdn(Directives{MaxAge: secs(5), NoStore: true})},
		{"§4.2.2: the last of one name counts", []string{"max-age=5, max-age=9"}, cdn(Directives{MaxAge: secs(9)})},
		{"words", []string{"no-store, no-transform, must-revalidate, proxy-revalidate, public, immutable, must-understand, no-cache, private"}, cdn(Directives{
			NoStore: true, NoTransform: true, MustRevalidate: true, ProxyRevalidate: true, Public: true, Immutable: true,
			MustUnderstand: true, NoCache: true, Private: true,
		})},
		{"numbers", []string{"max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4"}, cdn(Directives{
			MaxAge: secs(1), SMaxAge: secs(2), StaleWhileRevalidate: secs(3), StaleIfError: secs(4),
		})},
		{"§2.1: false is as if absent", []string{"no-store=?0, max-age=5"}, cdn(Directives{MaxAge: secs(5)})},
		{"true written out", []string{"no-store=?1"}, cdn(Directives{NoStore: true})},
		{"field names", []string{`private="x-a, x-b", no-cache="c"`}, cdn(Directives{PrivateFields: []string{"X-A", "X-B"}, NoCacheFields: []string{"C"}})},
		{"parameters are ignored", []string{`max-age=5;a;b="c";d=:aGk=:, no-store;x=1.5`}, cdn(Directives{MaxAge: secs(5), NoStore: true})},
		{"unknown ones of any type", []string{`a, b=1.5, c="x", d=tok/en:, e=(1 "a";p b), f=:aGk=:, g=@1, *h=?0, max-age=5`}, cdn(Directives{MaxAge: secs(5)})},
		{"beyond all bounds", []string{"max-age=99999999999"}, cdn(Directives{MaxAge: Delta{true, MaxDelta}})},
		{"only unknown ones", []string{"foo"}, cdn(Directives{})},
		// Ignored as a whole (RFC 9213 §2.1).
		{"empty", []string{""}, fallback()},
		{"garbage", []string{"max-age=5, &&&&"}, fallback()},
		{"trailing comma", []string{"max-age=5,"}, fallback()},
		{"no comma", []string{"max-age=5 no-store"}, fallback()},
		{"upper case", []string{"Max-Age=5"}, fallback()},
		{"space before =", []string{"max-age =5"}, fallback()},
		{"space after =", []string{"max-age= 5"}, fallback()},
		{"a String for a number", []string{`max-age="5"`}, fallback()},
		{"a Decimal for a number", []string{"max-age=5.0"}, fallback()},
		{"negative", []string{"max-age=-5"}, fallback()},
		{"nothing for a number", []string{"max-age"}, fallback()},
		{"a number for a word", []string{"no-store=1"}, fallback()},
		{"a token for names", []string{"private=x-a"}, fallback()},
		{"16 digits", []string{"max-age=1234567890123456"}, fallback()},
		{"unterminated String", []string{`a="b, max-age=5`}, fallback()},
		{"bad escape", []string{`a="\b"`}, fallback()},
		{"unterminated list", []string{`a=(1 2, max-age=5`}, fallback()},
		{"unterminated bytes", []string{`a=:aGk, max-age=5`}, fallback()},
		{"no such Boolean", []string{"no-store=?2"}, fallback()},
		{"bytes beyond ASCII", []string{"a=\"\xe4\""}, fallback()},
	} {
		h := http.Header{"Cache-Control": {"max-age=77"}}
		if c.lines != nil {
			h["Cdn-Cache-Control"] = c.lines
		}
		got := ParseResponse(h)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(Directives{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s %q:\n%s", c.name, c.lines, diff)
		}
	}
}

// TestTargetedLifetime is RFC 9213 §2.2: Expires has no say.
func TestTargetedLifetime(t *testing.T) {
	t.Parallel()
	h := fields("Expires: "+date(50), "Date: "+date(0), "Last-Modified: "+date(-100))
	for value, want := range map[string]time.Duration{"max-age=5": 5 * time.Second, "foo": 10 * time.Second, "": 50 * time.Second} {
		h["Cdn-Cache-Control"] = []string{value}
		if got, _ := Lifetime(200, h, ParseResponse(h), at(0)); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func FuzzParseTargeted(f *testing.F) {
	for _, s := range []string{"max-age=1, private", `a=(1 "b");c, no-store`, `x="\\"`, "max-age=1;a=:YQ==:", "*=@-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		d, ok := parseTargeted(field)
		for _, v := range []Delta{d.MaxAge, d.SMaxAge, d.StaleIfError, d.StaleWhileRevalidate} {
			if v.D < 0 || v.D > MaxDelta || !v.Set && v.D != 0 {
				t.Errorf("%q: %+v", field, v)
			}
		}
		if !ok {
			if d.targeted || d.NoStore || d.MaxAge.Set {
				t.Errorf("%q is refused and says %+v", field, d)
			}
			return
		}
		// What is well-formed stays so with another member, which then counts.
		if more, ok := parseTargeted("max-age=0, " + field + ", no-store"); !ok || !more.NoStore {
			t.Errorf("%q: adding members spoils it", field)
		}
	})
}
