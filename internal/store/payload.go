package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"freshet/internal/durable"
)

const (
	// manyLinks is how many files there are at least that are linked by several
	// goroutines.
	manyLinks = 256
	// linkers is how many these are. Links into different folders do not wait for
	// one another; renames do.
	linkers = 4
)

// publishPayload gives payload its names, folder by folder. What is there
// already stays; its name may be younger than the last sync, so its folder is
// synced too.
func (tx *Tx) publishPayload(payload []operation, folders *folders) error {
	slices.SortFunc(payload, func(a, b operation) int { return strings.Compare(a.path, b.path) })
	var group errgroup.Group
	group.SetLimit(1)
	if len(tx.others) > 0 && len(payload) >= manyLinks {
		group.SetLimit(linkers)
	}
	for folder, files := range byFolder(payload, func(op operation) string { return op.path }) {
		folders.add(folder)
		group.Go(func() error { return tx.publishFolder(folder, files) })
	}
	return group.Wait()
}

// publishFolder gives payload of one folder its names.
func (tx *Tx) publishFolder(folder string, files []operation) (err error) {
	to, err := tx.store.dir.Folder(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	var root *os.Root
	var from *durable.Folder // of root
	defer func() {
		if from != nil {
			err = errors.Join(err, from.Close())
		}
	}()
	for _, op := range files {
		if op.from != nil && op.from != root {
			if from != nil {
				if err := from.Close(); err != nil {
					return err
				}
			}
			if from, err = (durable.Dir{Root: op.from}).Folder(folder); err != nil {
				return err
			}
			root = op.from
		}
		if err := tx.publishFile(to, op, from); err != nil {
			return err
		}
	}
	return nil
}

// publishFile gives payload its name in the folder to. The folder from is where it is
// linked from, if it is not staged.
func (tx *Tx) publishFile(to *durable.Folder, op operation, from *durable.Folder) error {
	base := path.Base(op.path)
	var err error
	if op.from == nil {
		err = to.MoveNew(base, tx.folder, op.staged)
	} else if err = checkRegular(from, base); err == nil {
		if err = to.Link(base, from, base); mustCopy(err) {
			err = tx.copyInto(to, base, from)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		if regular, statErr := to.IsRegular(base); statErr == nil && regular {
			return nil
		}
	}
	return err
}

// copyInto is for a file that cannot be linked: one of somebody else, or one that
// has as many names as it can have.
func (tx *Tx) copyInto(to *durable.Folder, name string, from *durable.Folder) error {
	source, err := from.Open(name)
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // opened for reading
	staged := durable.TempName()
	if err := tx.stage.Write(staged, 0o644, func(w io.Writer) error {
		_, err := tx.store.copy(w, source)
		return err
	}); err != nil {
		return err
	}
	return to.MoveNew(name, tx.folder, staged)
}
