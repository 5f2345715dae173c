package inventory

import (
	"io"
	"iter"
	"maps"
	"slices"
)

// ContentType is the media type of what Write and WriteSince write.
const ContentType = "application/vnd.freshet.inventory"

// Edition is one state of all of an inventory. It does not change, and holds on to the
// memory of this state as a [View] does.
type Edition struct {
	serial uint64
	names  []string
	views  map[string]View
}

// Edition returns the state of now.
func (v *Inventory) Edition() Edition {
	e := Edition{serial: v.Serial()} // what changes meanwhile is a change to come
	v.mu.RLock()
	defer v.mu.RUnlock()
	e.views = make(map[string]View, len(v.trees))
	for name, t := range v.trees {
		e.views[name] = t.View()
	}
	// The views are older than the names, so that all their holders have one.
	e.names = slices.Clone(v.names)
	return e
}

// Serial is that of the inventory. The edition has all changes up to it.
func (e Edition) Serial() uint64 { return e.serial }

// Write writes all of it, as [Inventory.Save] does.
func (e Edition) Write(to io.Writer) error {
	w := newWriter(to)
	w.holders(e.names, e.views)
	for _, name := range slices.Sorted(maps.Keys(e.views)) {
		v := e.views[name]
		w.project(name, v)
		w.files(v.r.all())
	}
	return w.end()
}

// WriteSince writes what has changed since another edition of the same inventory, which
// those who have it know by the tag. It costs a pass over the folders, and what differs.
func (e Edition) WriteSince(to io.Writer, base Edition, tag string) error {
	changed := make(map[string]View)
	for name, v := range e.views {
		if base.views[name].r != v.r {
			changed[name] = v
		}
	}
	for name := range base.views {
		if _, ok := e.views[name]; !ok {
			changed[name] = View{&emptyRoot}
		}
	}
	w := newWriter(to)
	w.block(blockBase, appendString(nil, tag))
	w.holders(e.names, changed)
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		before, v := base.views[name].r, changed[name]
		if before == nil {
			before = &emptyRoot
		}
		w.project(name, v)
		if len(v.r.standings) > 0 { // otherwise nothing is left
			w.gone(lacking(before, v.r))
			w.files(differing(before, v.r))
		}
	}
	return w.end()
}

// lacking yields the folders of a root that another one does not have.
func lacking(of, in *root) iter.Seq[*folder] {
	return func(yield func(*folder) bool) {
		for f := range of.all() {
			if in.folder(f.path) == nil && !yield(f) {
				return
			}
		}
	}
}

// differing yields the folders of a root that another one does not have like that.
func differing(before, now *root) iter.Seq[*folder] {
	return func(yield func(*folder) bool) {
		for f := range now.all() {
			if before.folder(f.path) != f && !yield(f) {
				return
			}
		}
	}
}
