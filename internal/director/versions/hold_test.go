package versions

import (
	"strings"
	"testing"
	"testing/synctest"

	"freshet/internal/inventory"
)

// When clients are about to move between mirrors, the origin is asked first, because one
// of the mirrors may be ahead.
func TestMoving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, two := rpms(1, "a.rpm"), rpms(2, "b.rpm")
		w.origin.publish(one)
		w.Hasten(project, "")
		soon()
		w.holds("near", one)
		w.holds("far", one)
		soon()
		w.want("both have it", "far", "near")
		w.Moving("stranger", project)
		w.want("it is not about them", "far", "near")
		w.Moving("near", project)
		w.want("the origin was not asked yet")
		soon()
		w.want("the origin was asked", "far", "near")
		w.origin.publish(two) // nobody tells
		w.Moving("near", project)
		soon()
		w.want("the origin has another version")
		// The origin does not answer: what was known stays.
		w.holds("far", two)
		w.Hasten(project, "")
		soon()
		w.want("it has the new version", "far")
		w.origin.leave(true)
		w.Moving("far", project)
		w.want("the origin was not asked")
		soon()
		w.want("the origin does not answer", "far")
	})
}

// The hashes that a repository tells of its packages are known of the origin's files.
func TestTeach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one := rpms(1, "a.rpm", "b.rpm")
		w.origin.publish(one)
		w.list("", one)
		listed := w.inv.Project(project).Updated(inventory.Origin)
		w.Hasten(project, "")
		soon()
		w.holds("m", one)
		soon()
		w.want("it has it", "m")
		view := w.inv.Project(project).View()
		for p, content := range one {
			f, ok := view.Find(p)
			if !ok {
				t.Errorf("%s is not there", p)
				continue
			}
			if named := strings.HasSuffix(p, ".rpm"); named && f.SHA256 != digest(content) {
				t.Errorf("the hash of %s is not known", p)
			}
		}
		if f, _ := view.Find(pointer); f.HasSHA256() {
			t.Error("a name whose content changes has a hash")
		}
		if at := w.inv.Project(project).Updated(inventory.Origin); !at.Equal(listed) {
			t.Errorf("the origin counts as listed at %v, not at %v", at, listed)
		}
		serial := view.Serial()
		w.Hasten(project, "")
		soon()
		if now := w.inv.Project(project).View().Serial(); now != serial {
			t.Error("what is known is told again")
		}
	})
}
