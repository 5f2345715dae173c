package probe

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/directorapi"
)

// withSamples makes the project one without a canary, of which the inventory knows files.
func (w *world) withSamples(mirrors ...string) {
	names := []string{"a.rpm", "b.rpm", "c.rpm", "long.iso"}
	for _, name := range names[:3] {
		w.files[name] = "content of " + name
	}
	w.files["long.iso"] = strings.Repeat("0123456789abcdef", 3*wholeUpTo/16)
	w.edit(func(c *directorapi.Catalogue) { c.Projects[0].Canary = "" })
	for _, m := range mirrors {
		w.samples[m] = names
	}
}

// Without a canary, files of the inventory are looked at: short ones as a whole, of long
// ones the end. One that is missing is told of, and does not speak against the mirror.
func TestSamples(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.withSamples("m")
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		w.hosts["m"].have("b.rpm", "")
		w.pass(10 * time.Minute)
		w.waitUntil("m", true, 0)
		w.mu.Lock()
		missing, hastened := w.missing, w.hastened
		w.mu.Unlock()
		if !slices.Contains(missing, "m b.rpm") || slices.ContainsFunc(missing, func(s string) bool { return s != "m b.rpm" }) {
			t.Errorf("missing: %v", missing)
		}
		if !slices.Contains(hastened, "m missing: b.rpm") {
			t.Errorf("scans: %v", hastened)
		}
		// All that it had is gone, though its server works.
		w.hosts["m"].lie(lie{answer: func(rw http.ResponseWriter, r *http.Request, _ string) { http.NotFound(rw, r) }})
		w.waitUntil("m", false, bound)
	})
}

// A long file that was cut short, or that is announced with another length, is found out,
// also where the server knows no ranges.
func TestLongSamples(t *testing.T) {
	t.Parallel()
	for name, ranges := range map[string]bool{"with ranges": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
				w.withSamples("m")
				w.samples["m"] = []string{"long.iso"}
				var short atomic.Bool
				w.hosts["m"].lie(lie{answer: func(rw http.ResponseWriter, r *http.Request, file string) {
					if short.Load() {
						file = file[:len(file)/2]
					}
					if !ranges {
						rw.Header().Set("Content-Length", strconv.Itoa(len(file)))
						_, _ = rw.Write([]byte(file)[:len(file)/2]) // nobody reads it to its end
						return
					}
					serveFile(rw, r, file)
				}}, "http ipv4")
				w.run()
				way := Way{Scheme: HTTP, Family: IPv4}
				w.waitUntil("m", true, 10*time.Second, way)
				w.pass(2 * time.Minute)
				w.waitUntil("m", true, 0, way)
				short.Store(true)
				w.waitUntil("m", false, bound, way)
				if changes := w.prober.History(Way{Mirror: "m", Project: "p"}); changes[len(changes)-1].Why != WrongLength {
					t.Errorf("changes: %+v", changes)
				}
			})
		})
	}
}

// Without a canary and an inventory, a pointer is looked at; without anything, a mirror
// cannot be used.
func TestNothingToCheck(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.edit(func(c *directorapi.Catalogue) { c.Projects[0].Canary = "" })
		w.run()
		w.pass(time.Minute)
		if ok, why := w.usable("m", Way{}); ok || why != NothingToCheck {
			t.Errorf("usable %v, %q", ok, why)
		}
		w.withPointer()
		w.waitUntil("m", true, time.Minute)
		w.hosts["m"].have(pointerPath, loginPage)
		w.waitUntil("m", false, bound)
	})
}

// A canary that only the origin knows is compared with that.
func TestCanaryLearned(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m", "liar"}, func(_ *testing.T, w *world) {
		w.options.Inventory = nil
		w.hosts["liar"].have(canaryPath, "something else")
		w.run()
		w.pass(time.Minute)
		w.waitUntil("m", true, 0)
		w.waitUntil("liar", false, 0)
	})
}

// report reports, and fails the test if that is refused.
func (w *world) report(by, what, path string) {
	w.t.Helper()
	if err := w.prober.Report(Reporter{Name: by, Weight: 1}, directorapi.Report{Mirror: "m", Path: path, What: what}); err != nil {
		w.t.Error(err)
	}
}

// A file that is reported is looked for at once. Whether it is missing is for the mirror
// to show.
func TestReportedMissing(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.files["a.rpm"], w.files["b.rpm"], w.files["c.rpm"] = "aaa", "bbb", "ccc"
		w.hosts["m"].have("a.rpm", "")
		w.hosts["m"].have("b.rpm", "longer than at the origin")
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		w.pass(5 * time.Second)
		w.report("node", "missing", "/p/a.rpm")
		w.report("node", "wrong", "/p/b.rpm")
		w.report("node", "missing", "/p/c.rpm")         // it is there
		w.report("node", "missing", "/p/../etc/passwd") // the origin has no such file
		w.pass(6 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		slices.Sort(w.missing)
		if got := strings.Join(w.missing, ", "); got != "m a.rpm, m b.rpm" {
			t.Errorf("missing: %s", got)
		}
	})
}

// Any number of reports takes nobody out who works, and makes for few looks.
func TestReportsDoNotDrown(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		before := w.hosts["m"].looked()
		for i := range 2000 {
			w.report("node "+strconv.Itoa(i), []string{"error", "slow", "missing", "wrong"}[i%4], "/p/"+strconv.Itoa(i))
			if i%20 == 0 {
				w.pass(600 * time.Millisecond)
			}
		}
		w.waitUntil("m", true, 0)
		if looks := w.hosts["m"].looked() - before; looks > 4*60/3 {
			t.Errorf("%d looks in a minute", looks)
		}
		if load := w.prober.State().Load("m"); load < 0.5 || load > slowest {
			t.Errorf("reported as slow by many: load %v", load)
		}
		w.prober.mu.Lock()
		if n := len(w.prober.suspects[holding{"m", "p"}].heard); n == 0 || n > mostHeard {
			t.Errorf("%d reports are remembered", n)
		}
		w.prober.mu.Unlock()
		w.pass(90 * time.Minute)
		if load := w.prober.State().Load("m"); load != 0 {
			t.Errorf("later: load %v", load)
		}
		w.prober.mu.Lock()
		defer w.prober.mu.Unlock()
		if n := len(w.prober.suspects); n != 0 {
			t.Errorf("later %d mirrors are suspected", n)
		}
	})
}

// One reporter alone, however often, makes a mirror a little less used, and not more.
func TestOneReporterOfSlowness(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		for i := range 100 {
			w.report("node", "slow", "/p/"+strconv.Itoa(i))
			w.pass(10 * time.Second)
		}
		if load := w.prober.State().Load("m"); load < 0.1 || load > 0.2 {
			t.Errorf("load %v", load)
		}
	})
}

// A mirror's own load is told to readers, and forgotten.
func TestLoad(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		changed := w.prober.State().Changed()
		if err := w.prober.Report(Reporter{}, directorapi.Report{Mirror: "m", What: "load", Load: 0.9}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
		default:
			t.Error("readers are not told")
		}
		if load := w.prober.State().Load("m"); load != 0.9 {
			t.Errorf("load %v", load)
		}
		w.pass(loadFor + time.Minute)
		if load := w.prober.State().Load("m"); load != 0 {
			t.Errorf("load %v, long after it was told", load)
		}
	})
}

// What makes no sense has no effect, and the error says why.
func TestReportsRefused(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		nan := 0.0
		for want, r := range map[string]directorapi.Report{
			`in no project`:          {Mirror: "m", What: "missing", Path: "/q/a"},
			`not in the catalogue w`: {Mirror: "q", What: "missing", Path: "/p/a"},
			`is none of`:             {Mirror: "m", What: "ugly", Path: "/p/a"},
			`longer than 1024 bytes`: {Mirror: "m", What: "missing", Path: "/p/" + strings.Repeat("a", 1024)},
			`not in the catalogue`:   {Mirror: "q", What: "load", Load: 0.5},
			`got 1.5`:                {Mirror: "m", What: "load", Load: 1.5},
			`got NaN`:                {Mirror: "m", What: "load", Load: nan / nan},
		} {
			if err := w.prober.Report(Reporter{Name: "node", Weight: 1}, r); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want %q", r, err, want)
			}
		}
	})
}
