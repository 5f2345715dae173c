package versions

import (
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/inventory"
)

// trusting begins again with trust in listings.
func (w *world) trusting() {
	w.t.Helper()
	w.stop()
	w.trust = 24 * time.Hour
	w.start()
}

// listed tells that a mirror was listed with a pointer, of which the hash is known or
// only the time of modification.
func (w *world) listed(mirror string, c contents, hashed bool, modified time.Time) {
	w.t.Helper()
	w.list(mirror, c)
	e := inventory.Entry{Path: pointer, Size: int64(len(c[pointer])), ModTime: modified}
	if hashed {
		e.SHA256 = digest(c[pointer])
	}
	w.Listed(mirror, project, true, map[string]inventory.Entry{pointer: e}, time.Now())
}

// origins lists the origin, whose pointer has a time of modification.
func (w *world) origins(c contents, modified time.Time) {
	w.t.Helper()
	w.list("", c)
	_, err := w.inv.Project(project).Apply(inventory.Origin, inventory.Delta{Entries: func(yield func(inventory.Entry, error) bool) {
		yield(inventory.Entry{Path: pointer, Size: int64(len(c[pointer])), ModTime: modified}, nil)
	}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// Where nobody looks at mirrors their listings are believed: by hash, or by length and
// time of modification.
func TestListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if paths := w.Pointers(project); paths != nil {
			t.Errorf("without trust: %q", paths)
		}
		w.trusting()
		one, two := rpms(1, "a.rpm"), rpms(2, "a.rpm")
		long := time.Now().Add(-time.Hour).Truncate(time.Second)
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.listed("early", one, false, long)
		w.origins(one, long)
		w.listed("hashed", one, true, time.Time{})
		w.listed("timed", one, false, long.Add(time.Millisecond))
		w.listed("touched", one, false, long.Add(time.Second))
		w.listed("other", two, true, long) // of the same length
		w.Listed("lacking", project, true, nil, time.Now())
		soon()
		w.want("as listed", "hashed", "timed")
		w.behind("other", Unknown)
		w.behind("touched", Unknown)
		w.behind("early", Unknown) // the origin was not listed yet
		w.behind("lacking", Unknown)

		// It counts for as long as listings do, after a restart as well, and is renewed
		// by one that says nothing of it.
		w.pass(20*time.Hour, nil)
		w.Listed("hashed", project, false, nil, time.Now())
		w.Listed("nobody", project, false, nil, time.Now())
		w.restart()
		w.Hasten(project, "")
		soon()
		w.want("after a restart", "hashed", "timed")
		w.pass(10*time.Hour, nil)
		w.want("later", "hashed")
		w.behind("timed", Unseen)
		w.behind("nobody", Unseen)

		// The next version: nobody has it, until listings tell.
		w.origin.publish(two)
		w.Hasten(project, "")
		soon()
		w.want("superseded")
		w.origins(two, long.Add(time.Minute))
		w.listed("hashed", one, true, time.Time{})
		w.listed("timed", two, false, long.Add(time.Minute))
		soon()
		w.want("the next version", "timed")
		w.behind("hashed", Older)
		w.Listed("timed", project, true, map[string]inventory.Entry{pointer: {Path: pointer, Gone: true}}, time.Now())
		soon()
		w.want("gone")
	})
}

// A clock that was ahead before a restart keeps nobody waiting until then, neither for
// listings nor for a version that may not be offered yet.
func TestClockSetRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.trusting()
		one, two := rpms(1, "a.rpm"), rpms(2, "a.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.listed("early", one, true, time.Time{})
		soon()
		w.want("at first", "early")
		w.stop()
		text, err := w.dir.Root.ReadFile(stateName)
		if err != nil {
			t.Fatal(err)
		}
		ahead := regexp.MustCompile(`"2000-`).ReplaceAll(text, []byte(`"2001-`))
		ahead = regexp.MustCompile(`("since": )("[^"]*"),(\s*"serial")`).ReplaceAll(ahead, []byte(`$1$2, "not_before": $2,$3`))
		if err := w.dir.WriteFile(stateName, ahead, 0o644); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.pass(3*time.Hour, nil)
		w.listed("early", one, true, time.Time{})
		soon()
		w.want("after an hour and more", "early")
		w.listed("early", two, true, time.Time{})
		soon()
		w.want("listed with another")
	})
}

// Who knows of a change is not kept waiting, whenever the last look was.
func TestToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one := rpms(1, "a.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		for n := range 5 {
			next := rpms(2+n, "a.rpm")
			w.origin.publish(next)
			w.Hasten(project, pointer)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if sum, _ := w.Current(project, pointer); sum != digest(next[pointer]) {
				t.Fatalf("version %d is not seen within two seconds", 2+n)
			}
			w.saw("m", next)
			w.list("m", next)
			w.Heard("m", project)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			w.want("the mirror was heard", "m")
			// Whom it is not about, or who is offered, asks for no look.
			asked := w.origin.count(pointer, 200)
			w.Heard("m", project)
			w.Heard("nobody", project)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if n := w.origin.count(pointer, 200); n != asked {
				t.Errorf("%d looks for nothing", n-asked)
			}
		}
	})
}
