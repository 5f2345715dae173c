package apt

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strconv"
	"strings"
)

// Limits of an index. The longest lines are those of fields that are not read,
// and may have any length.
const (
	maxLine        = 64 << 10 // bytes of a line that is read
	maxSourceFiles = 10_000   // of one source package
	maxArchivePath = 4096     // bytes
)

// IndexEntry is a file that an index of packages leads to.
type IndexEntry struct {
	// Path is relative to the root of the archive (in a flat repository, to
	// what its URL in sources.list names), clean, and stays inside it. It is as
	// written: tools differ on whether a "%3a" in it stands for itself.
	Path string
	// Size in bytes, or -1 if it is not told.
	Size int64
	// SHA256 is in lower-case hex, empty if not given.
	SHA256 string
}

// Packages reads a Packages index and yields the package of each stanza that
// names one, in order. It reads as it goes, so that the index may be of any
// size and the memory stays the same. After an error, which is the last thing
// it yields, nothing more is read.
func Packages(r io.Reader) iter.Seq2[IndexEntry, error] {
	return index("Packages", r, func() stanza { return &binary{} })
}

// Sources is [Packages] for a Sources index: it yields every file of each
// source package.
func Sources(r io.Reader) iter.Seq2[IndexEntry, error] {
	return index("Sources", r, func() stanza { return &source{} })
}

// stanza gathers what is wanted of a paragraph of fields.
type stanza interface {
	// field takes a field's first line. It says whether the field is wanted.
	// The value is valid during the call.
	field(name, value []byte) (bool, error)
	// more takes a further line of the field that was wanted last.
	more(line []byte) error
	// entries ends the stanza, and makes it ready for the next.
	entries() ([]IndexEntry, error)
}

func index(name string, r io.Reader, begin func() stanza) iter.Seq2[IndexEntry, error] {
	return func(yield func(IndexEntry, error) bool) {
		x := indexReader{r: bufio.NewReaderSize(r, maxLine), stanza: begin()}
		for !x.ended {
			entries, err := x.next()
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
			if err == nil {
				continue
			}
			if err = fmt.Errorf("%s: line %d: %w", name, x.line, err); !x.failed {
				err = fmt.Errorf("%w: %w", ErrMalformed, err)
			}
			yield(IndexEntry{}, err)
			return
		}
	}
}

type indexReader struct {
	r      *bufio.Reader
	stanza stanza
	line   int
	ended  bool
	failed bool // the error is that of r
}

// next returns the entries of the next stanza.
func (x *indexReader) next() ([]IndexEntry, error) {
	begun, wanted := false, false
	for {
		line, long, err := x.readLine()
		if err != nil {
			return nil, err
		}
		text := bytes.TrimRight(line, " \t\r\n")
		switch {
		case x.ended:
			return x.stanza.entries()
		case len(text) == 0 && !long:
			if begun {
				return x.stanza.entries()
			}
			continue
		case line[0] == '#':
			continue
		case line[0] == ' ' || line[0] == '\t':
			if !begun {
				return nil, errors.New("continuation of nothing")
			}
			if wanted && !long {
				err = x.stanza.more(text)
			}
		default:
			begun = true
			wanted, err = x.field(text, long)
		}
		if wanted && long {
			err = fmt.Errorf("longer than %d bytes", maxLine)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (x *indexReader) field(text []byte, long bool) (wanted bool, err error) {
	name, value, ok := bytes.Cut(text, []byte(":"))
	letter := len(name) > 0 && (name[0]|0x20 >= 'a' && name[0]|0x20 <= 'z')
	if !ok || !letter || bytes.ContainsAny(name, " \t") {
		return false, fmt.Errorf("no field: %.40q", text)
	}
	if long {
		value = nil // it is cut off
	}
	return x.stanza.field(name, bytes.TrimLeft(value, " \t"))
}

// readLine returns the next line, or sets ended. Of a long line it returns the
// beginning. The line is valid until the next call.
func (x *indexReader) readLine() (line []byte, long bool, err error) {
	x.line++
	line, err = x.r.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		if !long {
			line, long = bytes.Clone(line[:256]), true
		}
		_, err = x.r.ReadSlice('\n')
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		x.ended, err = len(line) == 0, nil // a last line may lack its end
	default:
		x.failed = true
	}
	return line, long, err
}

// binary is a stanza of Packages.
type binary struct {
	entry        IndexEntry
	named, sized bool
}

func (b *binary) field(name, value []byte) (bool, error) {
	switch {
	case is(name, "Filename"):
		if b.named {
			return true, errors.New("a second Filename")
		}
		b.named = true
		var err error
		b.entry.Path, err = archivePath(string(value))
		return true, err
	case is(name, "Size"):
		if b.sized {
			return true, errors.New("a second Size")
		}
		b.sized = true
		var err error
		b.entry.Size, err = fileSize(value)
		return true, err
	case is(name, "SHA256"):
		if b.entry.SHA256 != "" {
			return true, errors.New("a second SHA256")
		}
		var err error
		b.entry.SHA256, err = sha256Sum(value)
		return true, err
	}
	return false, nil
}

func (b *binary) more([]byte) error { return errors.New("a second line where one is allowed") }

func (b *binary) entries() ([]IndexEntry, error) {
	done := *b
	*b = binary{}
	if !done.named {
		return nil, nil
	}
	if !done.sized {
		done.entry.Size = -1
	}
	return []IndexEntry{done.entry}, nil
}

// source is a stanza of Sources.
type source struct {
	directory string
	list      sourceList
	files     []IndexEntry // Path is the name in the directory
}

// sourceList is the field whose lines follow.
type sourceList uint8

const (
	noList      sourceList = iota
	filesList              // of MD5 checksums; the oldest one
	sha256sList            // Checksums-Sha256
)

func (s *source) field(name, value []byte) (bool, error) {
	s.list = noList
	switch {
	case is(name, "Directory"):
		if s.directory != "" {
			return true, errors.New("a second Directory")
		}
		var err error
		s.directory, err = archivePath(string(value))
		return true, err
	case is(name, "Files"):
		s.list = filesList
	case is(name, "Checksums-Sha256"):
		s.list = sha256sList
	default:
		return false, nil
	}
	if len(value) > 0 {
		return true, s.more(value)
	}
	return true, nil
}

// more reads "checksum size name".
func (s *source) more(line []byte) error {
	if s.list == noList {
		return errors.New("a second line where one is allowed")
	}
	columns := bytes.Fields(line)
	if len(columns) != 3 {
		return fmt.Errorf("%d columns of a file, not 3", len(columns))
	}
	length, err := fileSize(columns[1])
	if err != nil {
		return err
	}
	name, err := archivePath(string(columns[2]))
	if err != nil {
		return err
	}
	f := s.file(name)
	if f == nil {
		if len(s.files) == maxSourceFiles {
			return fmt.Errorf("a source of more than %d files", maxSourceFiles)
		}
		s.files = append(s.files, IndexEntry{Path: name, Size: length})
		f = &s.files[len(s.files)-1]
	}
	if f.Size != length {
		return fmt.Errorf("%s has two sizes, %d and %d", name, f.Size, length)
	}
	if s.list == sha256sList {
		f.SHA256, err = sha256Sum(columns[0])
	}
	return err
}

// file looks for a name among the files, which are few as a rule.
func (s *source) file(name string) *IndexEntry {
	for i := range s.files {
		if s.files[i].Path == name {
			return &s.files[i]
		}
	}
	return nil
}

func (s *source) entries() ([]IndexEntry, error) {
	files := s.files
	for i := range files {
		files[i].Path = path.Join(s.directory, files[i].Path)
	}
	*s = source{}
	return files, nil
}

// is compares the name of a field; deb822(5): case does not matter.
func is(name []byte, want string) bool {
	return len(name) == len(want) && strings.EqualFold(string(name), want)
}

// archivePath cleans a path, which dpkg-scanpackages begins with "./".
func archivePath(s string) (string, error) {
	if len(s) > maxArchivePath {
		return "", fmt.Errorf("a path of more than %d bytes", maxArchivePath)
	}
	name := path.Clean(s)
	if s == "" || path.IsAbs(s) || !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("path %q leads out of the archive", s)
	}
	return name, nil
}

func fileSize(text []byte) (int64, error) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("size %.40q", text)
	}
	return n, nil
}

func sha256Sum(text []byte) (string, error) {
	sum := strings.ToLower(string(text))
	if len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "" {
		return "", fmt.Errorf("checksum %.70q", text)
	}
	return sum, nil
}
