// Package quarantine keeps the damaged objects of an OSTree repository apart: they are
// served no more, and wait in a folder of the repository for a sound copy, or for
// somebody who looks at them.
//
// Of what was repaired, caches are told: they may hold what was served before.
//
// An object is in quarantine while its damaged copy is in that folder and nothing has
// its name. Whoever gives the name to a sound copy then drops the damaged one; a
// crash in between leaves a copy that means nothing any more.
//
// docs/formats/upkeep.md describes the files.
package quarantine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"freshet/internal/durable"
	"freshet/internal/hub/repolock"
	"freshet/internal/ostree"
)

const (
	// folder is where damaged objects are, below a repository.
	folder = ".upkeep/quarantine"
	// noteSuffix ends the name of what is known of one.
	noteSuffix = ".json"
	// maxNote bounds a note in bytes, and maxRefs the refs in it.
	maxNote = 1 << 20
	maxRefs = 1000
)

// ErrMoved says that an object is not the damaged file any more that somebody has
// seen: it was replaced or removed.
var ErrMoved = errors.New("the object is another one now")

// Note is what is known of an object in quarantine.
type Note struct {
	// Error is what is wrong with it, and Since when that was found.
	Error string    `json:"error"`
	Since time.Time `json:"since"`
	// Refs need it, sorted: as of Counted, which is zero while nobody has looked. More
	// refs do that are not listed.
	Refs    []string  `json:"refs"`
	More    int       `json:"more,omitzero"`
	Counted time.Time `json:"counted,omitzero"`
}

// Needed sets the refs that need the object.
func (n *Note) Needed(refs []string, at time.Time) {
	n.Refs, n.More, n.Counted = slices.Sorted(slices.Values(refs)), 0, at
	if more := len(refs) - maxRefs; more > 0 {
		n.Refs, n.More = n.Refs[:maxRefs], more
	}
}

// Item is an object in quarantine.
type Item struct {
	Name ostree.ObjectName
	Size int64 // of the damaged copy
	Note
}

// Path is where the damaged copy of an object is, below the repository.
func Path(name ostree.ObjectName) string { return folder + "/" + name.String() }

// Some tells whether there can be any in a repository.
func Some(repo *os.Root) bool {
	_, err := repo.Lstat(folder)
	return err == nil
}

func notePath(name ostree.ObjectName) string { return Path(name) + noteSuffix }

// Keeps tells whether an object is one that can be in quarantine: its name tells what
// is in it.
func Keeps(name ostree.ObjectName) bool {
	switch name.Type {
	case ostree.TypeFile, ostree.TypeDirTree, ostree.TypeDirMeta, ostree.TypeCommit:
		return true
	default:
		return false
	}
}

// Put moves an object out of the way of those who fetch it, unless it is another file
// than the damaged one. It holds the lock of the repository, alone, while it does; the
// object is at one place or the other whenever the machine stops. An error that is
// [ErrMoved] says that there is nothing to do.
func Put(ctx context.Context, dir durable.Dir, name ostree.ObjectName, damaged fs.FileInfo, note Note) (err error) {
	if !Keeps(name) {
		return fmt.Errorf("quarantine of %s: its name does not tell what is in it", name)
	}
	if err := dir.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	if err := Write(dir, name, note); err != nil {
		return err
	}
	lock, err := repolock.Exclusive(ctx, dir.Root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	now, err := dir.Root.Lstat(name.Path())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !same(now, damaged) {
		return ErrMoved
	}
	if err == nil {
		err = dir.Rename(name.Path(), Path(name))
	}
	if err != nil {
		return err
	}
	return errors.Join(dir.SyncDir(folder), dir.SyncDir(path.Dir(name.Path())))
}

// same tells whether nobody has put another file in the place of one.
func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// Write replaces what is known of an object.
func Write(dir durable.Dir, name ostree.ObjectName, note Note) error {
	if note.Refs == nil {
		note.Refs = []string{}
	}
	data, err := json.Marshal(note)
	if err != nil {
		return err
	}
	return dir.WriteFile(notePath(name), data, 0o640)
}

// Drop removes the damaged copy of an object, and what is known of it; that there is
// none is no error.
func Drop(dir durable.Dir, name ostree.ObjectName) error {
	// The note last: it is what List finds the rest by, if this is cut short.
	err := dir.Remove(Path(name))
	if err == nil {
		err = dir.Remove(notePath(name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not even the folder
	}
	return err
}

// Has tells whether an object is in quarantine.
func Has(root *os.Root, name ostree.ObjectName) (bool, error) {
	_, err := root.Lstat(Path(name))
	if err == nil {
		if _, err = root.Lstat(name.Path()); errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return false, err
}

// List lists what is in quarantine, by name.
func List(root *os.Root) ([]Item, error) {
	names, _, err := read(root)
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, name := range names {
		info, err := root.Lstat(Path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		items = append(items, Item{Name: name, Size: info.Size(), Note: readNote(root, name, info)})
	}
	return items, nil
}

// Count counts what is in quarantine.
func Count(root *os.Root) (int, error) {
	names, _, err := read(root)
	return len(names), err
}

// Sweep removes what crashes have left: copies of objects that are there again, and
// notes without a copy. It holds the lock of the repository while it does.
func Sweep(ctx context.Context, dir durable.Dir) (err error) {
	if _, stale, err := read(dir.Root); err != nil || len(stale) == 0 {
		return err
	}
	lock, err := repolock.Exclusive(ctx, dir.Root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	_, stale, err := read(dir.Root)
	if err != nil {
		return err
	}
	for _, name := range stale {
		err = errors.Join(err, Drop(dir, name))
	}
	return err
}

// Restore puts an object back whose copy in quarantine is what its name says after
// all: it was read wrongly, or somebody has mended it. It reports whether it did.
func Restore(ctx context.Context, dir durable.Dir, name ostree.ObjectName) (restored bool, err error) {
	f, err := dir.Root.Open(Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = ostree.VerifyObject(name, f)
	if closed := f.Close(); err != nil || closed != nil {
		return false, closed // it is damaged, as is known
	}
	lock, err := repolock.Shared(ctx, dir.Root)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if there, err := Has(dir.Root, name); err != nil || !there {
		return false, err
	}
	target := path.Dir(name.Path())
	if err := dir.MkdirAll(target, 0o755); err != nil {
		return false, err
	}
	if err := Repaired(dir, name.Path()); err != nil {
		return false, err
	}
	if err := dir.Rename(Path(name), name.Path()); err != nil {
		return false, err
	}
	return true, errors.Join(dir.SyncDir(target), Drop(dir, name))
}

// read lists the objects in quarantine, sorted, and those of which only something is
// left.
func read(root *os.Root) (names, stale []ostree.ObjectName, err error) {
	entries, err := fs.ReadDir(root.FS(), folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	for _, entry := range entries { // sorted: the copy comes before the note
		text, isNote := strings.CutSuffix(entry.Name(), noteSuffix)
		name, ok := parse(text)
		if !ok {
			continue
		}
		there, err := Has(root, name)
		switch {
		case err != nil:
			return nil, nil, err
		case !there:
			stale = append(stale, name)
		case !isNote:
			names = append(names, name)
		}
	}
	return names, slices.Compact(stale), nil
}

func parse(text string) (ostree.ObjectName, bool) {
	if len(text) < 2 {
		return ostree.ObjectName{}, false
	}
	name, err := ostree.ParseObjectPath("objects/" + text[:2] + "/" + text[2:])
	return name, err == nil && Keeps(name)
}

// readNote reads what is known of an object. Without a note that can be read, that is
// since when the copy is.
func readNote(root *os.Root, name ostree.ObjectName, info fs.FileInfo) Note {
	var note Note
	if known, err := root.Stat(notePath(name)); err == nil && known.Size() <= maxNote {
		if data, err := root.ReadFile(notePath(name)); err != nil || json.Unmarshal(data, &note) != nil {
			note = Note{}
		}
	}
	note.Error = cmp.Or(note.Error, "it is damaged")
	if note.Since.IsZero() {
		note.Since = info.ModTime()
	}
	return note
}
