package tree

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"freshet/api/hubapi"
)

// Limits of a manifest.
const (
	// MaxFiles is the most files of a tree.
	MaxFiles = 5_000_000
	maxPath  = 2048 // bytes; Linux allows 4095 with the folders above
	maxName  = 255  // bytes of an element; the limit of Linux file systems
	maxTime  = 253402300799
)

// manifest is the list of files of a generation, or of a push: the files
// generations/<n>.json and pushes/<id>.json.
type manifest struct {
	Version    int               `json:"version"`
	Tree       string            `json:"tree"`
	Push       string            `json:"push"`
	Generation int64             `json:"generation,omitempty"`
	Created    hubapi.Timestamp  `json:"created"`
	Files      []hubapi.TreeFile `json:"files"`
}

func (m *manifest) bytes() (sum int64) {
	for i := range m.Files {
		sum += m.Files[i].Size
	}
	return sum
}

// write writes the manifest with a line for each file.
func (m *manifest) write(w io.Writer) error {
	head := *m
	head.Files = []hubapi.TreeFile{}
	data, err := json.Marshal(head)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 64<<10)
	_, _ = b.Write(data[:len(data)-len("]}")]) // errors stay until Flush
	for i := range m.Files {
		line, err := json.Marshal(&m.Files[i])
		if err != nil {
			return err
		}
		if i > 0 {
			_ = b.WriteByte(',')
		}
		_ = b.WriteByte('\n')
		_, _ = b.Write(line)
	}
	_, _ = b.WriteString("\n]}\n")
	return b.Flush()
}

func (t *Trees) writeManifest(name string, m *manifest) error {
	return t.dir.Write(name, 0o644, m.write)
}

func (t *Trees) readManifest(name string) (*manifest, error) {
	m := new(manifest)
	if err := t.readJSON(name, m, &m.Version); err != nil {
		return nil, err
	}
	return m, nil
}

// checkFiles checks a list of files that comes from outside, and returns it
// sorted by path. Errors are [ErrRefused] and name the path.
func checkFiles(files []hubapi.TreeFile) ([]hubapi.TreeFile, error) {
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: the tree has no files", ErrRefused)
	}
	if len(files) > MaxFiles {
		return nil, fmt.Errorf("%w: the tree has %d files, more than %d", ErrRefused, len(files), MaxFiles)
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b hubapi.TreeFile) int { return cmp.Compare(a.Path, b.Path) })
	paths := make(map[string]struct{}, len(files))
	sizes := make(map[string]int64, len(files))
	for i := range files {
		f := &files[i]
		if err := checkFile(f); err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrRefused, f.Path, err)
		}
		if _, ok := paths[f.Path]; ok {
			return nil, fmt.Errorf("%w: %q is listed twice", ErrRefused, f.Path)
		}
		paths[f.Path] = struct{}{}
		if f.Link != "" {
			continue
		}
		if size, ok := sizes[f.SHA256]; ok && size != f.Size {
			return nil, fmt.Errorf("%w: %q: the content %s is said to have %d bytes, and %d elsewhere", ErrRefused, f.Path, f.SHA256, f.Size, size)
		}
		sizes[f.SHA256] = f.Size
	}
	checked := "." // the folder last found to be one
	for i := range files {
		dir := path.Dir(files[i].Path)
		if dir == checked {
			continue
		}
		for parent := dir; parent != "."; parent = path.Dir(parent) {
			if _, ok := paths[parent]; ok {
				return nil, fmt.Errorf("%w: %q is a file and, for %q, a folder", ErrRefused, parent, files[i].Path)
			}
		}
		checked = dir
	}
	return files, nil
}

func checkFile(f *hubapi.TreeFile) error {
	if !fs.ValidPath(f.Path) || f.Path == "." {
		return fmt.Errorf("the path is not relative and clean")
	}
	if err := checkText(f.Path); err != nil {
		return fmt.Errorf("the path %w", err)
	}
	if f.ModTime < 0 || f.ModTime > maxTime {
		return fmt.Errorf("the time %d is out of range", f.ModTime)
	}
	if f.Link != "" {
		return checkLink(f)
	}
	switch {
	case f.Size < 0:
		return fmt.Errorf("the size %d is negative", f.Size)
	case !isSHA256(f.SHA256):
		return fmt.Errorf("%.70q is no SHA-256 in lower-case hex", f.SHA256)
	}
	return nil
}

// checkLink makes sure that the link cannot lead out of the tree. Its folder is
// a real one, because no file is also a folder; and ".." stands only at the
// beginning, before another link can change what it means.
func checkLink(f *hubapi.TreeFile) error {
	if f.Size != 0 || f.SHA256 != "" {
		return fmt.Errorf("a symbolic link has no size and no SHA-256")
	}
	if err := checkText(f.Link); err != nil {
		return fmt.Errorf("the link's target %w", err)
	}
	if path.IsAbs(f.Link) || path.Clean(f.Link) != f.Link {
		return fmt.Errorf("the link's target %q is not relative and clean", f.Link)
	}
	if target := path.Join(path.Dir(f.Path), f.Link); target == ".." || strings.HasPrefix(target, "../") {
		return fmt.Errorf("the link's target %q is outside the tree", f.Link)
	}
	return nil
}

func checkText(s string) error {
	if len(s) > maxPath {
		return fmt.Errorf("has %d bytes, more than %d", len(s), maxPath)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("is not UTF-8")
	}
	for element := range strings.SplitSeq(s, "/") {
		if len(element) > maxName {
			return fmt.Errorf("has an element of %d bytes, more than %d", len(element), maxName)
		}
	}
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return fmt.Errorf("has a control character at byte %d", i)
	}
	return nil
}

func isSHA256(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
