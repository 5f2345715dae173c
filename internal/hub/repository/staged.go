package repository

import (
	"bytes"
	"io/fs"
	"path"
	"time"
)

// staged are files that are not on the disk yet, to be read as if they were.
type staged map[string][]byte

// Open implements fs.FS for files; there are no folders.
func (s staged) Open(name string) (fs.File, error) {
	data, ok := s[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &stagedFile{Reader: bytes.NewReader(data), name: path.Base(name)}, nil
}

type stagedFile struct {
	*bytes.Reader
	name string
}

// Stat implements fs.File.
func (f *stagedFile) Stat() (fs.FileInfo, error) { return f, nil }

// Close implements fs.File.
func (f *stagedFile) Close() error { return nil }

// The methods of fs.FileInfo.
func (f *stagedFile) Name() string       { return f.name }
func (f *stagedFile) Mode() fs.FileMode  { return 0o444 }
func (f *stagedFile) ModTime() time.Time { return time.Time{} }
func (f *stagedFile) IsDir() bool        { return false }
func (f *stagedFile) Sys() any           { return nil }
