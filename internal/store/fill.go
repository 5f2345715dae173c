package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"freshet/internal/durable"
	"freshet/internal/layout"
	"freshet/internal/store/bucket"
)

// fillBatch bounds how many files are on their way between directory and bucket
// before they are made durable.
const fillBatch = 256

// fillBucket uploads everything, and then makes the manifest: without that, the
// bucket has no copy.
func (s *Store) fillBucket(ctx context.Context, here *mirrorState, fence int64) error {
	if here == nil {
		foreign := errors.New("foreign")
		err := s.mirror.Copy.List(ctx, func(string, bucket.Object) error { return foreign })
		if errors.Is(err, foreign) {
			return fmt.Errorf("%w: below the prefix are files and no manifest; choose a prefix that is empty", ErrNotMirrored)
		}
		if err != nil {
			return err
		}
		here = &mirrorState{ID: bucket.NewID(), Filling: fillingBucket}
		if err := s.writeMirrorState(*here); err != nil {
			return err
		}
	}
	for class := layout.Payload; class <= layout.Pointer; class++ {
		if err := s.upload(ctx, class); err != nil {
			return err
		}
	}
	if err := s.mirror.Copy.Begin(ctx, here.ID, fence); err != nil {
		return err
	}
	return s.writeMirrorState(mirrorState{ID: here.ID})
}

// upload brings the files of a class to the bucket: what is there of an earlier
// attempt is compared, unless it is payload.
func (s *Store) upload(ctx context.Context, class layout.Class) error {
	var batch []bucket.Upload
	flush := func() error {
		if class == layout.Payload {
			err := s.mirror.Copy.Upload(ctx, batch)
			batch = batch[:0]
			return err
		}
		for _, file := range batch {
			f, err := file.Open()
			if err != nil {
				return err
			}
			if err := errors.Join(s.mirror.Copy.Overwrite(ctx, file.Path, f), f.Close()); err != nil {
				return err
			}
		}
		batch = batch[:0]
		return nil
	}
	err := s.Walk(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || s.mirror.Skip(name) || s.mirror.Class(name) != class {
			return err
		}
		batch = append(batch, bucket.Upload{Path: name, Open: func() (*os.File, error) { return s.Open(name) }})
		if len(batch) < fillBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// fillDirectory downloads everything: payload first, and in the end all that leads
// to it, in one transaction.
func (s *Store) fillDirectory(ctx context.Context, state mirrorState) error {
	filling := state
	filling.Filling = fillingDirectory
	if err := s.writeMirrorState(filling); err != nil {
		return err
	}
	rest, err := s.downloadPayload(ctx)
	if err != nil {
		return err
	}
	last := s.unmirrored()
	last.state = &state
	return s.download(ctx, last, rest)
}

// downloadPayload brings here the payload that is in the bucket alone, and lists what
// is no payload.
func (s *Store) downloadPayload(ctx context.Context) (rest []string, err error) {
	var batch []string
	err = s.mirror.Copy.List(ctx, func(name string, there bucket.Object) error {
		if s.mirror.Class(name) != layout.Payload {
			rest = append(rest, name)
			return nil
		}
		if info, err := s.Stat(name); err == nil && info.Size() == there.Size {
			return nil
		}
		if batch = append(batch, name); len(batch) < fillBatch {
			return nil
		}
		err := s.download(ctx, s.unmirrored(), batch)
		batch = batch[:0]
		return err
	})
	if err == nil {
		err = s.download(ctx, s.unmirrored(), batch)
	}
	return rest, err
}

// download brings files here, in one transaction.
func (s *Store) download(ctx context.Context, tx *Tx, names []string) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(downloadsAtOnce)
	for _, name := range names {
		group.Go(func() error {
			return tx.put(s.mirror.Class(name), name, func(f *os.File) error {
				_, err := s.mirror.Copy.Download(inner, name, f)
				return err
			})
		})
	}
	if err := group.Wait(); err != nil {
		return errors.Join(err, tx.Abort())
	}
	return finishFill(ctx, tx)
}

const downloadsAtOnce = 16

func finishFill(ctx context.Context, tx *Tx) error {
	if err := tx.Commit(ctx, nil); err != nil {
		return err
	}
	return tx.Done()
}

// unmirrored is a transaction that brings here what is in the bucket.
func (s *Store) unmirrored() *Tx {
	tx := s.Begin()
	tx.unmirrored = true
	return tx
}

// isEmpty tells whether there is nothing in the directory that would be in a copy,
// but for a configuration that any start makes.
func (s *Store) isEmpty() (bool, error) {
	found := errors.New("found")
	err := s.Walk(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(name, "/") || s.mirror.Skip(name) || strings.HasPrefix(d.Name(), durable.TempPrefix) {
			return err
		}
		return found
	})
	if errors.Is(err, found) {
		return false, nil
	}
	return err == nil, err
}
