package versions

import (
	"time"

	"freshet/internal/inventory"
)

// Pointers returns the paths of the pointers of a project's repositories, if listings are
// trusted: Listed is to be told of them.
func (v *Versions) Pointers(project string) (paths []string) {
	if v.opt.Trust <= 0 {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for k := range v.repos {
		if k.project == project {
			paths = append(paths, k.pointer)
		}
	}
	return paths
}

// Listed takes the word of a mirror's listing for what pointers it shows: in the place of
// Saw, where nobody looks at mirrors. A pointer is the current one if its hash is told, and
// is that; or if its length and time of modification are those that the origin's was
// listed with since the version is there, as rsync would take it for the same. If it was
// not all of the mirror's files, pointers that were not found are as they were.
func (v *Versions) Listed(mirror, project string, all bool, found map[string]inventory.Entry, at time.Time) {
	for _, pointer := range v.Pointers(project) {
		r := v.get(project, pointer)
		if r == nil {
			continue // the catalogue has changed meanwhile
		}
		e, ok := found[pointer]
		var shows sum
		switch {
		case ok && !e.Gone:
			shows = r.shownBy(&e, v.opt.Inventory.Project(project).View())
		case !ok && !all:
			if shows, ok = r.listedWith(mirror); !ok {
				continue
			}
		}
		r.list(mirror)
		v.Saw(mirror, project, pointer, shows, at)
	}
}

// shownBy is the sum of a pointer that was listed, zero if it is not known.
func (r *repository) shownBy(e *inventory.Entry, view inventory.View) sum {
	if e.SHA256 != [32]byte{} {
		return e.SHA256
	}
	r.mu.Lock()
	version := r.history.current()
	r.mu.Unlock()
	origin, ok := view.Find(e.Path)
	if !ok || version.Serial == 0 || view.Standing(inventory.Origin).Updated.Before(version.Since) {
		return sum{}
	}
	if origin.Size != e.Size || origin.ModTime.IsZero() || origin.ModTime.Unix() != e.ModTime.Unix() {
		return sum{}
	}
	return version.Sum
}

// listedWith is the pointer that a mirror was listed with last.
func (r *repository) listedWith(mirror string) (shows sum, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.seen[mirror]; m != nil && m.listed {
		return m.sum, true
	}
	return sum{}, false
}

// list notes that a mirror is not looked at.
func (r *repository) list(mirror string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[mirror] == nil {
		r.seen[mirror] = new(sighting)
	}
	r.seen[mirror].listed = true
}
