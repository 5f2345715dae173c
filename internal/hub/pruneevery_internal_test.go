package hub

import (
	"testing"
	"time"

	"freshet/internal/hub/catalog"
)

func TestPruneDue(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what           string
		created, ended time.Duration // before now; ended 0: it has not
		want           time.Duration
	}{
		{"a moment ago", time.Minute, time.Second, 59 * time.Minute},
		{"to the second", time.Hour, time.Second, 0},
		{"long ago", 48 * time.Hour, 47 * time.Hour, 0},
		{"long ago, and still at work", 48 * time.Hour, 0, pruneLook},
		{"a moment ago, and still at work", time.Minute, 0, 59 * time.Minute},
		{"of a clock that was ahead", -48 * time.Hour, -47 * time.Hour, time.Hour},
	} {
		job := &catalog.Job{Created: now.Add(-c.created)}
		if c.ended != 0 {
			job.Ended = now.Add(-c.ended)
		}
		if got := pruneDue(job, now, time.Hour); got != c.want {
			t.Errorf("%s: due in %s, want %s", c.what, got, c.want)
		}
	}
}
