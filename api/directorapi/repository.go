package directorapi

import "path"

// PointerPath is the path of the repository's pointer, relative to the project, with
// the default of its kind: "40/Everything/x86_64/os/repodata/repomd.xml". It is what a
// repository of a project is called wherever one is meant, since several may have the
// same folder. Empty: the kind has no default, and none is told.
func (r Repository) PointerPath() string {
	pointer := r.Pointer
	if pointer == "" {
		switch r.Kind {
		case KindRPM:
			pointer = "repodata/repomd.xml"
		case KindAlpine:
			pointer = "APKINDEX.tar.gz"
		case KindOSTree:
			pointer = "summary"
		default:
			return ""
		}
	}
	return path.Join(r.Path, pointer)
}
