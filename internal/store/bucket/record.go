package bucket

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// Change is what a change does to the files that readers find by name. Payload is
// not in it: it is there before.
type Change struct {
	// Serial is the number of the change.
	Serial int64 `json:"serial"`
	// Index files are written first.
	Index []File `json:"index,omitempty"`
	// Pointers are written, or removed, after them and one by one.
	Pointers []File `json:"pointers,omitempty"`
	// Remove are files that are removed at the end.
	Remove []string `json:"remove,omitempty"`
	// Note is the caller's.
	Note []byte `json:"note,omitempty"`

	data io.ReaderAt // the contents, one after the other
}

// File is one file of a change.
type File struct {
	// Path is where it is in the repository.
	Path string `json:"path"`
	// Gone says that the file is removed. What follows is then empty.
	Gone bool `json:"gone,omitempty"`
	// Size is its length in bytes.
	Size int64 `json:"size,omitempty"`
	// Sum is the SHA-256 of the content in hex.
	Sum string `json:"sum,omitempty"`

	// Open opens what is written; set by who makes the change.
	Open func() (*os.File, error) `json:"-"`

	offset int64
}

const (
	recordVersion = 1
	// maxRecordHead bounds what is known of a change besides contents: some
	// 200 bytes for each file.
	maxRecordHead = 256 << 20
)

// recordHead is the first line of a record.
type recordHead struct {
	Version int `json:"version"`
	*Change
}

// Content is the content of a file of a change that was read.
func (c *Change) Content(f *File) *io.SectionReader {
	return io.NewSectionReader(c.data, f.offset, f.Size)
}

// files are all files that have a content, in order.
func (c *Change) files() []*File {
	all := make([]*File, 0, len(c.Index)+len(c.Pointers))
	for _, list := range [][]File{c.Index, c.Pointers} {
		for i := range list {
			if !list[i].Gone {
				all = append(all, &list[i])
			}
		}
	}
	return all
}

// paths are those of all files that the change writes or removes.
func (c *Change) paths() []string {
	all := slices.Clone(c.Remove)
	for _, list := range [][]File{c.Index, c.Pointers} {
		for i := range list {
			all = append(all, list[i].Path)
		}
	}
	return all
}

// Write writes the record of the change to an empty file, from what the files' Open
// opens. Afterwards the change reads from that file.
func (c *Change) Write(to *os.File) error {
	files := c.files()
	for _, f := range files {
		hash := sha256.New()
		size, err := f.copyTo(hash)
		if err != nil {
			return fmt.Errorf("record %s: %w", f.Path, err)
		}
		f.Size, f.Sum = size, hex.EncodeToString(hash.Sum(nil))
	}
	head, err := json.Marshal(recordHead{recordVersion, c})
	if err != nil {
		return err
	}
	if _, err := to.Write(append(head, '\n')); err != nil {
		return err
	}
	for _, f := range files {
		if _, err := f.copyTo(to); err != nil {
			return fmt.Errorf("record %s: %w", f.Path, err)
		}
	}
	c.lay(to, int64(len(head)+1))
	return nil
}

func (f *File) copyTo(w io.Writer) (n int64, err error) {
	from, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	return io.Copy(w, from)
}

// lay says where the contents are.
func (c *Change) lay(data io.ReaderAt, offset int64) {
	c.data = data
	for _, f := range c.files() {
		f.offset = offset
		offset += f.Size
	}
}

// ReadChange reads a record, and checks it: its contents are those of their sums.
func ReadChange(data *io.SectionReader) (*Change, error) {
	head, err := readLine(data)
	if err != nil {
		return nil, err
	}
	c := new(Change)
	parsed := recordHead{Change: c}
	if err := json.Unmarshal(head, &parsed); err != nil {
		return nil, fmt.Errorf("record: %w: %w", ErrMalformed, err)
	}
	if parsed.Version != recordVersion {
		return nil, fmt.Errorf("record: version %d is not known to this program", parsed.Version)
	}
	left := data.Size() - int64(len(head)) - 1
	for _, f := range c.files() {
		if f.Size < 0 || f.Size > left {
			return nil, fmt.Errorf("record: %w: it ends in %q", ErrMalformed, f.Path)
		}
		left -= f.Size
	}
	if left != 0 {
		return nil, fmt.Errorf("record: %w: %d bytes are left", ErrMalformed, left)
	}
	c.lay(data, int64(len(head))+1)
	return c, c.check()
}

// check looks at the paths and the contents.
func (c *Change) check() error {
	for _, path := range c.paths() {
		if !fs.ValidPath(path) || path == "." {
			return fmt.Errorf("record: %w: path %q", ErrMalformed, path)
		}
	}
	for _, f := range c.files() {
		hash := sha256.New()
		if _, err := io.Copy(hash, c.Content(f)); err != nil {
			return fmt.Errorf("record: %s: %w", f.Path, err)
		}
		if hex.EncodeToString(hash.Sum(nil)) != f.Sum {
			return fmt.Errorf("record: %w: %q has another content than its sum says", ErrMalformed, f.Path)
		}
	}
	return nil
}

// readLine reads the first line, without its end.
func readLine(data *io.SectionReader) ([]byte, error) {
	var line []byte
	chunk := make([]byte, 64<<10)
	for {
		n, err := data.ReadAt(chunk, int64(len(line)))
		if end := bytes.IndexByte(chunk[:n], '\n'); end >= 0 {
			return append(line, chunk[:end]...), nil
		}
		line = append(line, chunk[:n]...)
		if errors.Is(err, io.EOF) || err == nil && len(line) > maxRecordHead {
			return nil, fmt.Errorf("record: %w: its first line does not end", ErrMalformed)
		}
		if err != nil {
			return nil, err
		}
	}
}
