package diskcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"freshet/internal/edge/diskcache/index"
)

// ErrNoStore says that a folder holds no store, or none that can be told from
// another: an edge would begin a new one there.
var ErrNoStore = errors.New("is no store of an edge")

// Inspection is a store that is looked at while no edge uses it. It does what
// a start does to what a crash left; beyond that nothing changes but what is
// asked for: nothing is evicted, no ban is forgotten. It is not safe for
// concurrent use.
type Inspection struct{ *Store }

// Inspect opens the store in dir, whatever its size. Unlike [Open] it makes
// none where there is none ([ErrNoStore]). Keys is as in [Options], and the log
// receives what was repaired. The error wraps [ErrInUse] while an edge uses it.
func Inspect(ctx context.Context, dir string, keys func(*Meta) []Key, log *slog.Logger) (*Inspection, error) {
	head, err := os.ReadFile(filepath.Join(dir, storeFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s %w", dir, ErrNoStore)
	case err != nil:
		return nil, fmt.Errorf("store %s: %w", dir, err)
	case len(head) != len(storeMagic)+16 || string(head[:len(storeMagic)]) != storeMagic:
		return nil, fmt.Errorf("%s %w: its file %q is damaged or of another version", dir, ErrNoStore, storeFile)
	}
	const anySize = 1 << 60
	s, err := Open(ctx, dir, Options{Size: anySize, Memory: -1, Keys: keys, Log: log, inspect: true})
	if err != nil {
		return nil, err
	}
	return &Inspection{s}, nil
}

// Close writes what is not written yet and gives the store up. What the
// superuser's inspection made is left to the owner of the folder, who could
// not use it otherwise.
func (i *Inspection) Close() error {
	err := i.Sync()
	return errors.Join(err, i.giveBack(), i.Store.Close())
}

func (i *Inspection) giveBack() error {
	h := i.home.Load()
	var owner unix.Stat_t
	if err := unix.Fstat(int(h.self.Fd()), &owner); err != nil || os.Geteuid() != 0 || owner.Uid == 0 {
		return err
	}
	return fs.WalkDir(h.root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case name == "seg" || path.Dir(name) == "big":
			return fs.SkipDir // nothing is made there
		}
		return h.root.Lchown(name, int(owner.Uid), int(owner.Gid))
	})
}

// Entries yields every entry that would be found, in the order in which they
// lie on the disk, until ctx ends. Each is valid until the next, with the
// exception of its Meta; it may be deleted.
func (i *Inspection) Entries(ctx context.Context) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		buf := make([]byte, walkBuffer)
		for _, seg := range i.segs.all() {
			more := true
			seg.refs.Add(1)
			err := seg.walk(buf, nil, func(f found) bool {
				it, ok := i.itemAt(seg, f.id, f.off)
				if !ok {
					return ctx.Err() == nil
				}
				e, err := i.entryOf(seg, f, it)
				if err == nil && !e.banned() {
					more = yield(e)
				}
				return more && ctx.Err() == nil
			})
			seg.release()
			if err != nil {
				i.opts.Log.WarnContext(ctx, "read a segment", slog.String("segment", seg.name()), slog.Any("error", err))
			}
			if !more || ctx.Err() != nil {
				return
			}
		}
	}
}

func (i *Inspection) entryOf(seg *segment, f found, it index.Item) (*Entry, error) {
	e, err := i.parse(f.raw, seg.seedAt(f.off), it)
	if err == nil {
		e.seg = seg.num
	}
	return e, err
}

// itemAt returns the index's item for a record, if it has one there.
func (i *Inspection) itemAt(seg *segment, id ID, off int64) (it index.Item, ok bool) {
	i.index.View(index.Key(id), false, func(now index.Item) {
		it, ok = now, now.Seg == seg.place && int64(now.Off)*unit == off
	})
	return it, ok
}

// Large is how many bodies have files of their own, and what these take on the
// disk.
func (i *Inspection) Large() (files int, bytes int64) {
	for shard := range index.Shards {
		i.index.Range(shard, func(it index.Item) {
			if it.Flags&flagFile != 0 {
				files++
				bytes += fileCost(it)
			}
		})
	}
	return files, bytes
}

// InFile reports whether the body has a file of its own.
func (e *Entry) InFile() bool { return e.inFile() }
