package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"syscall"

	"freshet/internal/durable"
	"freshet/internal/layout"
)

// Link stages the regular file source of another folder as name, by a hard
// link where the file system allows, otherwise as a copy. The source must not
// be written to any more: it and the published file are one.
func (tx *Tx) Link(class layout.Class, name string, from *os.Root, source string) error {
	folder, err := durable.Dir{Root: from}.Folder(path.Dir(source))
	if err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	defer folder.Close() //nolint:errcheck // opened for reading
	_, err = tx.linkFrom(class, name, folder, path.Base(source))
	return err
}

// LinkPayload is [Tx.Link] for payload that has the same paths in another folder, which
// are many files. Where nobody else may change the repository, all but the first are
// not staged: Commit makes them durable where they are, and links them into place. Until
// then they have to stay as they are.
func (tx *Tx) LinkPayload(ctx context.Context, from *os.Root, names []string) error {
	if len(names) == 0 {
		return nil
	}
	names = slices.Sorted(slices.Values(names))
	linked, err := tx.stageFolder(ctx, from, path.Dir(names[0]), names[:1])
	if err != nil {
		return err
	}
	if linked && tx.place.fence == 0 {
		return tx.leave(from, names[1:])
	}
	for folder, files := range byFolder(names[1:], func(name string) string { return name }) {
		if _, err := tx.stageFolder(ctx, from, folder, files); err != nil {
			return err
		}
	}
	return nil
}

// stageFolder stages payload that is in one folder, and tells whether the last one could
// be linked.
func (tx *Tx) stageFolder(ctx context.Context, from *os.Root, folder string, names []string) (linked bool, err error) {
	opened, err := durable.Dir{Root: from}.Folder(folder)
	if err != nil {
		return false, fmt.Errorf("stage %s: %w", names[0], err)
	}
	defer opened.Close() //nolint:errcheck // opened for reading
	for _, name := range names {
		if err := context.Cause(ctx); err != nil {
			return false, err
		}
		if linked, err = tx.linkFrom(layout.Payload, name, opened, path.Base(name)); err != nil {
			return false, err
		}
	}
	return linked, nil
}

// leave notes payload that is linked into place by Commit.
func (tx *Tx) leave(from *os.Root, names []string) error {
	from, err := from.OpenRoot(".") // the caller closes its own
	if err != nil {
		return fmt.Errorf("stage %s: %w", names[0], err)
	}
	tx.mu.Lock()
	tx.others = append(tx.others, from)
	tx.mu.Unlock()
	for _, name := range names {
		if err := checkWrite(name); err != nil {
			return err
		}
		if err := tx.record(operation{path: name, class: layout.Payload, from: from}); err != nil {
			return err
		}
	}
	return nil
}

// linkFrom stages a file of a folder, and tells whether it could be linked.
func (tx *Tx) linkFrom(class layout.Class, name string, from *durable.Folder, source string) (linked bool, err error) {
	_, staged, err := tx.reserve(name)
	if err != nil {
		return false, err
	}
	err = tx.link(staged, from, source)
	switch {
	case mustCopy(err):
		f, err := from.Open(source)
		if err != nil {
			return false, fmt.Errorf("stage %s: %w", name, err)
		}
		_, err = tx.Put(class, name, f)
		return false, errors.Join(err, f.Close())
	case err != nil:
		return false, fmt.Errorf("stage %s: %w", name, tx.why(err))
	}
	return true, tx.record(operation{path: name, class: class, staged: staged})
}

// mustCopy tells whether link(2) says that it cannot be done with this file.
func mustCopy(err error) bool {
	return errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.EPERM)
}

// link gives a regular file a name in the staging folder.
func (tx *Tx) link(staged string, from *durable.Folder, source string) error {
	if err := tx.folder.Link(staged, from, source); err != nil {
		return err
	}
	if err := checkRegular(tx.folder, staged); err != nil {
		return errors.Join(err, tx.stage.Root.Remove(staged))
	}
	return nil
}

func checkRegular(folder *durable.Folder, name string) error {
	regular, err := folder.IsRegular(name)
	if err == nil && !regular {
		err = &fs.PathError{Op: "link", Path: name, Err: errors.New("not a regular file")}
	}
	return err
}

// byFolder yields what is sorted by path folder by folder.
func byFolder[T any](sorted []T, pathOf func(T) string) iter.Seq2[string, []T] {
	return func(yield func(string, []T) bool) {
		for len(sorted) > 0 {
			folder := path.Dir(pathOf(sorted[0]))
			n := 1
			for n < len(sorted) && path.Dir(pathOf(sorted[n])) == folder {
				n++
			}
			if !yield(folder, sorted[:n]) {
				return
			}
			sorted = sorted[n:]
		}
	}
}
