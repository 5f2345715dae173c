package generation

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// Generation is a state of a project. It is immutable and safe for concurrent use;
// what it tells of its time as the current one is that of the moment when it was
// asked for. The nil Generation has no files.
type Generation struct {
	info Info
	dir  *os.Root // of the generation
	tree *os.File
}

func openGeneration(p *Project, id string) (*Generation, error) {
	name := generationsName + "/" + id
	info, err := readInfo(p.dir, name+"/"+infoName)
	if err != nil {
		return nil, err
	}
	if info.ID != id || info.Project != p.name {
		return nil, fmt.Errorf("%s/%s is of the generation %s of %s: put it back, or remove the folder", name, infoName, info.ID, info.Project)
	}
	if _, err := p.dir.Root.Lstat(name + "/" + manifestName); err != nil {
		return nil, err
	}
	dir, err := p.dir.Root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	tree, err := dir.Open(treeName)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &Generation{info: info, dir: dir, tree: tree}, nil
}

// Info tells of the generation.
func (g *Generation) Info() Info { return g.info }

// ID is that of its Info; empty for nil.
func (g *Generation) ID() string {
	if g == nil {
		return ""
	}
	return g.info.ID
}

// Files yields all files, sorted by the bytes of their paths, and an error if the
// manifest cannot be read to its end. It reads the manifest as it goes, in little
// memory, and may be called again.
func (g *Generation) Files() iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		if g == nil {
			return
		}
		f, err := g.dir.Open(manifestName)
		if err != nil {
			yield(File{}, err)
			return
		}
		defer f.Close() //nolint:errcheck // opened for reading
		for file, err := range readManifest(f) {
			if err != nil {
				err = fmt.Errorf("generation %s of %s: %w", g.info.ID, g.info.Project, err)
			}
			if !yield(file, err) {
				return
			}
		}
	}
}

// OpenManifest opens the manifest as it is on the disk, for others to read. The error is
// [fs.ErrClosed] if the generation has ended.
func (g *Generation) OpenManifest() (*os.File, error) { return g.dir.Open(manifestName) }

// Open opens what the tree has at a path, a file or a folder, through symbolic links
// that stay in the tree; one that leads out of it is [fs.ErrNotExist]. The path is
// clean, or "." for the root of the tree.
func (g *Generation) Open(path string) (*os.File, error) {
	if g == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return openBeneath(g.tree, path)
}

// openBeneath opens a path below a folder for reading.
func openBeneath(dir *os.File, path string) (*os.File, error) {
	if path != "." {
		if err := CheckPath(path); err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
	}
	conn, err := dir.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var opened error
	if conn.Control(func(at uintptr) { fd, opened = openat2(int(at), path) }) != nil {
		opened = fs.ErrClosed // which is all that Control can say
	}
	switch err = opened; {
	case err == nil:
		return os.NewFile(uintptr(fd), path), nil
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
		// EXDEV: a link leads out. ENOTDIR: a folder of the path is a file.
		err = fs.ErrNotExist
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: err}
}

func openat2(dir int, path string) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range 100 { // EAGAIN: something was renamed while ".." was followed, openat2(2)
		fd, err = unix.Openat2(dir, path, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return fd, err
}
