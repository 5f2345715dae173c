package page

import (
	"fmt"
	"html/template"
	"time"

	"github.com/dustin/go-humanize"
)

// functions are what templates call.
func (s *Set) functions() template.FuncMap {
	return template.FuncMap{
		"asset":    s.asset,
		"ago":      func(t time.Time) string { return Ago(t, s.now()) },
		"exactly":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"rfc3339":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"took":     Took,
		"bytes":    Bytes,
		"bytes64":  func(n int64) string { return Bytes(uint64(max(n, 0))) },
		"count":    humanize.Comma,
		"number":   func(n int) string { return humanize.Comma(int64(n)) },
		"plural":   Plural[int],
		"plural64": Plural[int64],
		"short":    Short,
	}
}

// Ago says how long before now a time was, or how long after now it will be.
func Ago(t, now time.Time) string {
	d := now.Sub(t)
	if d < 0 {
		if d > -time.Second {
			return "now"
		}
		if -d >= aDate {
			return about(-d, t)
		}
		return "in " + about(-d, t)
	}
	if d < 5*time.Second {
		return "just now"
	}
	if d >= aDate {
		return about(d, t)
	}
	return about(d, t) + " ago"
}

// aDate is the distance from which a day says more than a number of days.
const aDate = 60 * 24 * time.Hour

// about is a duration, or for a long one the day where it ends.
func about(d time.Duration, t time.Time) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	case d < aDate:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
	return t.UTC().Format("2006-01-02")
}

// Took is a duration for people; "–" for none.
func Took(d time.Duration) string {
	switch {
	case d <= 0:
		return "–"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// Bytes is a number of bytes for people; "–" for 0, which stands for not known.
func Bytes(n uint64) string {
	if n == 0 {
		return "–"
	}
	return humanize.Bytes(n)
}

// Plural is a number with the noun for one or for several.
func Plural[N ~int | ~int64 | ~uint64](n N, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + several
}

// Short is the beginning of a checksum.
func Short(checksum string) string { return checksum[:min(len(checksum), 12)] }
