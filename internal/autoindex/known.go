package autoindex

import (
	"hash/maphash"
	"strings"
)

// Sum is that of a listing, by which it is known again: of names and stamps, in their order,
// and of no use with another seed. Two that hold no file are never the same: little is told
// of folders.
func Sum(seed maphash.Seed, entries []Entry) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	hasFile := false
	for i := range entries {
		hasFile = hasFile || !entries[i].Folder
		_, _ = h.WriteString(entries[i].Name)
		_ = h.WriteByte(0)
		_, _ = h.WriteString(entries[i].Stamp)
		_ = h.WriteByte(0)
	}
	if !hasFile {
		return maphash.String(maphash.MakeSeed(), "")
	}
	return h.Sum64()
}

// IsAside reports whether a name is of a folder in which rsync keeps what it copies, or a
// file system copies of itself: nothing in it is of the tree.
func IsAside(name string) bool {
	return strings.HasSuffix(name, ".~tmp~") || name == ".snapshot" || name == ".rsync-partial"
}
