package inventory

import (
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// Entry is a file as a holder tells of it.
type Entry struct {
	// Path is relative to the project: clean, no slash at its beginning or end, no
	// zero byte and no line break, 1,024 bytes at most, and 255 between two slashes.
	Path string
	Size int64
	// ModTime counts in whole seconds. Zero, or not between 1970 and 2106: unknown.
	ModTime time.Time
	// SHA256 is all zero if it is not known.
	SHA256 [32]byte
	// Gone says, in a Delta, that the holder has no file of this path any more.
	// Nothing but Path counts then.
	Gone bool
}

// File is the origin's version of a file, and who has it.
type File struct {
	Size    int64
	ModTime time.Time // of the origin; zero if unknown
	SHA256  [32]byte  // all zero if unknown
	Holders Set
}

// HasSHA256 tells whether the file's hash is known.
func (f *File) HasSHA256() bool { return f.SHA256 != [32]byte{} }

// Listing is all that a holder has.
type Listing struct {
	// At is when it was begun. What is said of the holder in the meantime, by a Delta
	// or a Doubt, is overruled. Zero: now.
	At time.Time
	// Generation is the mirror's name for this state, to which a Delta refers. It
	// is empty if it was not the mirror who told it.
	Generation string
	// Entries may come in any order; those of a folder together, sorted by name, are
	// the fastest. An error ends the listing, and nothing is changed. The Path of an
	// entry is copied when it is kept.
	Entries iter.Seq2[Entry, error]
}

// Delta is what has changed at a holder.
type Delta struct {
	At time.Time // zero: now
	// Base is the Generation that it starts from, and Generation the one that it
	// leads to. If both are empty it starts from what is known, whatever it is.
	Base, Generation string
	Entries          iter.Seq2[Entry, error]
}

// Change is what an update has done.
type Change struct {
	Files   int // that the holder has now
	Added   int // versions that it had not
	Removed int // versions that it has no more
	// Ignored counts entries that are not kept: their paths are not clean, or the
	// origin does not have them and there are too many of such.
	Ignored int
}

// Standing is what is known of a holder in a tree.
type Standing struct {
	// Updated is the At of the last listing or delta that counted. Zero: there was
	// none, and nothing is known of the holder.
	Updated time.Time
	// Generation is that of it.
	Generation string
	Files      int
	// Refused is the At of the last listing, if it was refused because it lacks so
	// much. The next one will count.
	Refused time.Time
}

// ErrGap is wrapped by the error of a Delta that does not start from what is known of
// the holder: a full listing is needed.
var ErrGap = errors.New("a full listing is needed")

// ErrShrunk is wrapped by the error of a listing that lacks more than two fifths of what
// the holder had. The next listing of the holder counts, whatever it lacks.
var ErrShrunk = errors.New("the listing lacks too much")

// Tree is what is known of a project's files. The zero value is empty. All methods are
// safe for concurrent use; updates are made one after the other, reading aside.
type Tree struct {
	root      atomic.Pointer[root]
	inventory *Inventory // is told of changes; nil: nobody is
	mu        sync.Mutex // held while a new root is made
}

// View returns the state of now.
func (t *Tree) View() View { return View{t.load()} }

func (t *Tree) load() *root {
	if r := t.root.Load(); r != nil {
		return r
	}
	return &emptyRoot
}

// Find is that of the current View.
func (t *Tree) Find(path string) (File, bool) { return t.View().Find(path) }

// Replace says that a holder has these files and no others. An error of the listing is
// returned as it is; it wraps ErrShrunk or ErrTooMany if the listing is refused.
func (t *Tree) Replace(h Holder, l Listing) (Change, error) {
	if l.At.IsZero() {
		l.At = time.Now()
	}
	u := newUpdate(t.load(), h)
	if err := u.read(l.Entries); err != nil {
		return Change{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.load().standings[h]
	if lost := s.Files - u.kept; 5*lost > 2*s.Files && s.Refused.IsZero() {
		s.Refused = l.At
		t.publish(t.load().withStanding(h, s))
		return Change{}, fmt.Errorf("%d of %d files are missing: %w", lost, s.Files, ErrShrunk)
	}
	return t.commit(u, Standing{Updated: l.At, Generation: l.Generation}, true), nil
}

// Apply says what has changed at a holder. It costs the change, not the tree. The error
// wraps ErrGap if the delta's base is not the generation that is known.
func (t *Tree) Apply(h Holder, d Delta) (Change, error) {
	if d.At.IsZero() {
		d.At = time.Now()
	}
	u := newUpdate(t.load(), h)
	if err := u.readDelta(d.Entries); err != nil {
		return Change{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.load().standings[h]
	if d.Base != "" || d.Generation != "" {
		if s.Updated.IsZero() || d.Base != s.Generation {
			return Change{}, fmt.Errorf("the delta starts from generation %q, known is %q: %w", d.Base, s.Generation, ErrGap)
		}
		s.Generation = d.Generation
	}
	s.Updated = d.At
	return t.commit(u, s, false), nil
}

// Doubt says that a holder seems not to have a file, which it is not offered for until
// its next listing tells that it is there.
func (t *Tree) Doubt(h Holder, path string) {
	u := newUpdate(t.load(), h)
	u.addDelta(Entry{Path: path, Gone: true})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.commit(u, t.load().standings[h], false)
}

// Drop forgets all that a holder has, and that it has been there.
func (t *Tree) Drop(h Holder) {
	u := newUpdate(t.load(), h)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.commit(u, Standing{}, true)
}

// Updated returns when what is known of a holder was told, or the zero time.
func (t *Tree) Updated(h Holder) time.Time { return t.View().Standing(h).Updated }

// publish makes r the state that readers see.
func (t *Tree) publish(r *root) {
	r.serial = t.load().serial + 1
	t.root.Store(r)
	if t.inventory != nil {
		t.inventory.changed()
	}
}
