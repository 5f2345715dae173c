package versions

import (
	"path"
	"strings"

	"freshet/api/directorapi"
	"freshet/internal/closure"
	"freshet/internal/layout"
)

// area are the names of a repository whose content changes with its versions.
type area struct {
	kind   directorapi.Kind
	entry  string // the pointer, relative to the project, as all paths here
	folder string // "" or ends with a slash; all names are below it
}

func newArea(r directorapi.Repository) area {
	a := area{kind: r.Kind, entry: r.PointerPath()}
	a.folder, _ = path.Split(a.entry)
	if r.Kind == directorapi.KindOSTree {
		a.folder = r.Path
	}
	return a
}

// has tells whether a path below the folder is such a name.
func (a *area) has(name string) bool {
	if name == a.entry {
		return true
	}
	rest := name[len(a.folder):]
	beside := !strings.Contains(rest, "/")
	switch a.kind {
	case directorapi.KindRPM:
		return beside && layout.RPM(name).Mutable()
	case directorapi.KindDeb:
		if strings.Contains("/"+a.folder, "/dists/") {
			return layout.Deb(name).Mutable()
		}
		return beside && flatIndex(rest)
	case directorapi.KindArch:
		base := path.Base(a.entry)
		return beside && ofDatabase(rest, base[:max(strings.LastIndex(base, ".db"), 0)])
	case directorapi.KindOSTree:
		return layout.OSTree(rest).Mutable()
	case directorapi.KindAlpine: // nothing beside it
	}
	return false
}

// flatIndex tells of a name in a flat apt repository whether it is of its metadata.
func flatIndex(base string) bool {
	switch strings.TrimSuffix(base, path.Ext(base)) {
	case "Packages", "Sources", "Contents", "Release", "InRelease":
		return true
	}
	return base == "Packages" || base == "Sources" || base == "Contents" || base == "Release" || base == "InRelease"
}

// ofDatabase tells whether a name is that of a pacman database, or of its list of files:
// "core.db", "core.files.sig", "core.db.tar.gz".
func ofDatabase(base, stem string) bool {
	for _, kind := range [...]string{".db", ".files"} {
		if rest, ok := strings.CutPrefix(base, stem+kind); ok && (rest == "" || rest[0] == '.') {
			return true
		}
	}
	return false
}

// repositoryOf returns how the files of a repository are found, false for a kind that
// has no list of them.
func repositoryOf(r directorapi.Repository) (closure.Repository, bool) {
	c := closure.Repository{Root: r.Path, Pointer: r.Pointer}
	switch r.Kind {
	case directorapi.KindRPM:
		c.Kind = closure.RPM
	case directorapi.KindDeb:
		c.Kind = closure.Deb
	case directorapi.KindArch:
		c.Kind = closure.Arch
	case directorapi.KindAlpine:
		c.Kind = closure.Alpine
	default:
		return c, false
	}
	return c, true
}

// payload tells of a path below a repository whether its content belongs to its name.
func payload(kind directorapi.Kind, folder string) func(name string) bool {
	classify := layout.Tree
	switch kind {
	case directorapi.KindRPM:
		classify = layout.RPM
	case directorapi.KindDeb:
		classify = layout.Deb
	case directorapi.KindArch:
		classify = layout.Arch
	case directorapi.KindAlpine:
		classify = layout.Apk
	case directorapi.KindOSTree:
		return func(name string) bool { return !layout.OSTree(strings.TrimPrefix(name, folder)).Mutable() }
	}
	return func(name string) bool { return !classify(name).Mutable() }
}
