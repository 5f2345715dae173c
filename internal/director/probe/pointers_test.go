package probe

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/directorapi"
)

// withPointer makes the project have a repository, whose pointer is "v1".
func (w *world) withPointer() {
	w.publish("v1")
	w.edit(func(c *directorapi.Catalogue) {
		c.Projects[0].Repositories = []directorapi.Repository{{Path: "repo/", Kind: directorapi.KindRPM}}
	})
}

// publish changes the pointer at the origin. Mirrors that have no file of their own there
// have it at once.
func (w *world) publish(version string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[pointerPath] = version
}

// told is what Versions was last told of the mirror.
func (w *world) told(mirror string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range slices.Backward(w.saw) {
		if name, sum, _ := strings.Cut(s, " "); name == mirror {
			return sum
		}
	}
	return ""
}

// It is told which pointer a mirror shows, soon after the origin has a newer one and the
// mirror too.
func TestPointerSeen(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.withPointer()
		w.run()
		w.pass(time.Minute)
		if got, want := w.told("m"), shortOf("v1"); got != want {
			t.Fatalf("%s is told, want %s", got, want)
		}
		w.hosts["m"].have(pointerPath, "v1")
		w.publish("v2")
		w.pass(10 * time.Minute)
		if got, want := w.told("m"), shortOf("v1"); got != want {
			t.Errorf("while the mirror is behind: %s, want %s", got, want)
		}
		w.waitUntil("m", true, 0) // it is behind, and works
		w.hosts["m"].have(pointerPath, "v2")
		w.pass(everyBehind + time.Second)
		if got, want := w.told("m"), shortOf("v2"); got != want {
			t.Errorf("%v after the mirror has it: %s, want %s", everyBehind, got, want)
		}
		w.hosts["m"].have(pointerPath, "")
		w.pass(everyGood + time.Second)
		if got, want := w.told("m"), strings.Repeat("0", 8); got != want {
			t.Errorf("without a pointer: %s, want %s", got, want)
		}
		w.waitUntil("m", true, 0)
	})
}

// A mirror that shows different pointers on different ways shows none.
func TestPointerDiffers(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.withPointer()
		w.hosts["m"].lie(lie{answer: func(rw http.ResponseWriter, r *http.Request, file string) {
			if strings.HasSuffix(r.URL.Path, "repomd.xml") {
				file = "v0"
			}
			serveFile(rw, r, file)
		}}, "https ipv6")
		w.run()
		w.pass(5 * time.Minute)
		if got, want := w.told("m"), strings.Repeat("0", 8); got != want {
			t.Errorf("%s is told, want %s", got, want)
		}
		// The way with the other pointer is out: the rest agrees.
		w.hosts["m"].lie(lie{dial: refuse}, "https ipv6")
		w.pass(5 * time.Minute)
		if got, want := w.told("m"), shortOf("v1"); got != want {
			t.Errorf("without that way %s is told, want %s", got, want)
		}
	})
}

// A mirror behind whose name are servers with different versions is out while they differ.
func TestFlips(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m", "n"}, func(t *testing.T, w *world) {
		w.withPointer()
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		w.pass(5 * time.Minute)
		// One of two servers gets what is new, the other one does not.
		differ := lie{each: func() lie {
			var n atomic.Int64
			return lie{answer: func(rw http.ResponseWriter, r *http.Request, file string) {
				if strings.HasSuffix(r.URL.Path, "repomd.xml") && n.Add(1)%2 == 0 {
					file = "v1"
				}
				serveFile(rw, r, file)
			}}
		}}
		w.publish("v2")
		w.hosts["m"].lie(differ)
		t.Logf("out after %v", w.waitUntil("m", false, bound))
		changes := w.prober.History(Way{Mirror: "m", Project: "p"})
		if why := changes[len(changes)-1].Why; why != Flips && why != Unsteady {
			t.Errorf("out for %q", why)
		}
		w.pass(30 * time.Minute)
		w.waitUntil("m", false, 0)
		w.waitUntil("n", true, 0)
		w.hosts["m"].lie(lie{})
		w.pass(time.Minute)
		w.scan("m")
		w.waitUntil("m", true, 5*time.Minute)
	})
}

// One that went back, and stays there, is only behind after a while.
func TestWentBack(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.withPointer()
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		w.pass(time.Minute)
		w.publish("v2")
		w.pass(time.Minute)
		w.hosts["m"].have(pointerPath, "v1")
		w.waitUntil("m", false, bound)
		w.pass(30 * time.Minute)
		w.scan("m")
		w.waitUntil("m", true, time.Minute)
		if got, want := w.told("m"), shortOf("v1"); got != want {
			t.Errorf("%s is told, want %s", got, want)
		}
	})
}

// The origin may go back, or a mirror be ahead of what is known of the origin.
func TestNoFlip(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.withPointer()
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		for _, version := range []string{"v2", "v3", "v4"} {
			w.hosts["m"].have(pointerPath, version)
			w.pass(time.Minute) // the origin's is not known yet
			w.publish(version)
			w.pass(time.Minute)
		}
		for _, version := range []string{"v3", "v1", "v4"} {
			w.publish(version)
			w.pass(time.Minute)
			w.hosts["m"].have(pointerPath, version)
			w.pass(time.Minute)
		}
		if changes := w.prober.History(Way{Mirror: "m", Project: "p"}); len(changes) != 1 {
			t.Errorf("changes: %+v", changes)
		}
	})
}

// Of many repositories all pointers are looked at, in turns, those that are behind and
// the others: of a few soon, and of a thousand within the looks of half an hour.
func TestManyPointers(t *testing.T) {
	t.Parallel()
	for n, looks := range map[int]int{12: 6, 1000: 45} {
		w := &way{project: new(directorapi.Project), pointers: make(map[string]*pointer)}
		known := make(currents)
		for i := range n {
			folder := fmt.Sprintf("%04d/", i)
			w.project.Repositories = append(w.project.Repositories, directorapi.Repository{Path: folder, Kind: directorapi.KindRPM})
			known[folder+"repodata/repomd.xml"] = sum{1}
		}
		l := &look{Prober: &Prober{opt: Options{Versions: known}}, way: w}
		now := time.Unix(1e9, 0)
		seen := make(map[string]int)
		for range looks {
			now = now.Add(30 * time.Second)
			for _, name := range l.choosePointers(now) {
				w.pointers[name].looked = now
				if name > "0003" { // the first three stay behind
					w.pointers[name].see(sum{1})
				}
				seen[name]++
			}
		}
		if len(seen) != n {
			t.Errorf("of %d pointers %d were looked at in %d looks", n, len(seen), looks)
		}
	}
}

type currents map[string]sum

func (c currents) Current(_, repository string) (sum, bool) { s, ok := c[repository]; return s, ok }

func (currents) Saw(string, string, string, sum, time.Time) {}
