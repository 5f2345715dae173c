package lists

import (
	"strings"

	"freshet/internal/mirrorlist"
)

// target is what a request is about.
type target struct {
	dir  mirrorlist.Directory
	name string // of dir
	file string // "" for the directory itself
	// slash says that URLs end in a slash, since they are those of a directory.
	slash bool
}

// resolve finds what is asked for, and begins the comment. What is not found as it
// was sent is looked for decoded, unless answers are strict.
func (a *Answer) resolve(d *Data, q *query) (t target, why Reason) {
	if !q.path.given && (!q.repo.given || !q.arch.given) {
		return target{}, MissingParameter
	}
	t, why = a.lookUp(d, q.path, q.repo.value, q.arch.value)
	if why != UnknownPath && why != UnknownRepo || d.opt.Strict {
		return t, why
	}
	path, repo, arch := param{decoded(q.path.value), q.path.given}, decoded(q.repo.value), decoded(q.arch.value)
	if path == q.path && repo == q.repo.value && arch == q.arch.value {
		return t, why
	}
	return a.lookUp(d, path, repo, arch)
}

func (a *Answer) lookUp(d *Data, path param, repo, arch string) (target, Reason) {
	a.comment.Reset()
	if path.given {
		return a.resolvePath(d, path.value)
	}
	return a.resolveRepo(d.Snapshot, repo, arch)
}

// resolvePath finds a directory, or a file in one.
func (a *Answer) resolvePath(d *Data, path string) (t target, why Reason) {
	path = squeeze(path)
	var ok bool
	t.dir, ok = d.Snapshot.Directory(path)
	if plain := squeeze(decoded(path)); !ok && !d.opt.Strict && plain != path {
		if t.dir, ok = d.Snapshot.Directory(plain); ok {
			path = plain
		}
	}
	a.comment.Path(path)
	if ok {
		t.name, t.slash = path, true
		return t, ""
	}
	at := strings.LastIndexByte(path, '/')
	t.name, t.file = path[:max(at, 0)], path[at+1:]
	if t.dir, ok = d.Snapshot.Directory(t.name); !ok {
		return target{}, UnknownPath
	}
	return t, ""
}

// squeeze is a path without slashes at its ends, and without a slash behind a slash.
func squeeze(path string) string {
	path = strings.Trim(path, "/")
	if !strings.Contains(path, "//") {
		return path
	}
	var b strings.Builder
	for i := range len(path) {
		if path[i] != '/' || path[i-1] != '/' {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}

// resolveRepo finds the directory of a repository; for a metalink, that of its
// metadata and in it repomd.xml.
func (a *Answer) resolveRepo(s *mirrorlist.Snapshot, repo, arch string) (t target, why Reason) {
	if strings.Contains(repo, "source") {
		arch = "source"
		a.Arch = arch
	}
	if to, ok := s.Redirect(repo); ok && to != "" {
		repo = to
	}
	a.comment.Repo(repo, arch)
	if s.Disabled(repo) {
		return target{}, RepoDisabled
	}
	name, ok := s.RepositoryDirectory(repo, arch)
	if !ok || name == "" {
		return target{}, UnknownRepo
	}
	t.name, t.slash = name, true
	if a.metalink {
		const metadata = "/repodata"
		if !strings.HasSuffix(name, metadata) {
			t.name += metadata
		}
		t.file, t.slash = "repomd.xml", false
	}
	if t.dir, ok = s.Directory(t.name); !ok {
		return target{}, NoDirectory
	}
	return t, ""
}

// path is what follows the base URLs.
func (t *target) path() string {
	sub := t.dir.Subpath()
	switch {
	case t.file != "" && sub == "":
		return "/" + t.file
	case t.file != "" && strings.HasSuffix(sub, "/"):
		return "/" + sub + t.file
	case t.file != "":
		return "/" + sub + "/" + t.file
	case sub == "" && t.slash:
		return "/"
	case sub == "":
		return ""
	case t.slash:
		return "/" + sub + "/"
	}
	return "/" + sub
}
