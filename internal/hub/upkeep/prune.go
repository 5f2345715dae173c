package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"freshet/internal/durable"
	"freshet/internal/hub/quarantine"
	"freshet/internal/hub/repolock"
	"freshet/internal/ostree"
	"freshet/internal/pause"
	"freshet/internal/sqldb"
)

// PruneOptions say what is kept.
type PruneOptions struct {
	Rules Rules
	// Builds is the folder of the builds that are to be published into the
	// repository; what their commits need is kept. Empty for none.
	Builds string
	// Keep are commits that stay for now, whatever the rules say; it is asked when the
	// rules are applied. Nil: none.
	Keep func() []ostree.Checksum
	// Grace is how long an object stays after nothing needed it any more, for
	// uploads that were told that it is there, and clients that are fetching it.
	Grace time.Duration
	// Full looks at every object of the repository for ones that nothing ever
	// needed, left by publishes that failed. The first prune does in any case.
	Full bool
	// DryRun says what would be removed, and changes nothing.
	DryRun bool
	// Now is the time; zero means that of the clock.
	Now time.Time
	// Removed is told of files that were deleted, before it is forgotten that they are
	// to be, and while nobody can publish; nil for nobody. After an error, or a
	// crash, it is told of them again.
	Removed func(ctx context.Context, paths []string) error
	// Log is told what happens, in lines for people; may be nil.
	Log io.Writer
}

// Pruned is what a prune has done.
type Pruned struct {
	Commits int   `json:"commits"`          // known before and no longer kept
	Removed int64 `json:"removed"`          // objects deleted, or that would be
	Bytes   int64 `json:"bytes"`            // of these
	Waiting int64 `json:"waiting"`          // objects that nothing needs, within their grace or needed by a build
	Counted int64 `json:"counted"`          // edges that were looked at: what the prune has cost
	DryRun  bool  `json:"dry_run,omitzero"` // nothing was changed
}

// ErrDamaged says that folders of published commits cannot be read. What they need
// is not known, so that nothing can be removed.
var ErrDamaged = errors.New("the repository is damaged, and nothing is removed from it until it is repaired (freshet hub fsck --repair-from URL)")

// Prune deletes from the repository in dir what nothing needs: the commits that the
// rules do not keep, and what only they needed. Publishes go on meanwhile: the lock
// of the repository is held, alone, for the deletion of a batch of objects only.
// It costs what was published and removed since the last prune; the first one
// reads all folders of all commits.
//
// One prune may run at a time. It can be killed at any moment: what is known is
// changed before anything is deleted, and a later prune goes on.
func Prune(ctx context.Context, dir string, opt PruneOptions) (Pruned, error) {
	pruned, err := prune(ctx, dir, opt)
	if err != nil {
		return pruned, fmt.Errorf("prune %s: %w", dir, err)
	}
	return pruned, nil
}

func prune(ctx context.Context, path string, opt PruneOptions) (_ Pruned, err error) {
	if opt.Now.IsZero() {
		opt.Now = time.Now()
	}
	if opt.Log == nil {
		opt.Log = io.Discard
	}
	p := pruner{opt: opt, path: path, result: Pruned{DryRun: opt.DryRun}}
	if p.repo, err = ostree.OpenRepo(os.DirFS(path)); err != nil {
		return p.result, err
	}
	if p.dir, err = durable.Open(path); err != nil {
		return p.result, err
	}
	defer func() { err = errors.Join(err, p.dir.Root.Close()) }()
	if p.graph, err = openGraph(ctx, path); err != nil {
		return p.result, err
	}
	defer func() { err = errors.Join(err, p.graph.db.Close()) }()
	if opt.DryRun {
		return p.result, p.rehearse(ctx)
	}
	if err := p.mark(ctx); err != nil {
		return p.result, err
	}
	if err := p.scan(ctx); err != nil {
		return p.result, err
	}
	p.printf("%s no longer kept", english.Plural(p.result.Commits, "commit is", "commits are"))
	return p.result, p.sweep(ctx)
}

// pruner is a prune in progress.
type pruner struct {
	opt    PruneOptions
	path   string
	dir    durable.Dir
	repo   *ostree.Repo
	graph  *graph
	result Pruned

	heads map[string]ostree.Checksum // as of the last mark
	apart map[ostree.ObjectName]bool // in quarantine, as of the beginning of the batch
	pins  pins
}

func (p *pruner) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.opt.Log, format+"\n", args...) // a log that cannot be written stops nothing
}

const (
	// batchObjects and batchTime bound how much is deleted while nobody can
	// publish.
	batchObjects = 1000
	batchTime    = 100 * time.Millisecond
	// batchPause lets those have the lock who wait for it, looking now and then.
	batchPause = 100 * time.Millisecond
)

// sweep deletes what nothing needs, batch by batch.
func (p *pruner) sweep(ctx context.Context) error {
	var after []byte // objects that are passed over are not looked at again
	for {
		more, err := p.sweepBatch(ctx, &after)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if !pause.For(ctx, batchPause) {
			return context.Cause(ctx)
		}
	}
	p.printf("%s removed, %s", english.Plural(int(p.result.Removed), "object", ""), humanize.Bytes(uint64(max(p.result.Bytes, 0))))
	return p.graph.db.Read(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM doomed`).Scan(&p.result.Waiting)
	})
}

func (p *pruner) sweepBatch(ctx context.Context, after *[]byte) (more bool, err error) {
	lock, err := repolock.Exclusive(ctx, p.dir.Root)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	// Nobody publishes now: what was published since the last mark counts.
	if err := p.mark(ctx); err != nil {
		return false, err
	}
	batch, err := p.doomed(ctx, *after)
	if err != nil || len(batch) == 0 {
		return false, err
	}
	items, err := quarantine.List(p.dir.Root)
	if err != nil {
		return false, err
	}
	p.apart = make(map[ostree.ObjectName]bool, len(items))
	for _, item := range items {
		p.apart[item.Name] = true
	}
	begun := time.Now()
	var gone []ostree.ObjectName
	for _, name := range batch {
		*after = key(name)
		if p.pins.names.Has(name) {
			continue
		}
		if err := p.remove(name); err != nil {
			return false, err
		}
		if gone = append(gone, name); time.Since(begun) > batchTime {
			break
		}
	}
	return true, p.forget(ctx, gone)
}

// doomed are objects whose grace is over: commits first, then what they needed.
func (p *pruner) doomed(ctx context.Context, after []byte) (batch []ostree.ObjectName, err error) {
	if after == nil {
		after = []byte{0xff}
	}
	err = p.graph.db.Read(ctx, func(tx *sqldb.Tx) error {
		batch, err = queryNames(ctx, tx, `SELECT name FROM doomed WHERE since <= ? AND name < ? ORDER BY name DESC LIMIT ?`,
			p.opt.Now.Add(-p.opt.Grace).Unix(), after, batchObjects)
		return err
	})
	return batch, err
}

// remove deletes an object, and what belongs to it.
func (p *pruner) remove(name ostree.ObjectName) error {
	if p.apart[name] {
		p.result.Removed++
		if err := quarantine.Drop(p.dir, name); err != nil {
			return err
		}
	}
	for _, file := range filesOf(name) {
		info, err := p.dir.Root.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = p.dir.Remove(file)
		}
		if err != nil {
			return err
		}
		p.result.Removed++
		p.result.Bytes += info.Size()
	}
	return nil
}

// filesOf returns the files of an object.
func filesOf(name ostree.ObjectName) []string {
	files := []string{name.Path()}
	if name.Type == ostree.TypeCommit {
		meta := ostree.ObjectName{Checksum: name.Checksum, Type: ostree.TypeCommitMeta}.Path()
		// libostree keeps what a commit needs beside it.
		files = append(files, meta, meta+"2", "state/"+name.Checksum.String()+partialSuffix)
	}
	return files
}

// forget takes deleted objects from the list, once their deletion is on the disk.
func (p *pruner) forget(ctx context.Context, gone []ostree.ObjectName) error {
	if len(gone) == 0 {
		return nil
	}
	if err := p.dir.Syncfs(); err != nil {
		return err
	}
	if p.opt.Removed != nil {
		var files []string
		for _, name := range gone {
			files = append(files, filesOf(name)...)
		}
		if err := p.opt.Removed(ctx, files); err != nil {
			return err
		}
	}
	return p.graph.db.Write(ctx, func(tx *sqldb.Tx) error {
		for _, name := range gone {
			if _, err := tx.Exec(ctx, `DELETE FROM doomed WHERE name = ?`, key(name)); err != nil {
				return err
			}
		}
		return nil
	})
}
