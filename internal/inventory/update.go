package inventory

import (
	"errors"
	"fmt"
	"iter"
	"strings"
)

const (
	maxPath    = 1024
	maxName    = 255
	maxEntries = 1 << 24 // of a listing
	// A mirror's files that the origin does not have are kept up to this number and
	// a quarter of the origin's: it may be ahead of what is known of the origin.
	maxForeign = 100_000
)

var (
	errGone = errors.New("a listing does not tell what is gone")
	errPath = errors.New("not a clean path")
)

// update collects what a holder says, compared with the state of when it began.
type update struct {
	holder  Holder
	base    *root
	touched map[string]*marks
	last    *marks // of the folder of the last entry
	entries int
	kept    int // files that the holder had, in this version or another
	foreign int // files that the origin does not have
	ignored int
}

// marks are what an update says of a folder.
type marks struct {
	path   string
	folder *folder // in the state of when it began; nil: there was none
	// seen has a bit for each version of folder that the holder has.
	seen []uint64
	// leaf and version are where the next file is expected; start is the number
	// of versions before that leaf.
	leaf, version, start int
	// others are files that are not among the folder's versions.
	others []other
}

// other is a file, or its end.
type other struct {
	name    string
	size    int64
	modTime uint32
	gone    bool
	sum     [32]byte
}

func newUpdate(base *root, h Holder) *update {
	return &update{holder: h, base: base, touched: make(map[string]*marks)}
}

func (u *update) read(entries iter.Seq2[Entry, error]) error {
	for e, err := range entries {
		switch {
		case err != nil:
			return err
		case e.Gone:
			return fmt.Errorf("%s: %w", e.Path, errGone)
		case u.entries == maxEntries:
			return fmt.Errorf("more than %d files: %w", maxEntries, ErrTooMany)
		}
		u.entries++
		u.add(e)
	}
	return nil
}

func (u *update) readDelta(entries iter.Seq2[Entry, error]) error {
	for e, err := range entries {
		switch {
		case err != nil:
			return err
		case u.entries == maxEntries:
			return fmt.Errorf("more than %d changes: %w", maxEntries, ErrTooMany)
		}
		u.entries++
		u.addDelta(e)
	}
	return nil
}

// add takes a file of a listing.
func (u *update) add(e Entry) {
	m, name, ok := u.marks(e.Path)
	if !ok {
		return
	}
	leaf, i := m.find(name)
	if leaf == nil {
		u.addForeign(m, other{name: name, size: e.Size, modTime: toSeconds(e.ModTime), sum: e.SHA256})
		return
	}
	at := leaf.match(i, e.Size, &e.SHA256)
	if at >= 0 && (u.holder != Origin || leaf.isStill(at, &e)) {
		if m.see(m.start + at) {
			u.keep(leaf, i)
		}
		return
	}
	u.keep(leaf, i)
	o := other{name: name, size: e.Size, modTime: toSeconds(e.ModTime), sum: e.SHA256}
	if leaf.versions[i].current() {
		m.addOther(o)
	} else {
		u.addForeign(m, o)
	}
}

// keep counts a file, whose first version is i, that is listed as before or otherwise.
func (u *update) keep(l *leaf, i int) {
	for end := l.next(i); i < end; i++ {
		if u.has(&l.versions[i]) {
			u.kept++
			return
		}
	}
}

// addForeign takes a file that the origin does not have, as far as is known.
func (u *update) addForeign(m *marks, o other) {
	if files := u.base.standings[Origin].Files; u.holder != Origin && files > 0 {
		if u.foreign == maxForeign+files/4 {
			u.ignored++
			return
		}
		u.foreign++
	}
	m.addOther(o)
}

// addDelta takes an entry of a delta.
func (u *update) addDelta(e Entry) {
	if m, name, ok := u.marks(e.Path); ok {
		m.addOther(other{name: name, size: e.Size, modTime: toSeconds(e.ModTime), gone: e.Gone, sum: e.SHA256})
	}
}

func (u *update) has(v *version) bool {
	if u.holder == Origin {
		return v.current()
	}
	return v.holders.Has(u.holder)
}

// marks returns those of a path's folder, and the path's name in it. It is false if the
// path is not clean.
func (u *update) marks(path string) (*marks, string, bool) {
	at := strings.LastIndexByte(path, '/') + 1
	folder, name := path[:at], path[at:]
	if !cleanName(name) || len(path) > maxPath {
		u.ignored++
		return nil, "", false
	}
	if u.last != nil && u.last.path == folder {
		return u.last, name, true
	}
	m := u.touched[folder]
	if m == nil {
		if !cleanFolder(folder) {
			u.ignored++
			return nil, "", false
		}
		m = &marks{folder: u.base.folder(folder)}
		if m.folder != nil {
			m.path = m.folder.path
		} else {
			m.path = strings.Clone(folder)
		}
		u.touched[m.path] = m
	}
	u.last = m
	return m, name, true
}

// CheckPath returns an error if an inventory does not take a path.
func CheckPath(path string) error {
	at := strings.LastIndexByte(path, '/') + 1
	if len(path) > maxPath || !cleanName(path[at:]) || !cleanFolder(path[:at]) {
		return fmt.Errorf("%q: %w", path, errPath)
	}
	return nil
}

func cleanFolder(folder string) bool {
	for element := range strings.SplitSeq(strings.TrimSuffix(folder, "/"), "/") {
		if !cleanName(element) && folder != "" {
			return false
		}
	}
	return true
}

func cleanName[T string | []byte](name T) bool {
	if len(name) == 0 || len(name) > maxName || string(name) == "." || string(name) == ".." {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c == 0 || c == '\n' || c == '/' {
			return false
		}
	}
	return true
}

// find returns the first version of a file in the folder, looking first where it
// would be in a sorted listing.
func (m *marks) find(name string) (*leaf, int) {
	if m.folder == nil {
		return nil, 0
	}
	leaves := m.folder.leaves
	if m.version == len(leaves[m.leaf].versions) && m.leaf+1 < len(leaves) {
		m.start += m.version
		m.leaf, m.version = m.leaf+1, 0
	}
	l := &leaves[m.leaf]
	if i := m.version; i < len(l.versions) && l.name(i) == name {
		m.version = l.next(i)
		return l, i
	}
	if at := m.folder.leafOf(name); at != m.leaf {
		m.leaf, m.start = at, 0
		for i := range at {
			m.start += len(leaves[i].versions)
		}
		l = &leaves[at]
	}
	i, ok := l.search(name)
	if !ok {
		return nil, 0
	}
	m.version = l.next(i)
	return l, i
}

// see marks a version, and tells whether it was not marked yet.
func (m *marks) see(i int) bool {
	if m.seen == nil {
		n := 0
		for j := range m.folder.leaves {
			n += len(m.folder.leaves[j].versions)
		}
		m.seen = make([]uint64, (n+63)/64)
	}
	old := m.seen[i/64]
	m.seen[i/64] |= 1 << (i % 64)
	return m.seen[i/64] != old
}

func (m *marks) isSeen(i int) bool { return m.seen != nil && m.seen[i/64]>>(i%64)&1 != 0 }

func (m *marks) addOther(o other) {
	o.name = strings.Clone(o.name)
	m.others = append(m.others, o)
}

// isStill tells whether a version is current and a listing of the origin says nothing
// new of it.
func (l *leaf) isStill(i int, e *Entry) bool {
	v := &l.versions[i]
	return v.current() && v.modTime == toSeconds(e.ModTime) && (e.SHA256 == [32]byte{} || known(l.sum(i)))
}
