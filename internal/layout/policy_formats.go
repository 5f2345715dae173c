package layout

import (
	"slices"
	"strings"
)

func ostreePolicy(s split) (Policy, bool) {
	switch s.base {
	case "summary", "summary.sig":
		return pointer(EcoOSTree, minute, Set{"summary", s.dir}), true
	case "summary.idx", "summary.idx.sig":
		return pointer(EcoOSTree, minute, Set{"summary-index", s.dir}), true
	case "config":
		return Policy{Ecosystem: EcoOSTree, Class: Pointer, Fresh: hour, Revalidate: minute, OnError: day}, true
	}
	if s.parent == "summaries" {
		return summariesPolicy(s.base)
	}
	if len(s.parent) == 2 {
		up, _ := lastElem(s.dir[:len(s.dir)-3])
		switch up {
		case "objects":
			return objectPolicy(s.parent, s.base)
		case "delta-indexes":
			return Policy{Ecosystem: EcoOSTree, Class: Pointer, Fresh: minute, Revalidate: minute, OnError: day}, true
		}
	}
	if s.base == "superblock" || isDigits(s.base) {
		// deltas/XX/REST-OF-COMMIT/superblock
		_, rest := lastElem(s.dir)
		two, rest := lastElem(rest)
		if elem, _ := lastElem(rest); elem == "deltas" && len(two) == 2 {
			// Addressed by the commits they join, but they can be made anew
			// with other bytes.
			return byCustom(EcoOSTree, 30*day), true
		}
	}
	if strings.HasSuffix(s.base, ".flatpakrepo") || strings.HasSuffix(s.base, ".flatpakref") {
		return Policy{Ecosystem: EcoOSTree, Class: Pointer, Fresh: minute, Revalidate: minute, OnError: day}, true
	}
	if root, ok := s.below("refs"); ok {
		rest := s.path[len(root):]
		if strings.HasPrefix(rest, "heads/") || strings.HasPrefix(rest, "remotes/") || strings.HasPrefix(rest, "mirrors/") {
			return Policy{Ecosystem: EcoOSTree, Class: Pointer, Fresh: minute, Revalidate: minute, OnError: day}, true
		}
	}
	return Policy{}, false
}

// objectPolicy is for objects/XX/REST.EXT.
func objectPolicy(two, base string) (Policy, bool) {
	hex, ext, ok := strings.Cut(base, ".")
	if !ok || len(hex) != 62 || !isHex(hex) || !isHex(two) {
		return Policy{}, false
	}
	switch ext {
	case "commit", "dirtree", "dirmeta":
		return addressed(EcoOSTree, Payload, Digest{SHA256, two, hex}), true
	case "filez":
		// The digest is of the uncompressed file and its attributes.
		p := addressed(EcoOSTree, Payload, Digest{})
		p.Content = Digest{SHA256, two, hex}
		return p, true
	case "commitmeta":
		return Policy{
			Ecosystem: EcoOSTree, Class: Pointer, Fresh: 5 * minute,
			Revalidate: minute, OnError: day, Negative: minute,
		}, true
	case "sig", "sizes2":
		// Old clients probe for these, no repository of today has them.
		return Policy{Ecosystem: EcoOSTree, Class: Pointer, Fresh: 5 * minute, OnError: day, Negative: 5 * minute}, true
	}
	return Policy{}, false
}

// summariesPolicy is for summaries/SHA.gz, SHA-SHA.delta and SHA.idx.sig.
func summariesPolicy(base string) (Policy, bool) {
	if len(base) < 65 || !isHex(base[:64]) {
		return Policy{}, false
	}
	var d Digest
	if base[64:] == ".gz" {
		d = Digest{SHA256Gunzip, "", base[:64]}
	}
	return addressed(EcoOSTree, Index, d), true
}

func rpmPolicy(s split) (Policy, bool) {
	if s.parent == "repodata" {
		_, root := lastElem(s.dir)
		set := Set{"repomd", root}
		switch s.base {
		case "repomd.xml", "repomd.xml.asc", "repomd.xml.key":
			return pointer(EcoRPM, 2*minute, set), true
		}
		if hex, _, ok := strings.Cut(s.base, "-"); ok && isHex(hex) {
			switch len(hex) {
			case 64:
				return addressed(EcoRPM, Index, Digest{SHA256, "", hex}), true
			case 128:
				return addressed(EcoRPM, Index, Digest{SHA512, "", hex}), true
			case 32, 40, 56, 96:
				return addressed(EcoRPM, Index, Digest{}), true
			}
		}
		p := pointer(EcoRPM, 2*minute, set)
		p.Class = Index
		return p, true
	}
	switch {
	case strings.HasSuffix(s.base, ".rpm"), strings.HasSuffix(s.base, ".drpm"):
		return byCustom(EcoRPM, 7*day), true
	case s.base == "metalink", s.base == "mirrorlist", strings.HasPrefix(s.base, "mirrorlist."):
		return Policy{Ecosystem: EcoRPM, Class: Pointer, Pass: true}, true
	}
	return Policy{}, false
}

func aptPolicy(s split) (Policy, bool) {
	set := Set{"release", s.dir}
	root, inDists := s.below("dists")
	if inDists {
		// The suite may have several elements, but then the first serves:
		// a set too large only asks the origin once more.
		suite, _, deeper := strings.Cut(s.path[len(root):], "/")
		if !deeper {
			return Policy{}, false
		}
		set.Root = s.path[:len(root)+len(suite)+1]
	}
	switch s.base {
	case "InRelease", "Release", "Release.gpg":
		return pointer(EcoApt, minute, set), true
	}
	if strings.HasSuffix(s.base, ".deb") || strings.HasSuffix(s.base, ".udeb") || strings.HasSuffix(s.base, ".dsc") {
		return byCustom(EcoApt, 30*day), true
	}
	if !inDists {
		if _, ok := s.below("pool"); ok {
			return byCustom(EcoApt, 30*day), true
		}
		return Policy{}, false
	}
	if _, up := lastElem(s.dir); isHex(s.base) {
		if elem, _ := lastElem(up); elem == "by-hash" {
			var d Digest
			switch {
			case s.parent == "SHA256" && len(s.base) == 64:
				d = Digest{SHA256, "", s.base}
			case s.parent == "SHA512" && len(s.base) == 128:
				d = Digest{SHA512, "", s.base}
			}
			return addressed(EcoApt, Index, d), true
		}
	}
	p := pointer(EcoApt, minute, set)
	p.Class = Index
	return p, true
}

func pacmanPolicy(s split) (Policy, bool) {
	name, isSig := strings.CutSuffix(s.base, ".sig")
	for _, kind := range [...]string{".db", ".files"} {
		i := strings.Index(name, kind)
		if i <= 0 {
			continue
		}
		if rest := name[i+len(kind):]; rest != "" && !strings.HasPrefix(rest, ".tar.") {
			continue
		}
		p := pointer(EcoPacman, minute, Set{"pacman", s.path[:len(s.dir)+i+len(kind)]})
		if isSig {
			p.Negative = 5 * minute
		}
		return p, true
	}
	if strings.Contains(name, ".pkg.tar.") {
		p := byCustom(EcoPacman, 7*day)
		if isSig {
			p.Negative = 5 * minute
		}
		return p, true
	}
	return Policy{}, false
}

func apkPolicy(s split) (Policy, bool) {
	switch {
	case s.base == "APKINDEX.tar.gz":
		return pointer(EcoApk, minute, Set{"apkindex", s.dir}), true
	case strings.HasSuffix(s.base, ".apk"):
		return byCustom(EcoApk, 7*day), true
	}
	return Policy{}, false
}

// commonPolicy is for what mirrors of every format carry.
func commonPolicy(s split) (Policy, bool) {
	switch {
	case s.base == "lastsync", s.base == "lastupdate",
		s.parent == "trace" && strings.HasSuffix(s.dir, "/project/trace/"):
		return Policy{Ecosystem: EcoMedia, Class: Pointer, Fresh: 30 * second, OnError: hour}, true
	}
	// Images of an installer tree (images/pxeboot/initrd.img, boot.iso) are made
	// anew under their names with each compose: HTTP decides about them.
	if s.base == "boot.iso" || s.base == "netinst.iso" || strings.Contains(s.dir, "/images/") {
		return Policy{}, false
	}
	for _, ext := range [...]string{".iso", ".img.xz", ".qcow2", ".raw.xz"} {
		if !strings.HasSuffix(s.base, ext) {
			continue
		}
		if movingImage(s.path) {
			return Policy{Ecosystem: EcoMedia, Class: Pointer, Fresh: minute, Revalidate: minute, OnError: day}, true
		}
		return byCustom(EcoMedia, 30*day), true
	}
	return Policy{}, false
}

// movingImage reports whether an image is replaced under its name: it, or a folder that it
// is in, is called after what is newest. Others have a version in their names.
func movingImage(path string) bool {
	words := strings.FieldsFunc(strings.ToLower(path), func(r rune) bool { return strings.ContainsRune("/-_.", r) })
	return slices.ContainsFunc(words, func(word string) bool {
		switch word {
		case "current", "latest", "newest", "daily", "weekly", "nightly", "testing", "unstable":
			return true
		}
		return false
	})
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) > 0
}
