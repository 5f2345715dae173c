package scan

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"iter"
	"log/slog"
	"os"
	"slices"
	"time"

	"freshet/internal/inventory"
)

// settled is how long a file must have been as it is: one that changes twice within the
// resolution of its time looks the same.
const settled = 2 * time.Second

// sum reads a file, through buffer. It is false if that cannot be done, or if the file
// changes meanwhile or has just changed.
func sum(ctx context.Context, root *os.Root, path string, buffer []byte) (inventory.Entry, bool) {
	f, err := root.Open(path)
	if err != nil {
		return inventory.Entry{}, false
	}
	defer func() { _ = f.Close() }() // it was only read
	before, err := f.Stat()
	if err != nil || !before.Mode().IsRegular() || time.Since(before.ModTime()) < settled {
		return inventory.Entry{}, false
	}
	h := sha256.New()
	for {
		n, err := f.Read(buffer)
		_, _ = h.Write(buffer[:n]) // it never fails
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || ctx.Err() != nil {
			return inventory.Entry{}, false
		}
	}
	after, err := f.Stat()
	if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return inventory.Entry{}, false
	}
	e := inventory.Entry{Path: path, Size: after.Size(), ModTime: after.ModTime()}
	h.Sum(e.SHA256[:0])
	return e, true
}

// hash makes the hashes of an origin's files that lack one, of one origin at a time.
func (s *Scanner) hash(ctx context.Context, t target) {
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
	default:
		return // the next scan sees to it
	}
	if err := s.hashes(ctx, t); err != nil && ctx.Err() == nil {
		s.o.Log.WarnContext(ctx, "an origin's files have no hashes", slog.String("project", t.project), slog.Any("error", err))
	}
}

// hashes says the SHA-256 of the origin's files of which it is not known, and which do not
// change under their names.
func (s *Scanner) hashes(ctx context.Context, t target) error {
	root, err := os.OpenRoot(t.source)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // it was only read
	tree := s.o.Inventory.Project(t.project)
	batch := make([]inventory.Entry, 0, hashBatch)
	var bytes int64
	flush := func() error {
		batch = slices.DeleteFunc(batch, func(e inventory.Entry) bool { // a scan has found others meanwhile
			now, ok := tree.Find(e.Path)
			return !ok || now.Size != e.Size
		})
		_, err := tree.Apply(inventory.Origin, inventory.Delta{At: tree.Updated(inventory.Origin), Entries: each(batch)})
		batch, bytes = batch[:0], 0
		return err
	}
	buffer := make([]byte, 256<<10)
	for path, file := range tree.View().Files("") {
		if file.HasSHA256() || isIndex(path) {
			continue
		}
		e, ok := sum(ctx, root, path, buffer)
		if ctx.Err() != nil {
			break
		}
		if !ok || e.Size != file.Size {
			continue // it has changed: the next scan knows
		}
		batch, bytes = append(batch, e), bytes+e.Size
		if len(batch) == hashBatch || bytes > hashBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return flush()
}

const (
	hashBatch = 1000
	hashBytes = 4 << 30
)

// each yields entries.
func each(entries []inventory.Entry) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}
