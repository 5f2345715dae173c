package inventory

import (
	"maps"
	"slices"
)

// project is one while it is read.
type project struct {
	name   string
	root   *root
	known  *root     // as it is here; nil: it is new
	base   *root     // what it was made of; nil: of nothing
	own    [256]bool // shards that are not those of base
	folder *folder   // the last
	sets   []Set
	counts []int       // of the versions with this set
	files  int         // of the origin
	lost   map[Set]int // versions of base that were replaced
	most   int         // versions that a file can have
}

// close puts the folder that was read last in its place.
func (p *project) close() {
	f := p.folder
	if len(f.leaves) == 0 {
		return
	}
	if p.known != nil {
		if is := p.known.folder(f.path); is != nil && is.equal(f) {
			f = is // two of the same would be twice the memory
		}
	}
	p.put(f.path, f)
}

// put sets a folder, or removes it with nil.
func (p *project) put(path string, f *folder) {
	i := shardOf(path)
	shard := p.root.shards[i]
	if !p.own[i] {
		p.own[i] = true
		if shard = maps.Clone(shard); shard == nil {
			shard = make(map[string]*folder)
		}
		p.root.shards[i] = shard
	}
	if before := shard[path]; before != nil {
		p.lose(before)
	}
	if f == nil {
		delete(shard, path)
		return
	}
	shard[f.path] = f
}

// lose counts what a folder had.
func (p *project) lose(f *folder) {
	for i := range f.leaves {
		for _, v := range f.leaves[i].versions {
			p.lost[v.holders]++
			if v.current() {
				p.files--
			}
		}
	}
}

// equal tells whether two folders say the same.
func (f *folder) equal(o *folder) bool {
	return f.path == o.path && slices.EqualFunc(f.leaves, o.leaves, func(a, b leaf) bool {
		return a.names == b.names && slices.Equal(a.versions, b.versions) && slices.Equal(a.sums, b.sums)
	})
}
