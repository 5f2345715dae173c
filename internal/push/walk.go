package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"freshet/api/hubapi"
)

// localFile is a file or a symbolic link of the directory being pushed.
type localFile struct {
	path string // relative, slash separated
	link string // target, if it is a link
	stat fileStat
	hash string // SHA-256 in hex, "" as long as it is not known
}

// fileStat is what must be equal for a file to count as unchanged.
type fileStat struct {
	Size  int64  `json:"s"`
	MTime int64  `json:"m"` // nanoseconds since 1970
	CTime int64  `json:"c"` // likewise; 0 where the system has none
	Inode uint64 `json:"i"`
}

func statOf(info fs.FileInfo) fileStat {
	s := fileStat{Size: info.Size(), MTime: info.ModTime().UnixNano()}
	s.Inode, s.CTime = inodeOf(info)
	return s
}

func (f *localFile) treeFile() hubapi.TreeFile {
	t := hubapi.TreeFile{Path: f.path, ModTime: time.Unix(0, f.stat.MTime).Unix(), Link: f.link}
	if f.link == "" {
		t.Size, t.SHA256 = f.stat.Size, f.hash
	}
	return t
}

// maxProblems bounds the list of files that cannot be pushed.
const maxProblems = 20

// walk lists the directory's files and links, sorted by path. Empty folders are
// not part of a tree. What a tree cannot hold is an error that names it.
func walk(ctx context.Context, root *os.Root) ([]*localFile, error) {
	var files []*localFile
	var problems []error
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f := &localFile{path: name, stat: statOf(info)}
		if err := f.check(root, info); err != nil {
			if problems = append(problems, err); len(problems) == maxProblems {
				return fs.SkipAll
			}
			return nil
		}
		files = append(files, f)
		return nil
	})
	if err := errors.Join(append(problems, err)...); err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b *localFile) int { return strings.Compare(a.path, b.path) })
	return files, nil
}

// check refuses what a tree cannot hold, and reads the target of a link.
func (f *localFile) check(root *os.Root, info fs.FileInfo) error {
	if !utf8.ValidString(f.path) || strings.ContainsFunc(f.path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%q: a name must be UTF-8 without control characters", f.path)
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode&fs.ModeSymlink != 0:
		target, err := root.Readlink(f.path)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if !staysInside(f.path, target) {
			return fmt.Errorf("%s: the symbolic link leads outside of the tree: %q", f.path, target)
		}
		f.link = target
		return nil
	default:
		return fmt.Errorf("%s: neither a file nor a symbolic link (%s)", f.path, mode.Type())
	}
}

// staysInside tells whether a link at the path leads to a place inside the
// tree, whatever other links it passes: it is relative, climbs only at its
// begin, and not above the root.
func staysInside(at, target string) bool {
	if target == "" || path.IsAbs(target) || !utf8.ValidString(target) {
		return false
	}
	depth := strings.Count(path.Clean(at), "/")
	descended := false
	for elem := range strings.SplitSeq(target, "/") {
		switch elem {
		case "", ".":
		case "..":
			if depth--; descended || depth < 0 {
				return false
			}
		default:
			descended = true
		}
	}
	return true
}
