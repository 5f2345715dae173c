package httpcache

import (
	"net/http"
	"testing"
	"time"
)

func TestParseDate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	for _, c := range []struct {
		in   string
		want time.Time
	}{
		// RFC 9110 §5.6.7: the three forms.
		{"Sun, 06 Nov 1994 08:49:37 GMT", want},
		{"Sunday, 06-Nov-94 08:49:37 GMT", want},
		{"Sun Nov  6 08:49:37 1994", want},
		{"Wed Nov 16 08:49:37 1994", want.AddDate(0, 0, 10)},
		// Names in any case.
		{"SUN, 06 nOV 1994 08:49:37 gmt", want},
		{"sunday, 06-NOV-94 08:49:37 Gmt", want},
		{"sUN NOV  6 08:49:37 1994", want},
		// Two digits: at most 50 years ahead.
		{"Monday, 01-Jun-76 00:00:00 GMT", time.Date(2076, 6, 1, 0, 0, 0, 0, time.UTC)},
		{"Tuesday, 02-Jun-76 00:00:00 GMT", time.Date(1976, 6, 2, 0, 0, 0, 0, time.UTC)},
		{"Thursday, 18-Aug-50 02:01:18 GMT", time.Date(2050, 8, 18, 2, 1, 18, 0, time.UTC)},
		// A wrong day of the week, and a leap second.
		{"Mon, 06 Nov 1994 08:49:37 GMT", want},
		{"Sat, 31 Dec 2016 23:59:60 GMT", time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"Sun, 21 Nov 2286 04:46:39 GMT", time.Date(2286, 11, 21, 4, 46, 39, 0, time.UTC)},
	} {
		if got, ok := ParseDate(c.in, now); !ok || !got.Equal(c.want) {
			t.Errorf("%q: %v, %v; want %v", c.in, got, ok, c.want)
		}
	}
	for _, in := range []string{
		"", "0", "-1", "now", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 08:49:37 +0000",
		"Sun, 06 Nov 94 08:49:37 GMT", "Sun 06 Nov 1994 08:49:37 GMT", "Sun, 06  Nov  1994 08:49:37 GMT", "Sun, 06-Nov-1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 08.49.37 GMT", "Sun, 06 Nov 1994 8:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT",
		"Sun, 06 Nov 1994 08:60:00 GMT", "Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 29 Feb 1995 08:49:37 GMT",
		"Son, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nox 1994 08:49:37 GMT", " Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT ",
		"Sunday, 06 Nov 94 08:49:37 GMT", "Sunday, -6-Nov-94 08:49:37 GMT", "Sun Nov 06 08:49:37 94", "Sun Nov  6 08:49:37 +994", "1994-11-06T08:49:37Z",
	} {
		if got, ok := ParseDate(in, now); ok {
			t.Errorf("%q is taken for %v", in, got)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	for _, s := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov"} {
		f.Add(s)
	}
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseDate(s, now)
		if !ok {
			return
		}
		// What is written anew means the same.
		if again, ok := ParseDate(got.Format(http.TimeFormat), now); got.Year() <= 9999 && (!ok || !again.Equal(got)) {
			t.Errorf("%q: %v, then %v", s, got, again)
		}
	})
}
