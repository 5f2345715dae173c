package generation

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"freshet/internal/durable"

	"golang.org/x/sys/unix"
)

// fileMode is that of all regular files in trees.
const fileMode = 0o644

// Keep links a file of a generation, most often of Base, with which it shares
// everything. It returns false if the file is not there any more, because it was
// found to be damaged: then it has to be fetched. The file is what Files of the
// generation yields.
func (st *Staging) Keep(from *Generation, f File) (bool, error) {
	if f.IsLink() {
		return true, st.Symlink(f.Path, f.Link)
	}
	kept := false
	err := st.do(f, func() (err error) {
		kept, err = st.linkFrom(generationsName+"/"+from.ID(), f, f)
		if err != nil || !kept {
			return err
		}
		return st.record(f, false)
	})
	return kept, err
}

// Holds reports whether a file of a generation is still in its tree: [Project.Verify]
// takes damaged ones away, and disks lose some. It looks for the name and reads nothing.
// The file is what Files of the generation yields.
func (st *Staging) Holds(of *Generation, f File) (bool, error) {
	has := false
	err := st.do(f, func() error {
		t, err := st.source(generationsName + "/" + of.ID())
		if err != nil {
			return err
		}
		_, has, err = t.lstat(f.Path)
		return err
	})
	return has, err
}

// linkFrom links a file of another tree, or copies it if it is to have another time. It
// returns false if it is not there.
func (st *Staging) linkFrom(dir string, have, f File) (bool, error) {
	source, err := st.source(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	from, old, err := source.at(have.Path, false)
	if err == nil {
		err = st.put(f.Path, func(to *durable.Folder, name string) error {
			if have.ModTime.Unix() == f.ModTime.Unix() {
				err := to.Link(name, from, old)
				if !errors.Is(err, unix.EMLINK) { // all names that the file system allows
					return err
				}
			}
			return copyOf(to, name, from, old, f.ModTime)
		})
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// source is the tree in a folder of the project.
func (st *Staging) source(dir string) (*tree, error) {
	if t := st.sources[dir]; t != nil {
		return t, nil
	}
	t, err := openTree(st.p.dir, dir+"/"+treeName)
	if err != nil {
		return nil, err
	}
	st.sources[dir] = t
	return t, nil
}

// LinkObject puts a file into the tree whose content is here already: in any project,
// or fetched by this staging or one that was interrupted. It returns false if it is
// not. Path, Size and SHA256 say what is wanted; if ModTime is not zero and the
// content is here with another time, it is copied.
func (st *Staging) LinkObject(f File) (bool, error) {
	f.ModTime, f.Link = whole(f.ModTime), ""
	linked := false
	err := st.do(f, func() (err error) {
		linked, err = st.linkContent(f)
		return err
	})
	return linked, err
}

func (st *Staging) linkContent(f File) (bool, error) {
	found, when, err := st.linkObject(f)
	switch {
	case err != nil:
		return false, err
	case found == linked:
		f.ModTime = when
		return true, st.record(f, false)
	case found == dated:
		err := st.put(f.Path, func(to *durable.Folder, name string) error { return st.p.store.objects.copy(to, name, f) })
		if err == nil {
			return true, st.record(f, false)
		}
		if !errors.Is(err, fs.ErrNotExist) { // it was removed with the last file that had it
			return false, err
		}
	}
	return st.linkFetched(f)
}

// linkObject links an object.
func (st *Staging) linkObject(f File) (found found, when time.Time, err error) {
	err = st.put(f.Path, func(to *durable.Folder, name string) (err error) {
		when, found, err = st.p.store.objects.link(to, name, f)
		return err
	})
	return found, when, err
}

// linkFetched links a file that this staging, or one that was interrupted, has fetched.
func (st *Staging) linkFetched(f File) (bool, error) {
	have, s, ok, err := st.journal.byContent(f.SHA256)
	if err != nil || !ok || have.Size != f.Size {
		return false, err
	}
	dir := staged(strconv.Itoa(s.number))
	if ok, err := st.isSound(dir, have, s.boot); err != nil || !ok {
		return false, err
	}
	if f.ModTime.IsZero() {
		f.ModTime = have.ModTime
	}
	mine := s.number == st.journal.last().number
	if mine && have.Path == f.Path {
		return f.ModTime.Unix() == have.ModTime.Unix(), nil // it is there, and recorded
	}
	if ok, err := st.linkFrom(dir, have, f); err != nil || !ok {
		return false, err
	}
	if mine {
		return true, st.record(f, true)
	}
	return true, st.note(f, true)
}

// isSound checks that a file is as the journal says. What was written before the
// machine was started is read: it may not have come to the disk.
func (st *Staging) isSound(dir string, f File, boot string) (bool, error) {
	t, err := st.source(dir)
	if err != nil {
		return false, ignoreAbsent(err)
	}
	info, ok, err := t.lstat(f.Path)
	if err != nil || !ok || !info.Mode.IsRegular() || info.Size != f.Size || info.ModTime.Unix() != f.ModTime.Unix() {
		return false, err
	}
	if boot == st.p.store.boot {
		return true, nil
	}
	in, name, err := t.at(f.Path, false)
	if err != nil {
		return false, ignoreAbsent(err)
	}
	sum, err := sumOf(in, name)
	return sum == f.SHA256, err
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func sumOf(in *durable.Folder, name string) (sum [32]byte, err error) {
	file, err := in.Open(name)
	if err != nil {
		return sum, err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return sum, err
	}
	return [32]byte(h.Sum(nil)), nil
}

// note records a file that was fetched, and writes it into the journal if it is not
// there for this session.
func (st *Staging) note(f File, journal bool) error {
	if journal {
		if err := st.journal.add(f); err != nil {
			return err
		}
	}
	st.fetched++
	st.bytes += f.Size
	return st.record(f, true)
}

// Resume puts a file into the tree that an interrupted staging has fetched for this
// path with this size and time, or leaves the one that is in the tree already. It
// returns false if there is none. It is for files whose SHA-256 the upstream does not
// tell; for others there is LinkObject. A size below zero and a zero time stand for
// any: for files that are bound by their names.
func (st *Staging) Resume(path string, size int64, modTime time.Time) (bool, error) {
	resumed := false
	want := File{Path: path, Size: size, ModTime: whole(modTime)}
	err := st.do(File{Path: path}, func() (err error) {
		if !st.used && len(st.journal.former) == 0 {
			return nil // nothing was fetched
		}
		if resumed, err = st.has(want); resumed || err != nil {
			return err
		}
		if f, ok := st.journal.byPath(want); ok {
			resumed, err = st.linkContent(f)
		}
		return err
	})
	return resumed, err
}

// Place moves a file that was fetched into the tree: the one named from in the folder
// Incoming. It must have the size of f, and gets its time unless that is zero. If
// SHA256 is not zero the caller has computed it from the bytes that it wrote; else the
// file is read. It returns the file as it is in the tree.
func (st *Staging) Place(f File, from string) (File, error) {
	f.ModTime, f.Link = whole(f.ModTime), ""
	if err := CheckPath(from); err != nil {
		return f, err
	}
	if f.SHA256 == [32]byte{} {
		sum, err := st.hashArrived(from)
		if err != nil {
			return f, fmt.Errorf("stage %.200q: %w", f.Path, err)
		}
		f.SHA256 = sum
	}
	return f, st.do(f, func() error {
		in, name, err := st.arrived.at(from, false)
		if err != nil {
			return err
		}
		if err := dress(&f, in, name); err != nil {
			return err
		}
		return st.place(f, in, name)
	})
}

// hashArrived reads a file in the folder Incoming, while others are placed.
func (st *Staging) hashArrived(from string) (sum [32]byte, err error) {
	t, err := openTree(st.p.dir, staged(incomingName))
	if err != nil {
		return sum, err
	}
	defer t.close() //nolint:errcheck // opened for reading
	in, name, err := t.at(from, false)
	if err != nil {
		return sum, err
	}
	return sumOf(in, name)
}

// dress checks a file that has arrived, and gives it its time and the mode of all.
func dress(f *File, in *durable.Folder, name string) error {
	info, err := in.Lstat(name)
	if err != nil {
		return err
	}
	if info.Mode&fs.ModeType != 0 || info.Size != f.Size {
		return fmt.Errorf("%s has arrived with %d bytes (%s) in the place of %d", name, info.Size, info.Mode, f.Size)
	}
	if f.ModTime.IsZero() {
		f.ModTime = whole(info.ModTime)
	}
	if info.Mode != fileMode {
		if err := in.Chmod(name, fileMode); err != nil {
			return err
		}
	}
	if !info.ModTime.Equal(f.ModTime) {
		return in.Chtimes(name, f.ModTime)
	}
	return nil
}

// place moves the file, unless its content is here already: who has looked for it by
// its hash does not fetch it, but not all upstreams tell hashes.
func (st *Staging) place(f File, in *durable.Folder, name string) error {
	found, _, err := st.linkObject(f)
	if err != nil {
		return err
	}
	if found == linked {
		if err := in.Remove(name); err != nil {
			return err
		}
		return st.note(f, false)
	}
	if err := st.put(f.Path, func(to *durable.Folder, base string) error { return to.MoveNew(base, in, name) }); err != nil {
		return err
	}
	return st.note(f, true)
}
