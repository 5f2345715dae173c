package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"freshet/internal/config"
)

// Form is what to write for a schedule, as messages say it.
const Form = `"every 1h", "daily at 02:00", "weekly on sun at 02:00" or "never"`

// MinEvery is the shortest time between two looks: upstreams are others' machines.
const MinEvery = time.Minute

// Times is when something begins: at the same times of each day or week in UTC, or every
// so often since the beginning of 1970, moved by an offset that makes it this mirror's own.
// The zero value is never.
type Times struct {
	every  time.Duration // 0: never
	offset time.Duration // since the beginning of each period, and of 1970
}

// Parse reads a schedule, as [Form] says. The names of days have three letters or all.
func Parse(s string) (Times, error) {
	bad := fmt.Errorf("want %s, got %q", Form, s)
	words := strings.Fields(strings.ToLower(s))
	switch {
	case len(words) == 1 && words[0] == "never":
		return Times{}, nil
	case len(words) == 2 && words[0] == "every":
		every, err := config.ParseDuration(words[1])
		switch {
		case err != nil:
			return Times{}, bad
		case every < MinEvery:
			return Times{}, fmt.Errorf("must be at least %q, got %q", "every "+config.FormatDuration(MinEvery), s)
		}
		return Times{every: every}, nil
	case len(words) == 3 && words[0] == "daily" && words[1] == "at":
		at, err := clock(words[2])
		if err != nil {
			return Times{}, bad
		}
		return Times{every: day, offset: at}, nil
	case len(words) == 5 && words[0] == "weekly" && words[1] == "on" && words[3] == "at":
		weekday, known := weekdayOf(words[2])
		at, err := clock(words[4])
		if err != nil || !known {
			return Times{}, bad
		}
		return Times{every: 7 * day, offset: time.Duration(weekday)*day + at}, nil
	}
	return Times{}, bad
}

const day = 24 * time.Hour

// clock reads a time of the day, "02:00".
func clock(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, errors.New("want a time like 02:00")
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// weekdayOf is the number of days since Thursday, the first day of 1970.
func weekdayOf(name string) (int, bool) {
	for i := range 7 {
		full := strings.ToLower(time.Weekday(i).String())
		if name == full || name == full[:3] {
			return (i + 7 - int(time.Thursday)) % 7, true
		}
	}
	return 0, false
}

// Never reports whether there is no next time.
func (t Times) Never() bool { return t.every == 0 }

// Every is the time between two times; 0: never.
func (t Times) Every() time.Duration { return t.every }

// Jitter is how far t is moved if the configuration says nothing: by up to the whole time
// between two times, at most an hour.
func (t Times) Jitter() time.Duration { return min(t.every, time.Hour) }

// Moved returns t moved by part of jitter, from 0 to 1 without 1. Of a jitter longer than
// the time between two times, no more than that counts.
func (t Times) Moved(jitter time.Duration, part float64) Times {
	t.offset += time.Duration(part * float64(min(jitter, t.every)))
	return t
}

// After is the next time after a time, which is after 1970; zero if there is none.
func (t Times) After(after time.Time) time.Time {
	if t.Never() {
		return time.Time{}
	}
	since := after.Sub(time.Unix(0, 0)) - t.offset
	periods := since / t.every
	if since >= 0 {
		periods++
	}
	return time.Unix(0, 0).Add(t.offset + periods*t.every).UTC()
}
