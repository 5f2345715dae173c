package kind

import (
	"path"
	"slices"
	"strings"
)

// meant tells whether a path in a tree of packages speaks of an architecture that is
// wanted, and of debug information, sources and images only if they are. Elements that
// are none of these say nothing.
func (k *Kind) meant(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "debug", "Debug", "debuginfo", "debugsource":
			if !k.config.Debug {
				return false
			}
		case "source", "Source", "sources", "SRPMS", "src", "srpms":
			if !k.config.Source {
				return false
			}
		default:
			if family(part) != "" && !k.arches.has(part) {
				return false
			}
		}
	}
	return k.config.ISO || !isImage(name)
}

// releaseFolder returns the folder in which a path names a release that is wanted. ok is
// false if it names none.
func (k *Kind) releaseFolder(name string) (folder string, ok bool) {
	begin := 0
	for part := range strings.SplitSeq(name, "/") {
		if slices.Contains(k.config.Releases, part) {
			return path.Clean(name[:begin]), true
		}
		begin += len(part) + 1
	}
	return "", false
}

// isImage tells of a name whether it is that of an image of a disk.
func isImage(name string) bool {
	switch path.Ext(name) {
	case ".iso", ".qcow2", ".box", ".vmdk", ".vhd", ".vhdx", ".ova", ".vdi", ".jigdo":
		return true
	case ".xz", ".gz", ".zst", ".bz2", ".zip":
		switch path.Ext(strings.TrimSuffix(name, path.Ext(name))) {
		case ".raw", ".img", ".iso", ".vhd", ".vhdfixed", ".qcow2", ".vmdk":
			return true
		}
	}
	return false
}
