package inventory

import (
	"cmp"
	"maps"
	"slices"
)

// commit makes a new state, in which the update's holder has what it says, and shows it.
// Of a full update the holder has nothing else. The caller holds t.mu.
func (t *Tree) commit(u *update, s Standing, full bool) Change {
	old := t.load()
	e := editor{holder: u.holder, full: full, ignored: u.ignored}
	next := *old
	var fresh [256]bool // shards that are our own
	put := func(path string, was, is *folder) {
		if was == is {
			return
		}
		i := shardOf(path)
		if !fresh[i] {
			fresh[i] = true
			next.shards[i] = maps.Clone(next.shards[i])
		}
		switch {
		case is == nil:
			delete(next.shards[i], path)
		case next.shards[i] == nil:
			next.shards[i] = map[string]*folder{path: is}
		default:
			next.shards[i][is.path] = is
		}
	}
	for path, m := range u.touched {
		f := old.folder(path)
		put(path, f, e.folder(f, m))
	}
	if full {
		for f := range old.all() {
			if u.touched[f.path] == nil {
				put(f.path, f, e.folder(f, &marks{path: f.path, folder: f}))
			}
		}
		s.Files = e.files
	} else {
		s.Files += e.added - e.removed
	}
	if e.added > 0 || e.removed > 0 || fresh != [256]bool{} || s != old.standings[u.holder] {
		t.publish(next.withStanding(u.holder, s))
	}
	return Change{Files: s.Files, Added: e.added, Removed: e.removed, Ignored: e.ignored}
}

// editor makes folders in which a holder has other versions.
type editor struct {
	holder                         Holder
	full                           bool
	files, added, removed, ignored int

	lastWith, lastWithout [2]Set // a set, and what became of it
}

// record is a version while a leaf is made.
type record struct {
	name string
	version
	sum       [32]byte
	had, want bool // by the holder
}

// folder returns f, which may be nil, with what m says: f itself if it says nothing
// new, and nil if nothing is left.
func (e *editor) folder(f *folder, m *marks) *folder {
	if f != m.folder {
		m = m.resolved()
	}
	slices.SortStableFunc(m.others, func(a, b other) int { return cmp.Compare(a.name, b.name) })
	if f == nil {
		leaves := pack(nil, e.merge(nil, m.others))
		if len(leaves) == 0 {
			return nil
		}
		return &folder{path: m.path, leaves: leaves}
	}
	var leaves []leaf // nil until one differs
	others, start := m.others, 0
	for i := range f.leaves {
		l := &f.leaves[i]
		n := len(others)
		if i+1 < len(f.leaves) {
			n, _ = slices.BinarySearchFunc(others, f.leaves[i+1].first, func(o other, name string) int { return cmp.Compare(o.name, name) })
		}
		edited, same := e.leaf(l, others[:n], func(j int) bool { return m.isSeen(start + j) })
		if !same && leaves == nil {
			leaves = slices.Grow(slices.Clone(f.leaves[:i]), len(f.leaves)-i)
		}
		if leaves != nil {
			leaves = append(leaves, edited...)
		}
		others, start = others[n:], start+len(l.versions)
	}
	switch {
	case leaves == nil && (len(f.leaves) > 0):
		return f
	case len(leaves) == 0:
		return nil
	}
	return &folder{path: f.path, leaves: slices.Clip(leaves)}
}

// resolved returns marks that say the same of any state of the folder: what was seen
// as versions is told as files.
func (m *marks) resolved() *marks {
	r := &marks{path: m.path}
	if m.seen != nil {
		start := 0
		for i := range m.folder.leaves {
			l := &m.folder.leaves[i]
			for j := range l.versions {
				if !m.isSeen(start + j) {
					continue
				}
				o := other{name: l.name(j), size: l.versions[j].size, modTime: l.versions[j].modTime}
				if l.sums != nil {
					o.sum = l.sums[j]
				}
				r.others = append(r.others, o)
			}
			start += len(l.versions)
		}
	}
	r.others = append(r.others, m.others...)
	return r
}

// leaf returns the leaves that come in the place of l, or true if it stays.
func (e *editor) leaf(l *leaf, others []other, seen func(i int) bool) ([]leaf, bool) {
	if len(others) > 0 {
		return e.rebuild(l, others, seen)
	}
	var versions []version // nil until one differs
	files, added, removed := 0, 0, 0
	for i := range l.versions {
		v := &l.versions[i]
		had := e.has(v)
		want := had
		if e.full {
			want = seen(i)
		}
		if want {
			files++
		}
		if had == want {
			continue
		}
		if e.holder == Origin {
			return e.rebuild(l, nil, seen)
		}
		if versions == nil {
			versions = slices.Clone(l.versions)
		}
		n := &versions[i]
		if want {
			n.holders = e.with(n.holders)
			added++
			continue
		}
		n.holders = e.without(n.holders)
		removed++
		if n.holders == (Set{}) && !n.current() {
			return e.rebuild(l, nil, seen)
		}
	}
	e.files, e.added, e.removed = e.files+files, e.added+added, e.removed+removed
	if versions == nil {
		return []leaf{*l}, true
	}
	return []leaf{{first: l.first, names: l.names, prints: l.prints, versions: versions, sums: l.sums}}, false
}

// rebuild makes new leaves of what is in l and in others.
func (e *editor) rebuild(l *leaf, others []other, seen func(i int) bool) ([]leaf, bool) {
	records := make([]record, len(l.versions), len(l.versions)+len(others))
	for i := range l.versions {
		r := &records[i]
		*r = record{name: l.name(i), version: l.versions[i]}
		if l.sums != nil {
			r.sum = l.sums[i]
		}
		r.had = e.has(&r.version)
		r.want = r.had
		if e.full {
			r.want = seen(i)
		}
	}
	before := e.added + e.removed
	records = e.merge(records, others)
	if e.holder != Origin && before == e.added+e.removed {
		return []leaf{*l}, true
	}
	return pack(nil, records), false
}

// merge brings together what is there and what the holder says besides. Both are
// sorted by name. Of a file that it tells of twice, the last counts.
func (e *editor) merge(records []record, others []other) []record {
	merged := make([]record, 0, len(records)+len(others))
	for len(records) > 0 || len(others) > 0 {
		var name string
		if len(others) == 0 || len(records) > 0 && records[0].name <= others[0].name {
			name = records[0].name
		} else {
			name = others[0].name
		}
		start := len(merged)
		for ; len(records) > 0 && records[0].name == name; records = records[1:] {
			merged = append(merged, records[0])
		}
		for ; len(others) > 0 && others[0].name == name; others = others[1:] {
			merged = e.apply(merged, start, &others[0])
		}
		merged = e.settle(merged, start)
	}
	return merged
}

// apply notes what the holder says of the file whose versions are merged[start:].
func (e *editor) apply(merged []record, start int, o *other) []record {
	group := merged[start:]
	for i := range group {
		group[i].want = false
	}
	if o.gone {
		return merged
	}
	at := slices.IndexFunc(group, func(r record) bool { return r.size == o.size && agree(&r.sum, &o.sum) })
	if at < 0 {
		return append(merged, record{name: o.name, version: version{size: o.size, modTime: o.modTime}, sum: o.sum, want: true})
	}
	r := &group[at]
	r.want = true
	if e.holder == Origin {
		// What mirrors say of a hash is not believed. What the origin said once of a
		// file that it has not touched since is.
		if o.sum != [32]byte{} || !r.current() || r.modTime != o.modTime {
			r.sum = o.sum
		}
		r.modTime = o.modTime
	}
	return merged
}

// settle decides on the versions merged[start:] of a file.
func (e *editor) settle(merged []record, start int) []record {
	kept := merged[:start]
	for _, r := range merged[start:] {
		if r.want {
			e.files++
		}
		switch {
		case r.want && !r.had:
			e.added++
			if e.holder == Origin {
				r.flags |= flagCurrent
			} else {
				r.holders = e.with(r.holders)
			}
		case !r.want && r.had:
			e.removed++
			if e.holder == Origin {
				r.flags &^= flagCurrent
			} else {
				r.holders = e.without(r.holders)
			}
		}
		if r.current() || r.holders != (Set{}) {
			kept = append(kept, r)
		}
	}
	slices.SortStableFunc(kept[start:], func(a, b record) int { return cmp.Compare(b.flags&flagCurrent, a.flags&flagCurrent) })
	return kept
}

// pack appends leaves with these records, evenly filled.
func pack(leaves []leaf, records []record) []leaf {
	for n := (len(records) + leafSize - 1) / leafSize; len(records) > 0; n-- {
		end := len(records)
		if n > 1 {
			end = max(1, len(records)/n)
		}
		for end < len(records) && records[end].name == records[end-1].name {
			end++
		}
		leaves = append(leaves, newLeaf(records[:end]))
		records = records[end:]
	}
	return leaves
}

func newLeaf(records []record) leaf {
	var l leaf
	size, hashed := 0, false
	for i := range records {
		if i == 0 || records[i].name != records[i-1].name {
			size += len(records[i].name)
		}
		hashed = hashed || records[i].sum != [32]byte{}
	}
	names, prints := make([]byte, 0, size), make([]byte, len(records))
	l.versions = make([]version, len(records))
	if hashed {
		l.sums = make([][32]byte, len(records))
	}
	for i, r := range records {
		v := &l.versions[i]
		*v = r.version
		v.flags &^= flagAgain
		if i > 0 && r.name == records[i-1].name {
			v.flags |= flagAgain
		} else {
			names = append(names, r.name...)
		}
		v.end = uint16(len(names))
		prints[i] = printOf(r.name)
		if hashed {
			l.sums[i] = r.sum
		}
	}
	l.names, l.prints = string(names), string(prints)
	l.first = l.names[:l.versions[0].end]
	return l
}

func (e *editor) has(v *version) bool {
	if e.holder == Origin {
		return v.current()
	}
	return v.holders.Has(e.holder)
}

// with and without remember the last set, since neighbours have mostly the same.

func (e *editor) with(s Set) Set {
	if e.lastWith[0] != s || e.lastWith[1] == (Set{}) {
		e.lastWith = [2]Set{s, s.With(e.holder)}
	}
	return e.lastWith[1]
}

func (e *editor) without(s Set) Set {
	if e.lastWithout[0] != s {
		e.lastWithout = [2]Set{s, s.Without(e.holder)}
	}
	return e.lastWithout[1]
}
