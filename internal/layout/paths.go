package layout

import (
	"path"
	"strings"
)

// The functions below take a slash-separated path relative to the root of the
// repository, without "." or ".." elements, and need no other knowledge. For a
// path that the ecosystem does not define they answer a plain [Index], the
// class with the fewest promises.

// OSTree classifies a path of an OSTree repository in archive mode, with the
// additions of Flatpak (summary.idx, summaries/, *.flatpakref).
func OSTree(p string) Kind {
	top, rest, _ := strings.Cut(p, "/")
	switch top {
	case "objects":
		switch path.Ext(rest) {
		case ".commit", ".dirtree", ".dirmeta":
			return Kind{Class: Payload, Addressed: true}
		case ".filez":
			// The name is the checksum of the content before compression.
			return Kind{Class: Payload}
		}
		// .commitmeta carries signatures, and a commit may be signed again.
		return Kind{Class: Index}
	case "deltas":
		return Kind{Class: Payload}
	case "summaries":
		return Kind{Class: Index, Addressed: true}
	case "summary", "summary.sig", "summary.idx", "summary.idx.sig", "refs":
		return Kind{Class: Pointer}
	}
	return Kind{Class: Index}
}

// RPM classifies a path of a tree with rpm-md metadata. The tree may hold
// several repositories at any depth.
func RPM(p string) Kind {
	dir, base := path.Split(p)
	if dir == "repodata/" || strings.HasSuffix(dir, "/repodata/") {
		switch base {
		case "repomd.xml", "repomd.xml.asc", "repomd.xml.key":
			return Kind{Class: Pointer}
		}
		return Kind{Class: Index, Addressed: hasHashPrefix(base)}
	}
	switch path.Ext(base) {
	case ".rpm", ".drpm":
		return Kind{Class: Payload}
	}
	return Kind{Class: Index}
}

// Deb classifies a path of an apt repository.
func Deb(p string) Kind {
	dir, base := path.Split(p)
	switch {
	case strings.HasPrefix(p, "pool/") || strings.Contains(p, "/pool/"):
		return Kind{Class: Payload}
	case strings.Contains(dir, "/by-hash/"):
		return Kind{Class: Index, Addressed: isHash(base)}
	}
	switch base {
	case "InRelease", "Release", "Release.gpg":
		return Kind{Class: Pointer}
	}
	switch path.Ext(base) {
	case ".deb", ".udeb", ".ddeb", ".dsc":
		return Kind{Class: Payload}
	}
	return Kind{Class: Index}
}

// Arch classifies a path of a pacman repository.
func Arch(p string) Kind {
	base := strings.TrimSuffix(strings.TrimSuffix(path.Base(p), ".sig"), ".old")
	if strings.Contains(base, ".pkg.tar") {
		return Kind{Class: Payload}
	}
	stem, kind := cutLast(strings.TrimSuffix(base, compression(base)), ".")
	if kind == "tar" {
		_, kind = cutLast(stem, ".")
	}
	if kind == "db" || kind == "files" {
		return Kind{Class: Pointer}
	}
	return Kind{Class: Index}
}

// Apk classifies a path of an apk repository.
func Apk(p string) Kind {
	switch base := path.Base(p); {
	case base == "APKINDEX.tar.gz":
		return Kind{Class: Pointer}
	case path.Ext(base) == ".apk":
		return Kind{Class: Payload}
	}
	return Kind{Class: Index}
}

// Tree classifies a path of a tree whose ecosystem is not told: the answer is
// that of the ecosystem which knows the path.
func Tree(p string) Kind {
	for _, classify := range [...]func(string) Kind{RPM, Deb, Arch, Apk} {
		if k := classify(p); k != (Kind{Class: Index}) {
			return k
		}
	}
	return Kind{Class: Index}
}

// hasHashPrefix reports whether base is of createrepo's form "<hash>-name".
func hasHashPrefix(base string) bool {
	hash, _, ok := strings.Cut(base, "-")
	return ok && isHash(hash)
}

// isHash reports whether s looks like a hex checksum: MD5, SHA-1, SHA-224,
// SHA-256, SHA-384 or SHA-512.
func isHash(s string) bool {
	switch len(s) {
	case 32, 40, 56, 64, 96, 128:
	default:
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

func compression(base string) string {
	switch ext := path.Ext(base); ext {
	case ".gz", ".xz", ".zst", ".bz2", ".lz4":
		return ext
	}
	return ""
}

// cutLast parts s at the last sep; without one, after is empty.
func cutLast(s, sep string) (before, after string) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):]
	}
	return s, ""
}
