package versions

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/closure"
	"freshet/internal/inventory"
)

// A mirror is offered when it shows the current version and has all of it.
func TestOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one := rpms(1, "a.rpm", "b.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.want("nobody was seen")
		w.behind("whole", Unseen)
		w.holds("whole", one)
		partial := rpms(1, "a.rpm")
		partial[pointer], partial["40/os/repodata/primary.xml"] = one[pointer], one["40/os/repodata/primary.xml"]
		w.holds("partial", partial)
		w.list("unseen", one)
		w.holds("other", rpms(7, "a.rpm", "b.rpm"))
		soon()
		w.want("one has all", "whole")
		if got := w.offered("40/os/repodata/primary.xml"); !slices.Equal(got, []string{"whole"}) {
			t.Errorf("an index without a checksum in its name: %v", got)
		}
		for _, path := range []string{"40/os/Packages/a.rpm", "40/os/repodata/" + fmt.Sprintf("%064d", 1) + "-primary.xml.gz", "README", "41/os/repodata/repomd.xml"} {
			if set, mutable := w.Allowed(project, path); mutable || set.Len() > 0 {
				t.Errorf("%s is mutable", path)
			}
		}
		if _, mutable := w.Allowed("other", pointer); mutable {
			t.Error("of another project")
		}
		w.behind("whole", Current)
		w.behind("partial", Incomplete)
		w.behind("unseen", Unseen)
		w.behind("other", Unknown)
		f, _ := w.Find(project, pointer)
		if f.Size != int64(len(one[pointer])) || f.SHA256 != [32]byte(digest(one[pointer])) {
			t.Errorf("the pointer has %d bytes, sum %x", f.Size, f.SHA256)
		}
		// The mirror is scanned after it showed the new pointer, and has everything.
		w.list("partial", one)
		w.Hasten(project, "40/os/Packages/b.rpm")
		soon()
		w.want("both have all", "partial", "whole")
		// Nobody looks at one of them any more.
		w.pass(2*time.Hour, map[string]contents{"whole": one})
		w.want("one was seen within the hour", "whole")
		w.behind("partial", Unseen)
		if n := w.origin.count("40/os/repodata/primary.xml", 200); n != 1 {
			t.Errorf("the closure was read %d times", n)
		}
		if n := w.origin.count(pointer, 200); n > 2 {
			t.Errorf("the pointer was read %d times, and did not change", n)
		}
		if n := w.origin.count(pointer, 304); n < 100 || n > 200 {
			t.Errorf("the pointer was asked for %d times in two hours", n)
		}
	})
}

// When the origin has a new version, the former is not offered any more, and mirrors come
// back with the new one, whole.
func TestNewVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, two := rpms(1, "a.rpm"), rpms(2, "a.rpm", "b.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.holds("fast", one)
		w.holds("slow", one)
		soon()
		w.want("before", "fast", "slow")

		published := time.Now()
		w.origin.publish(two)
		w.Hasten(project, "")
		soon()
		w.want("nobody has the new one")
		if since := w.behind("slow", Older); since.Before(published) || since.After(time.Now()) {
			t.Errorf("behind since %v, it was published at %v", since, published)
		}
		if len(w.scans) == 0 || w.scans[len(w.scans)-1] != " fedora new-version" {
			t.Errorf("asked for scans: %v", w.scans)
		}
		// It shows the new pointer, and its packages are still on their way.
		w.saw("fast", two)
		soon()
		w.want("the new pointer, and no packages")
		w.behind("fast", Incomplete)
		if w.scans[len(w.scans)-1] != "fast fedora new-version" {
			t.Errorf("asked for scans: %v", w.scans)
		}
		w.list("fast", two)
		w.saw("fast", two)
		w.Hasten(project, "")
		soon()
		w.want("the new pointer, and its packages", "fast")
		w.saw("slow", one)
		soon()
		w.want("still", "fast")
		// It loses a package.
		less := rpms(2, "a.rpm", "b.rpm")
		delete(less, "40/os/Packages/b.rpm")
		w.list("fast", less)
		w.pass(2*time.Minute, nil)
		w.want("a package is gone")
	})
}

// A mirror that has become whole is not offered before the origin was asked: it may show
// another version by now, to which clients have been sent.
func TestAddedAfterAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, two := rpms(1, "a.rpm"), rpms(2, "b.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.list("m", one)
		w.origin.publish(two) // nobody tells
		w.saw("m", one)
		w.want("at once")
		soon()
		w.want("when the origin was asked")
		w.behind("m", Older)
		// One that had it all is away for a moment.
		w.holds("n", two)
		soon()
		w.want("whole", "n")
		w.Saw("n", project, pointer, sum{}, time.Now())
		w.origin.publish(rpms(3, "c.rpm"))
		w.saw("n", two)
		w.want("at once, again")
		soon()
		w.want("when the origin was asked again")
		w.behind("n", Older)
	})
}

// The origin is asked again after its files were read, which takes a while: it may have
// another version by then.
func TestPublishedWhileRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, two := rpms(1, "a.rpm"), rpms(2, "b.rpm")
		w.holds("m", one)
		w.origin.publish(one)
		w.origin.after("40/os/repodata/primary.xml", two)
		w.Hasten(project, "")
		for w.origin.count("40/os/repodata/primary.xml", 200) == 0 {
			time.Sleep(time.Second)
			synctest.Wait()
			w.want("it was read")
		}
		soon()
		if sum, _ := w.Current(project, pointer); sum != [32]byte(digest(two[pointer])) {
			t.Error("the second version was not seen")
		}
		w.want("the second")
	})
}

// A version that was superseded is not offered within the hour, even if the origin goes
// back to it; if it stays there, it is after two.
func TestOriginGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, two := rpms(1, "a.rpm"), rpms(2, "a.rpm", "b.rpm")
		showing := map[string]contents{"old": one, "new": two}
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.holds("old", one)
		w.holds("new", two)
		soon()
		w.want("one", "old")
		w.origin.publish(two)
		w.pass(10*time.Minute, showing)
		w.want("two", "new")

		// A cache in front of it is behind, from time to time.
		for i := range 12 {
			w.origin.publish([]contents{one, two}[i%2])
			w.pass(10*time.Minute, showing)
			w.want("the origin flips", "new")
		}
		w.origin.publish(one)
		w.pass(55*time.Minute, showing)
		w.want("it shows the older one for less than an hour", "new")
		w.pass(15*time.Minute, showing)
		w.want("it does for more")
		w.behind("old", Settling)
		if at := w.behind("new", Older); time.Since(at) > 20*time.Minute {
			t.Errorf("behind since %v", at)
		}
		w.pass(time.Hour, showing)
		w.want("two hours later", "old")
	})
}

// What was superseded is known after a restart, and so is who has the current version,
// with the origin away.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, two := rpms(1, "a.rpm"), rpms(2, "a.rpm", "b.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.holds("old", one)
		w.holds("new", one)
		soon()
		w.origin.publish(two)
		w.Hasten(project, "")
		soon()
		w.holds("new", two)
		soon()
		w.want("before", "new")

		w.origin.leave(true)
		w.restart()
		soon()
		w.want("nobody was seen yet")
		w.saw("old", one)
		w.saw("new", two)
		soon()
		w.want("the origin is away", "new")
		if f, _ := w.Find(project, "40/os/repodata/primary.xml"); f.Size != int64(len(two["40/os/repodata/primary.xml"])) {
			t.Errorf("an index has %d bytes", f.Size)
		}
		if since := w.behind("old", Older); since.IsZero() {
			t.Error("it is not known since when it is behind")
		}

		w.origin.publish(one)
		w.origin.leave(false)
		w.restart()
		w.pass(10*time.Minute, map[string]contents{"old": one, "new": two})
		w.want("the origin is there again, with the older one", "new")
	})
}

// A restart with a state that is damaged begins anew.
func TestDamagedState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one := rpms(1, "a.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.stop()
		for _, name := range []string{stateName, listName(key{project, pointer})} {
			data, err := w.dir.Root.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 0x20
			if err := w.dir.Root.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		w.start()
		w.holds("m", one)
		soon()
		w.want("made anew", "m")
		if n := w.origin.count("40/os/repodata/primary.xml", 200); n != 2 {
			t.Errorf("the closure was read %d times", n)
		}
	})
}

// A mirror that goes back is one name in front of several machines, as a rule.
func TestMirrorFlips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, two := rpms(1, "a.rpm"), rpms(2, "a.rpm", "b.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.holds("flips", one)
		w.origin.publish(two)
		w.Hasten(project, "")
		soon()
		w.holds("flips", two)
		w.holds("steady", two)
		soon()
		w.want("it has it", "flips", "steady")
		for range 20 {
			w.saw("flips", one)
			if len(w.offered(pointer)) == 2 {
				t.Error("it shows the older one, and is offered")
			}
			soon()
			w.want("it shows the older one, and the origin was asked", "steady")
			w.pass(time.Minute, map[string]contents{"steady": two})
			w.saw("flips", two)
			w.pass(time.Minute, map[string]contents{"steady": two})
			w.want("it shows the current one again", "steady")
			w.behind("flips", WentBack)
		}
		w.restart()
		both := map[string]contents{"flips": two, "steady": two}
		w.pass(55*time.Minute, both)
		w.want("for less than an hour", "steady")
		w.pass(15*time.Minute, both)
		w.want("for more", "flips", "steady")
		// The next version comes within the week: it has to show that for an hour too.
		three := rpms(3, "a.rpm")
		w.origin.publish(three)
		w.Hasten(project, "")
		soon()
		w.holds("flips", three)
		w.holds("steady", three)
		soon()
		w.want("a new version", "steady")
		w.pass(65*time.Minute, map[string]contents{"flips": three, "steady": three})
		w.want("an hour later", "flips", "steady")
		// It shows something else, and comes back from it: an error page, say.
		w.Saw("steady", project, pointer, digest("<html>"), time.Now())
		w.pass(time.Minute, nil)
		w.saw("steady", three)
		w.pass(time.Minute, nil)
		w.behind("steady", WentBack)
		// Nothing at all is no other version.
		w.Saw("flips", project, pointer, sum{}, time.Now())
		w.want("it shows nothing")
		w.pass(time.Minute, nil)
		w.behind("flips", Unknown)
	})
}

// A mirror that is ahead of what is known of the origin does not go back when the origin
// is asked.
func TestMirrorAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, two := rpms(1, "a.rpm"), rpms(2, "a.rpm", "b.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.holds("m", one)
		soon()
		w.origin.publish(two)
		w.holds("m", two) // and this makes that the origin is asked
		soon()
		w.want("it was first", "m")
		three := rpms(3, "a.rpm")
		w.saw("m", three) // it is again
		w.origin.publish(three)
		w.Hasten(project, "")
		soon()
		w.saw("m", two) // and goes back
		w.saw("m", three)
		w.behind("m", WentBack)
	})
}

// While the origin is away, or shows what cannot be read, the last version stays, or
// nobody is offered.
func TestOriginAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, two := rpms(1, "a.rpm"), rpms(2, "a.rpm", "b.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.holds("m", one)
		soon()
		w.origin.leave(true)
		w.pass(5*time.Hour, map[string]contents{"m": one})
		w.want("the origin is away", "m")
		w.holds("n", one)
		soon()
		w.want("another one comes", "m", "n")

		// In the middle of a publish: the new pointer, and not what it names.
		half := rpms(2, "a.rpm", "b.rpm")
		half["40/os/repodata/primary.xml"] = one["40/os/repodata/primary.xml"]
		w.origin.publish(half)
		w.origin.leave(false)
		w.pass(11*time.Minute, map[string]contents{"m": one, "n": one})
		w.want("it is not known what the new version is")
		w.holds("m", two)
		soon()
		w.want("still")
		w.behind("m", Settling)
		if s := w.Status(); len(s) != 1 || !errors.Is(s[0].Err, closure.ErrInconsistent) || s[0].Files != 0 || s[0].Version != [32]byte(digest(two[pointer])) {
			t.Errorf("%+v", s)
		}
		w.origin.publish(two)
		w.pass(40*time.Minute, map[string]contents{"m": two})
		w.want("it is", "m")
		if s := w.Status(); len(s) != 1 || s[0].Err != nil || s[0].Files != 4 || s[0].Offered.Len() != 1 || time.Since(s[0].Asked) > 2*time.Minute {
			t.Errorf("%+v", s)
		}
	})
}

// A repository of OSTree has no list: whoever has all objects that the origin was listed
// with may be offered.
func TestOSTree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		w.spec = directorapi.Repository{Path: "repo/", Kind: directorapi.KindOSTree}
		w.start()
		object := func(n int) string { return fmt.Sprintf("repo/objects/ab/%062d.filez", n) }
		one := contents{"repo/summary": "one", "repo/refs/heads/a": "x", object(1): "1", "README": "outside"}
		saw := func(mirror string, c contents) {
			w.Saw(mirror, project, "repo/summary", digest(c["repo/summary"]), time.Now())
		}
		offered := func(when, path string, want ...string) {
			t.Helper()
			if got := w.offered(path); !slices.Equal(got, append([]string{}, want...)) {
				t.Errorf("%s: %v are offered for %s, not %v", when, got, path, want)
			}
		}
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.list("m", contents{"repo/summary": "one", object(1): "1"})
		saw("m", one)
		soon()
		offered("the origin was not listed", "repo/summary")
		w.list("", one)
		w.Hasten(project, "")
		soon()
		offered("it was", "repo/summary", "m")
		offered("it was", "repo/refs/heads/a")
		if _, mutable := w.Allowed(project, object(1)); mutable {
			t.Error("an object is mutable")
		}

		two := contents{"repo/summary": "two", "repo/refs/heads/a": "y", object(1): "1", object(2): "2"}
		w.origin.publish(two)
		w.Hasten(project, "")
		soon()
		w.list("m", two)
		saw("m", two)
		soon()
		offered("the origin's listing is old", "repo/summary")
		w.list("", two)
		w.Hasten(project, "")
		soon()
		offered("it is new", "repo/summary", "m")
		offered("it is new", "repo/refs/heads/a", "m")
	})
}

// Repositories come and go with the catalogue.
func TestCatalogue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one := rpms(1, "a.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.holds("m", one)
		soon()
		w.want("before", "m")
		with := directorapi.Catalogue{Projects: []directorapi.Project{{Name: project, Repositories: []directorapi.Repository{w.spec, {Path: "40/os/", Kind: directorapi.KindDeb, Pointer: "dists/sid/InRelease"}, {Kind: directorapi.KindArch}}}}}
		w.SetCatalogue(&with)
		w.want("another one comes", "m")
		if set, mutable := w.Allowed(project, "40/os/dists/sid/main/binary-amd64/Packages"); !mutable || set.Len() > 0 {
			t.Error("a repository that was not looked at yet")
		}
		with.Projects[0].Disabled = true
		w.SetCatalogue(&with)
		if _, mutable := w.Allowed(project, pointer); mutable {
			t.Error("the project is disabled")
		}
		soon()
		before := w.origin.count(pointer, 304)
		w.pass(time.Hour, nil)
		if after := w.origin.count(pointer, 304); after != before {
			t.Errorf("its origin was asked %d times", after-before)
		}
		with.Projects[0].Disabled = false
		w.SetCatalogue(&with)
		if got, known := w.Current(project, pointer); !known || got != [32]byte(digest(one[pointer])) {
			t.Error("what was known of it is forgotten")
		}
		w.saw("m", one)
		soon()
		w.want("it is there again", "m")
	})
}

// Asking costs no garbage, wherever the path is.
func TestAllowedCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one := rpms(1, "a.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.holds("m", one)
		soon()
		for _, path := range []string{pointer, "40/os/Packages/a.rpm", "pool/main/h/hello/hello_1.0_amd64.deb", "README"} {
			if n := testing.AllocsPerRun(100, func() { w.Allowed(project, path) }); n > 0 {
				t.Errorf("%s: %v allocations", path, n)
			}
		}
	})
}

func BenchmarkAllowed(b *testing.B) {
	dir := openDir(b)
	v, err := Open(Options{Inventory: new(inventory.Inventory), Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	var c directorapi.Catalogue
	c.Projects = []directorapi.Project{{Name: project}}
	for i := range 1000 {
		c.Projects[0].Repositories = append(c.Projects[0].Repositories, directorapi.Repository{Path: fmt.Sprintf("releases/%d/Everything/x86_64/os/", i), Kind: directorapi.KindRPM})
	}
	v.SetCatalogue(&c)
	for b.Loop() {
		v.Allowed(project, "releases/500/Everything/x86_64/os/Packages/h/hello-1-1.x86_64.rpm")
	}
}
