package pause_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/pause"
)

func TestFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		d, end, took time.Duration
		want         bool
	}{
		"to the end":             {d: time.Minute, end: time.Hour, took: time.Minute, want: true},
		"cut short":              {d: time.Hour, end: time.Minute, took: time.Minute},
		"nothing to wait for":    {end: time.Minute, want: true},
		"nothing, and too late":  {},
		"ended before it begins": {d: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.end)
				defer cancel()
				begin := time.Now()
				if got := pause.For(ctx, c.d); got != c.want || time.Since(begin) != c.took {
					t.Errorf("%v after %v, want %v after %v", got, time.Since(begin), c.want, c.took)
				}
			})
		})
	}
}
