package ostree

import (
	"fmt"
	"sort"

	"freshet/internal/gvariant"
)

const dirTreeType = "(a(say)a(sayay))"

// DirTree is the content of a directory. Both lists are sorted by name, byte
// by byte, and no name comes twice in the whole directory.
type DirTree struct {
	Files []TreeFile
	Dirs  []TreeDir
}

// TreeFile is a file or symlink in a directory.
type TreeFile struct {
	Name string
	File Checksum
}

// TreeDir is a directory in a directory.
type TreeDir struct {
	Name string
	Tree Checksum // its dirtree
	Meta Checksum // its dirmeta
}

// ValidateFileName tells what is wrong with the name of a directory entry.
func ValidateFileName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 {
		return fmt.Errorf("%w: file name %.100q", ErrName, name)
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return fmt.Errorf("%w: file name %.100q", ErrName, name)
		}
	}
	return nil
}

// ParseDirTree reads a dirtree object, and demands what [DirTree.Validate]
// does.
func ParseDirTree(data []byte) (*DirTree, error) {
	d, err := parseDirTree(data)
	if err != nil {
		return nil, fmt.Errorf("parse dirtree: %w", err)
	}
	return d, nil
}

func parseDirTree(data []byte) (*DirTree, error) {
	v, err := parseVariant(dirTreeType, data)
	if err != nil {
		return nil, err
	}
	files, dirs := v.Child(0), v.Child(1)
	d := &DirTree{}
	if n := files.Len(); n > 0 {
		d.Files = make([]TreeFile, 0, n)
	}
	if n := dirs.Len(); n > 0 {
		d.Dirs = make([]TreeDir, 0, n)
	}
	for e := range files.Children() {
		f := TreeFile{Name: e.Child(0).Str()}
		if f.File, err = ChecksumFromBytes(e.Child(1).Bytes()); err != nil {
			return nil, fmt.Errorf("file %.100q: %w", f.Name, err)
		}
		d.Files = append(d.Files, f)
	}
	for e := range dirs.Children() {
		s := TreeDir{Name: e.Child(0).Str()}
		if s.Tree, err = ChecksumFromBytes(e.Child(1).Bytes()); err != nil {
			return nil, fmt.Errorf("directory %.100q: %w", s.Name, err)
		}
		if s.Meta, err = ChecksumFromBytes(e.Child(2).Bytes()); err != nil {
			return nil, fmt.Errorf("metadata of directory %.100q: %w", s.Name, err)
		}
		d.Dirs = append(d.Dirs, s)
	}
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return d, nil
}

// Validate demands canonical form: names that are valid, sorted and unique.
func (d *DirTree) Validate() error {
	for i, f := range d.Files {
		if err := ValidateFileName(f.Name); err != nil {
			return err
		}
		if i > 0 && d.Files[i-1].Name >= f.Name {
			return fmt.Errorf("files %.100q and %.100q are not in order", d.Files[i-1].Name, f.Name)
		}
	}
	f := 0
	for i, s := range d.Dirs {
		if err := ValidateFileName(s.Name); err != nil {
			return err
		}
		if i > 0 && d.Dirs[i-1].Name >= s.Name {
			return fmt.Errorf("directories %.100q and %.100q are not in order", d.Dirs[i-1].Name, s.Name)
		}
		for f < len(d.Files) && d.Files[f].Name < s.Name {
			f++
		}
		if f < len(d.Files) && d.Files[f].Name == s.Name {
			return fmt.Errorf("%.100q is both a file and a directory", s.Name)
		}
	}
	return nil
}

// Encode returns the bytes of the object; [ChecksumOf] them is its name. The
// lists must be in canonical form.
func (d *DirTree) Encode() []byte {
	files := gvariant.ArrayBuilder{Elem: "(say)"}
	names := 0
	for _, f := range d.Files {
		names += len(f.Name)
	}
	files.Grow(len(d.Files), names+len(d.Files)*(len(Checksum{})+2+4))
	for _, f := range d.Files {
		files.AppendTuple(gvariant.String(f.Name), gvariant.Bytes(f.File[:]))
	}
	dirs := gvariant.ArrayBuilder{Elem: "(sayay)"}
	for _, s := range d.Dirs {
		dirs.AppendTuple(gvariant.String(s.Name), gvariant.Bytes(s.Tree[:]), gvariant.Bytes(s.Meta[:]))
	}
	return gvariant.Tuple(files.Value(), dirs.Value()).Data()
}

// File returns the file or symlink of this name.
func (d *DirTree) File(name string) (TreeFile, bool) {
	i := sort.Search(len(d.Files), func(i int) bool { return d.Files[i].Name >= name })
	if i == len(d.Files) || d.Files[i].Name != name {
		return TreeFile{}, false
	}
	return d.Files[i], true
}

// Dir returns the directory of this name.
func (d *DirTree) Dir(name string) (TreeDir, bool) {
	i := sort.Search(len(d.Dirs), func(i int) bool { return d.Dirs[i].Name >= name })
	if i == len(d.Dirs) || d.Dirs[i].Name != name {
		return TreeDir{}, false
	}
	return d.Dirs[i], true
}
