package httpcache

import (
	"strings"
	"time"
)

// ParseDate reads an HTTP-date (RFC 9110 §5.6.7): the preferred form or one of
// the two obsolete ones, and nothing that is merely like them. The names of
// days, months and the time zone may be in any case; a wrong day of the week is
// not noticed. now decides the century of the obsolete form with two digits: a
// date more than 50 years ahead lies in the past.
func ParseDate(s string, now time.Time) (time.Time, bool) {
	comma := strings.IndexByte(s, ',')
	switch {
	case comma == 3 && len(s) == len("Sun, 06 Nov 1994 08:49:37 GMT"):
		return parseIMF(s)
	case comma > 3:
		return parse850(s, comma, now)
	case comma < 0 && len(s) == len("Sun Nov  6 08:49:37 1994"):
		return parseAsctime(s)
	}
	return time.Time{}, false
}

// parseIMF reads "Sun, 06 Nov 1994 08:49:37 GMT".
func parseIMF(s string) (time.Time, bool) {
	if !isWeekday(s[:3], 3) || s[4] != ' ' || s[7] != ' ' || s[11] != ' ' || s[16] != ' ' || !strings.EqualFold(s[25:], " GMT") {
		return time.Time{}, false
	}
	return civil(digits(s[12:16]), s[8:11], digits(s[5:7]), s[17:25])
}

// parse850 reads "Sunday, 06-Nov-94 08:49:37 GMT".
func parse850(s string, comma int, now time.Time) (time.Time, bool) {
	day := s[:comma]
	if s = s[comma+1:]; len(s) != len(" 06-Nov-94 08:49:37 GMT") || !isWeekday(day, 0) || s[0] != ' ' || s[3] != '-' || s[7] != '-' ||
		s[10] != ' ' || !strings.EqualFold(s[19:], " GMT") {
		return time.Time{}, false
	}
	year := digits(s[8:10])
	if year < 0 {
		return time.Time{}, false
	}
	year += now.UTC().Year() / 100 * 100
	t, ok := civil(year, s[4:7], digits(s[1:3]), s[11:19])
	if ok && t.After(now.AddDate(50, 0, 0)) {
		return civil(year-100, s[4:7], digits(s[1:3]), s[11:19])
	}
	return t, ok
}

// parseAsctime reads "Sun Nov  6 08:49:37 1994".
func parseAsctime(s string) (time.Time, bool) {
	if !isWeekday(s[:3], 3) || s[3] != ' ' || s[7] != ' ' || s[10] != ' ' || s[19] != ' ' {
		return time.Time{}, false
	}
	day := s[8:10]
	if day[0] == ' ' {
		day = day[1:]
	}
	return civil(digits(s[20:]), s[4:7], digits(day), s[11:19])
}

// isWeekday reports whether s is a day's name, or its first n letters.
func isWeekday(s string, n int) bool {
	for d := time.Sunday; d <= time.Saturday; d++ {
		name := d.String()
		if n > 0 {
			name = name[:n]
		}
		if strings.EqualFold(s, name) {
			return true
		}
	}
	return false
}

// civil makes a time of its parts; clock is "08:49:37", with 60 for a leap
// second. Numbers are -1 where there were none.
func civil(year int, month string, day int, clock string) (time.Time, bool) {
	m := time.Month(0)
	for n := time.January; n <= time.December; n++ {
		if strings.EqualFold(month, n.String()[:3]) {
			m = n
		}
	}
	hour, minute, sec := digits(clock[:2]), digits(clock[3:5]), digits(clock[6:])
	if m == 0 || year < 0 || day < 1 || clock[2] != ':' || clock[5] != ':' ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || sec < 0 || sec > 60 {
		return time.Time{}, false
	}
	t := time.Date(year, m, day, hour, minute, sec, 0, time.UTC)
	if date := time.Date(year, m, day, 0, 0, 0, 0, time.UTC); date.Day() != day {
		return time.Time{}, false // 31 November
	}
	return t, true
}

// digits reads a number of digits only; -1 for anything else.
func digits(s string) int {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}
