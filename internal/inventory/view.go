package inventory

import "iter"

// View is one state of a tree. It does not change, and holds on to the memory of this
// state: it is to be kept for as long as an answer takes, not for long.
type View struct{ r *root }

// Serial rises with every change of the tree.
func (v View) Serial() uint64 { return v.r.serial }

// Len is the number of the origin's files.
func (v View) Len() int { return v.r.standings[Origin].Files }

// Standing tells what is known of a holder.
func (v View) Standing(h Holder) Standing { return v.r.standings[h] }

// Standings yields the holders of which something is known, in no order.
func (v View) Standings() iter.Seq2[Holder, Standing] {
	return func(yield func(Holder, Standing) bool) {
		for h, s := range v.r.standings {
			if !yield(h, s) {
				return
			}
		}
	}
}

// Find returns the origin's version of a file, false if the origin has none. It does not
// allocate.
func (v View) Find(path string) (File, bool) {
	leaf, i := v.r.find(path)
	if leaf == nil || !leaf.versions[i].current() {
		return File{}, false
	}
	return leaf.file(i), true
}

// Held returns who has this very file: the path, the length and, if e tells it and it is
// known, the SHA-256. It need not be the current version.
func (v View) Held(e Entry) Set {
	leaf, i := v.r.find(e.Path)
	if leaf == nil {
		return Set{}
	}
	if i = leaf.match(i, e.Size, &e.SHA256); i < 0 {
		return Set{}
	}
	return leaf.versions[i].holders
}

// Holding returns who has all of these files, as of Held. No files: nobody.
func (v View) Holding(entries iter.Seq[Entry]) Set {
	var all intersection
	for e := range entries {
		if all.meet(v.Held(e)); all.empty() {
			return Set{}
		}
	}
	return all.members.set()
}

// Covers returns who has the current version of all files below a folder that counts
// tells to count, such as those whose content belongs to their name. The prefix ends
// with a slash, or is empty; counts is given paths in no order and not necessarily all.
// If no file counts the answer is nobody.
func (v View) Covers(prefix string, counts func(path string) bool) Set {
	var all intersection
	for f := range v.r.below(prefix) {
		for i := range f.leaves {
			l := &f.leaves[i]
			for j := range l.versions {
				v := &l.versions[j]
				if v.current() && !all.within(v.holders) && counts(f.path+l.name(j)) {
					if all.meet(v.holders); all.empty() {
						return Set{}
					}
				}
			}
		}
	}
	return all.members.set()
}

// Files yields the origin's files below a folder, those of each folder together and
// sorted. The prefix is that of Covers.
func (v View) Files(prefix string) iter.Seq2[string, File] {
	return func(yield func(string, File) bool) {
		for f := range v.r.below(prefix) {
			for i := range f.leaves {
				l := &f.leaves[i]
				for j := range l.versions {
					if l.versions[j].current() && !yield(f.path+l.name(j), l.file(j)) {
						return
					}
				}
			}
		}
	}
}

// Tally is how much the origin has, and how much of it each holder.
type Tally struct {
	Files int
	Bytes int64
	// Held are the files of the origin, in its version, that a holder has.
	Held map[Holder]int
}

// Tally counts the origin's files.
func (v View) Tally() Tally {
	t := Tally{Held: make(map[Holder]int)}
	sets := make(map[Set]int) // they are few
	for f := range v.r.below("") {
		for i := range f.leaves {
			l := &f.leaves[i]
			for j := range l.versions {
				if !l.versions[j].current() {
					continue
				}
				file := l.file(j)
				t.Files++
				t.Bytes += max(file.Size, 0)
				sets[file.Holders]++
			}
		}
	}
	for set, files := range sets {
		for h := range set.All() {
			t.Held[h] += files
		}
	}
	return t
}

// intersection is what sets have in common.
type intersection struct {
	members members
	some    bool // a set has been met
	last    Set  // that was met or found within; most are the same as the one before
}

// within tells whether meeting s would change nothing.
func (x *intersection) within(s Set) bool {
	if !x.some {
		return false
	}
	if s == x.last {
		return true
	}
	b := s.string()
	if len(x.members) > len(b) {
		return false
	}
	for i, m := range x.members {
		if m&^b[i] != 0 {
			return false
		}
	}
	x.last = s
	return true
}

func (x *intersection) meet(s Set) {
	if !x.some {
		x.members, x.some = s.members(), true
	} else if s != x.last {
		x.members.and(s)
	}
	x.last = s
}

func (x *intersection) empty() bool {
	for _, b := range x.members {
		if b != 0 {
			return false
		}
	}
	return x.some
}
