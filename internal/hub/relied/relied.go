// Package relied keeps with a build which published objects its uploader was told
// are there, so that a prune leaves them.
//
// Whoever tells an uploader that the repository has objects first adds them to the
// [List] of the build, then waits for the deletion under way, if there is one (for
// the lock of the repository, shared), and then looks whether they are there. Whoever
// deletes objects first takes the lock alone, and then reads what is on the lists:
// either it finds the object there, or the uploader is told that it is missing.
package relied

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"freshet/internal/hub/nameset"
	"freshet/internal/ostree"
)

// fileName is that of the list in the folder of a build.
const fileName = ".relied"

// List is the list of a build, for who writes it. Its methods may be called
// concurrently.
type List struct {
	// Dir is the folder of the build.
	Dir string

	mu    sync.Mutex
	read  bool
	known nameset.Set // on the list, once it was read
}

// Add puts objects on the list that are not there yet. They outlive this process,
// but perhaps not the machine: what was uploaded does not either, until the build is
// committed.
func (l *List) Add(names ...ostree.ObjectName) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.read {
		r := Reader{Dir: l.Dir}
		before, err := r.Next()
		if err != nil {
			return err
		}
		for _, name := range before {
			l.known.Add(name)
		}
		l.read = true
	}
	// The first line ends what a killed process may have left unfinished.
	lines := []byte{'\n'}
	for _, name := range names {
		if !l.known.Has(name) {
			lines = append(append(lines, name.String()...), '\n')
		}
	}
	if len(lines) == 1 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(l.Dir, fileName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(lines)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, name := range names {
		l.known.Add(name)
	}
	return nil
}

// Forget frees the memory of a list that nobody is likely to add to.
func (l *List) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read, l.known = false, nameset.Set{}
}

// Reader reads the list of a build as it grows.
type Reader struct {
	// Dir is the folder of the build.
	Dir string

	file   fs.FileInfo // that was read
	offset int64
}

// Next returns the objects that were added since the last call, or all the first
// time and after the build was made anew. Lines that are none are skipped.
func (r *Reader) Next() (names []ostree.ObjectName, err error) {
	f, err := os.Open(filepath.Join(r.Dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		r.file, r.offset = nil, 0
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if r.file == nil || !os.SameFile(r.file, info) || info.Size() < r.offset {
		r.offset = 0
	}
	r.file = info
	data, err := io.ReadAll(io.NewSectionReader(f, r.offset, info.Size()-r.offset))
	if err != nil {
		return nil, err
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	r.offset += int64(len(whole))
	for line := range bytes.Lines(whole) {
		if name, err := ostree.ParseObjectName(string(bytes.TrimSuffix(line, []byte("\n")))); err == nil {
			names = append(names, name)
		}
	}
	return names, nil
}
