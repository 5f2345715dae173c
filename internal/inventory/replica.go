package inventory

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"
)

// Replica keeps an inventory like that of somebody else, who tells of it by
// [Edition.Write] and [Edition.WriteSince]. What is found out here, that a mirror seems
// not to have a file, is kept beside it. Make it with [NewReplica].
type Replica struct {
	inventory *Inventory
	tag       string           // of the edition that theirs is; empty: none
	theirs    map[string]*root // as it was told, by project

	mu     sync.Mutex // held while something is shown
	doubts []doubt
}

// doubt is that a mirror does not have a file.
type doubt struct {
	project string
	holder  Holder
	path    string
	listed  time.Time // when the mirror was, then
}

// maxDoubts bounds the doubts that are remembered.
const maxDoubts = 10_000

// NewReplica returns a replica that is kept in an inventory, which may know something
// already. Nobody else changes that but by versions of repositories, of what is told again.
func NewReplica(v *Inventory) *Replica { return &Replica{inventory: v} }

// Tag is that of the edition that was taken last, "" before the first.
func (r *Replica) Tag() string { return r.tag }

// Take reads an edition, or what has changed since the one that was taken last, and
// shows it to the readers of the inventory in one step for each project. Anything wrong,
// and nothing is changed. The error wraps ErrFormat or ErrGap; or ErrShrunk if a whole
// edition lacks more than two fifths of what is known here, and force is false. Whole
// tells that it was a whole edition. It is called by one goroutine at a time.
func (r *Replica) Take(from io.Reader, tag string, force bool) (whole bool, err error) {
	known := r.theirs
	if known == nil {
		known = r.shown()
	}
	in := reader{
		from: bufio.NewReaderSize(from, 1<<18), names: r.inventory,
		known: known, base: r.tag, projects: make(map[string]*root),
	}
	if err := in.all(); err != nil {
		return !in.since, err
	}
	if !in.since {
		was, is := files(known), files(in.projects)
		if lost := was - is; 5*lost > 2*was && !force {
			return true, fmt.Errorf("%d of %d files of mirrors are missing: %w", lost, was, ErrShrunk)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := make(map[string]*root, len(known))
	for name, was := range known {
		is := in.projects[name]
		switch {
		case is == nil && in.since:
			next[name] = was
		case is == nil:
			r.show(name, new(root))
		}
	}
	for name, is := range in.projects {
		next[name] = is
		r.show(name, is)
	}
	r.theirs, r.tag = next, tag
	return !in.since, nil
}

// shown is what readers of the inventory see.
func (r *Replica) shown() map[string]*root {
	all := make(map[string]*root)
	for name, v := range r.inventory.Edition().views {
		all[name] = v.r
	}
	return all
}

// files counts those of all mirrors and origins.
func files(projects map[string]*root) (n int) {
	for _, r := range projects {
		for _, s := range r.standings {
			n += s.Files
		}
	}
	return n
}

// show makes readers see a state of a project, with the doubts that are still in force. The
// caller holds mu.
func (r *Replica) show(project string, is *root) {
	paths := make(map[Holder][]string)
	kept := r.doubts[:0]
	for _, d := range r.doubts {
		if d.project == project {
			if !is.standings[d.holder].Updated.Equal(d.listed) {
				continue // the mirror was listed since
			}
			paths[d.holder] = append(paths[d.holder], d.path)
		}
		kept = append(kept, d)
	}
	clear(r.doubts[len(kept):])
	r.doubts = kept
	aside := new(Tree)
	copied := *is // publish numbers it
	aside.root.Store(&copied)
	for h, gone := range paths {
		// Entries without an error, and no generation: it cannot fail.
		_, _ = aside.Apply(h, Delta{At: is.standings[h].Updated, Entries: lacks(gone)})
	}
	tree := r.inventory.Project(project)
	tree.mu.Lock()
	defer tree.mu.Unlock()
	tree.publish(aside.load())
}

// lacks yields that files are gone.
func lacks(paths []string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, path := range paths {
			if !yield(Entry{Path: path, Gone: true}, nil) {
				return
			}
		}
	}
}

// Doubt is [Tree.Doubt], and holds until it is told that the mirror was listed anew.
func (r *Replica) Doubt(project string, h Holder, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tree := r.inventory.Project(project)
	if listed := tree.Updated(h); !listed.IsZero() && len(r.doubts) < maxDoubts {
		r.doubts = append(r.doubts, doubt{project, h, path, listed})
	}
	tree.Doubt(h, path)
}
