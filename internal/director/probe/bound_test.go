package probe

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
)

// Whatever goes wrong with whichever of many mirrors, alone or with all others at the
// same moment, no way is usable for longer than the bound after it stopped working.
func TestBound(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 24 {
		names = append(names, fmt.Sprintf("m%02d", i))
	}
	for name, c := range map[string]struct {
		within   time.Duration // in which all stop working, at random moments
		parallel int           // looks at once
	}{
		"one after the other":          {within: 10 * time.Minute},
		"all at once":                  {},
		"with few looks at once":       {within: 10 * time.Minute, parallel: 64},
		"all at once, and few at once": {parallel: 64},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, names, func(t *testing.T, w *world) {
				// No TLS: it is what costs the most here, and changes nothing.
				w.edit(func(c *directorapi.Catalogue) {
					for i := range c.Mirrors {
						c.Mirrors[i].Carries[0].HTTPS = ""
					}
				})
				w.options.Parallel = c.parallel
				w.run()
				ways := []Way{{Family: IPv4}, {Family: IPv6}}
				for _, m := range names {
					w.waitUntil(m, true, time.Minute, ways...)
				}
				var kinds []lie
				for _, l := range lies() {
					kinds = append(kinds, l.lie)
				}
				stopped := make(map[string]time.Time)
				at := make(map[string]time.Duration)
				for _, m := range names {
					at[m] = time.Duration(rand.Int64N(int64(c.within) + 1))
				}
				worst := time.Duration(0)
				for begin := time.Now(); time.Since(begin) < c.within+bound+time.Second; w.pass(250 * time.Millisecond) {
					for i, m := range names {
						if stopped[m].IsZero() && time.Since(begin) >= at[m] {
							w.hosts[m].lie(kinds[i%len(kinds)])
							stopped[m] = time.Now()
						}
						if stopped[m].IsZero() {
							continue
						}
						for _, way := range ways {
							if ok, _ := w.usable(m, way); ok {
								worst = max(worst, time.Since(stopped[m]))
							}
						}
					}
				}
				synctest.Wait()
				t.Logf("out after %v at the latest", worst)
				if worst > bound {
					t.Errorf("a way was usable for %v after it stopped working, the bound is %v", worst, bound)
				}
			})
		})
	}
}
