package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/durable"
	"freshet/internal/layout"
	"freshet/internal/pause"
	"freshet/internal/store/bucket"
)

// fillBatch bounds how many files are on their way between directory and bucket
// before they are made durable.
const fillBatch = 256

// filler fills the copy, or the directory, and tells of it.
type filler struct {
	*Store
	told Filling
}

func (s *Store) filler(copied bool) *filler { return &filler{s, Filling{Copy: copied}} }

// add tells that files were transferred; of none, that it begins.
func (f *filler) add(files []bucket.Here) {
	f.told.Files += int64(len(files))
	for _, file := range files {
		f.told.Bytes += file.Size
	}
	f.mirror.Filling(f.told)
}

// end tells that all is there, if there was something to transfer.
func (f *filler) end() {
	if f.told.Files > 0 {
		f.told.Ended = true
		f.mirror.Filling(f.told)
	}
}

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
	f := s.filler(true)
	f.add(nil)
	for class := layout.Payload; class <= layout.Pointer; class++ {
		if err := f.upload(ctx, class); err != nil {
			return err
		}
	}
	if err := s.mirror.Copy.Begin(ctx, here.ID, fence); err != nil {
		return err
	}
	f.end()
	return s.writeMirrorState(mirrorState{ID: here.ID})
}

// upload brings the files of a class to the bucket: what is there of an earlier
// attempt is compared, unless it is payload.
func (f *filler) upload(ctx context.Context, class layout.Class) error {
	send := f.create
	if class != layout.Payload {
		send = f.overwrite
	}
	b := gathering{send: send}
	for file, err := range bucket.Files(f.FS(), ".", f.mirror.Skip) {
		if err == nil && f.mirror.Class(file.Path) == class {
			err = b.add(ctx, file)
		}
		if err != nil {
			return err
		}
	}
	return b.flush(ctx)
}

// gathering has files that are sent together.
type gathering struct {
	send  func(context.Context, []bucket.Here) error
	files []bucket.Here
}

func (b *gathering) add(ctx context.Context, file bucket.Here) error {
	if b.files = append(b.files, file); len(b.files) < fillBatch {
		return nil
	}
	return b.flush(ctx)
}

func (b *gathering) flush(ctx context.Context) error {
	if len(b.files) == 0 {
		return nil
	}
	err := b.send(ctx, b.files)
	b.files = b.files[:0]
	return err
}

// create uploads files that the bucket does not have.
func (f *filler) create(ctx context.Context, files []bucket.Here) error {
	all := make([]bucket.Upload, len(files))
	for i, file := range files {
		all[i] = bucket.Upload{Path: file.Path, Open: func() (*os.File, error) { return f.Open(file.Path) }}
	}
	if err := f.mirror.Copy.Upload(ctx, all); err != nil {
		return err
	}
	f.add(files)
	return nil
}

// overwrite uploads files whatever the bucket has.
func (f *filler) overwrite(ctx context.Context, files []bucket.Here) error {
	for _, file := range files {
		from, err := f.Open(file.Path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.mirror.Copy.Overwrite(ctx, file.Path, from), from.Close()); err != nil {
			return err
		}
	}
	f.add(files)
	return nil
}

// bringBack uploads what the directory has and the bucket lacks, because it was removed
// there since the directory was as it is, and then makes state its own. Pointers are
// the same in both.
func (s *Store) bringBack(ctx context.Context, state mirrorState) error {
	next, stop := iter.Pull2(bucket.Files(s.FS(), ".", s.mirror.Skip))
	defer stop()
	f := s.filler(true)
	b := gathering{send: f.create}
	file, err, more := next()
	// before brings back the files that come before a path; "" for all.
	before := func(path string) error {
		for ; more && err == nil && (path == "" || file.Path < path); file, err, more = next() {
			if s.mirror.Class(file.Path) == layout.Pointer {
				continue
			}
			if err := b.add(ctx, file); err != nil {
				return err
			}
		}
		return err
	}
	listErr := s.mirror.Copy.List(ctx, func(path string, _ bucket.Object) error {
		if err := before(path); err != nil {
			return err
		}
		if more && file.Path == path {
			file, err, more = next()
		}
		return err
	})
	if listErr != nil {
		return listErr
	}
	if err := before(""); err != nil {
		return err
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	f.end()
	return s.writeMirrorState(state)
}

// fillDirectory downloads everything: payload first, and in the end all that leads
// to it, in one transaction.
func (s *Store) fillDirectory(ctx context.Context, state mirrorState) error {
	filling := state
	filling.Filling = fillingDirectory
	if err := s.writeMirrorState(filling); err != nil {
		return err
	}
	f := s.filler(false)
	f.add(nil)
	rest, err := f.downloadPayload(ctx)
	if err != nil {
		return err
	}
	last := s.unmirrored()
	last.state = &state
	if err := f.download(ctx, last, rest); err != nil {
		return err
	}
	f.end()
	return nil
}

// downloadPayload brings here the payload that is in the bucket alone, and lists what
// is no payload.
func (f *filler) downloadPayload(ctx context.Context) (rest []bucket.Here, err error) {
	b := gathering{send: func(ctx context.Context, files []bucket.Here) error { return f.download(ctx, f.unmirrored(), files) }}
	err = f.mirror.Copy.List(ctx, func(name string, there bucket.Object) error {
		file := bucket.Here{Path: name, Size: there.Size}
		if f.mirror.Class(name) != layout.Payload {
			rest = append(rest, file)
			return nil
		}
		if info, err := f.Stat(name); err == nil && info.Size() == there.Size || f.mirror.Apart(name) {
			return nil
		}
		return b.add(ctx, file)
	})
	if err == nil {
		err = b.flush(ctx)
	}
	return rest, err
}

// download brings files here, in one transaction.
func (f *filler) download(ctx context.Context, tx *Tx, files []bucket.Here) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(downloadsAtOnce)
	for _, file := range files {
		group.Go(func() error {
			return tx.put(f.mirror.Class(file.Path), file.Path, func(to *os.File) error { return f.fetch(inner, file.Path, to) })
		})
	}
	if err := group.Wait(); err != nil {
		return errors.Join(err, tx.Abort())
	}
	if err := finishFill(ctx, tx); err != nil {
		return err
	}
	f.add(files)
	return nil
}

const (
	downloadsAtOnce = 16

	// A download that breaks off is tried so often, with pauses that begin with this one
	// and double.
	downloadAttempts = 5
	downloadPause    = 200 * time.Millisecond
)

// fetch downloads a file; again, if that breaks off.
func (f *filler) fetch(ctx context.Context, name string, to *os.File) error {
	for wait := downloadPause; ; wait *= 2 {
		_, err := f.mirror.Copy.Download(ctx, name, to)
		if !errors.Is(err, bucket.ErrAway) || wait == downloadPause<<(downloadAttempts-1) || !pause.For(ctx, wait) {
			return err
		}
		if _, err := to.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := to.Truncate(0); err != nil {
			return err
		}
	}
}

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
