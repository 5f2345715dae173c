package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"freshet/internal/durable"
	"freshet/internal/hub/nameset"
	"freshet/internal/hub/quarantine"
	"freshet/internal/ostree"
	"freshet/internal/sign"
)

// CheckOptions say how thoroughly a repository is checked, and what is done about
// damage. The zero value checks everything and repairs nothing.
type CheckOptions struct {
	// Incremental checks what was published since the last check that found the
	// repository sound; without such a check, everything.
	Incremental bool
	// DryRun changes nothing: no repair, and the result is not remembered.
	DryRun bool
	// Repair are other copies of the repository, from which what is damaged or missing is
	// fetched: from the first one that has it. Without any nothing is repaired.
	Repair []Source
	// Quarantine moves damaged objects that cannot be repaired out of the way of
	// clients, see package quarantine.
	Quarantine bool
	// Kept is called for each object that is in quarantine in the end, by one goroutine;
	// may be nil.
	Kept func(quarantine.Item)
	// Copied is the copy of the repository in a bucket, which is compared with it; nil
	// where there is none.
	Copied *Copied
	// Keys are the OpenPGP public keys, armored or binary, of which each head and
	// each summary must have a signature. Default: those in the repository's
	// .flatpakrepo files; without any, signatures are not checked.
	Keys []byte
	// Workers is how many objects are read at the same time. Default: one for each
	// processor.
	Workers int
	// Progress is called now and then, by one goroutine at a time; may be nil.
	Progress func(Progress)
	// Found is called for each problem, by one goroutine at a time; may be nil.
	Found func(Problem)
}

// Progress says how far a check is.
type Progress struct {
	Phase       string // "objects", "refs" or "deltas"
	Done, Total int64  // of the phase, in units of its own
	Objects     int64  // verified so far
	Bytes       int64  // read of objects so far
}

// The kinds of a Problem.
const (
	KindMissing   = "missing"   // something needs the file, and it is not there
	KindDamaged   = "damaged"   // the content is not what the name says
	KindRef       = "ref"       // a ref does not name a commit
	KindSummary   = "summary"   // a summary disagrees with the refs, or with its index
	KindSignature = "signature" // no key of the repository has signed it
	KindDelta     = "delta"     // a static delta or delta index cannot be used
	KindApart     = "apart"     // something needs the file, and it is in quarantine
	KindCopy      = "copy"      // the bucket does not have what the directory has
)

// Problem is something that is wrong with a repository.
type Problem struct {
	Kind     string `json:"kind"`
	Path     string `json:"path"`              // of the file
	Ref      string `json:"ref,omitempty"`     // one that needs it, if a ref does
	In       string `json:"in,omitempty"`      // the path in the tree of the ref
	Error    string `json:"error"`             // what is wrong
	Repaired bool   `json:"repaired"`          // it was replaced by what it should be
	Apart    bool   `json:"apart,omitzero"`    // it was moved into quarantine
	Failure  string `json:"failure,omitempty"` // why it could not be repaired
}

// Report is the result of a check.
type Report struct {
	Incremental bool  `json:"incremental"`
	Refs        int   `json:"refs"`
	Commits     int   `json:"commits"` // reached, parents that are still there included
	Objects     int64 `json:"objects"` // verified
	Bytes       int64 `json:"bytes"`   // of these, as stored
	Deltas      int   `json:"deltas"`  // verified

	Problems int `json:"problems"`
	Repaired int `json:"repaired"` // of the problems

	// What nothing needs: no problem, and what a prune is there for. Only a full
	// check counts it.
	Orphans     int64 `json:"orphans"`
	OrphanBytes int64 `json:"orphan-bytes"`
	// Objects in quarantine, needed or not.
	Apart int `json:"apart"`
	// Files below objects that are none.
	Strangers int64 `json:"strangers"`
	// Files of the copy that were compared, and those that are in the bucket alone.
	CopyFiles int64 `json:"copy-files,omitzero"`
	CopyExtra int64 `json:"copy-extra,omitzero"`
}

// Sound tells whether nothing is wrong, or any more.
func (r *Report) Sound() bool { return r.Problems == r.Repaired }

// Check verifies the archive repository in dir: the content of objects, that all
// is there that refs and the parents of their commits need, signatures, that the
// summaries say what the refs say, and static deltas. It may run while others
// publish. When it finds the repository sound, it remembers what it saw for the
// next incremental check.
//
// The error says that the check could not be made, not what it has found.
func Check(ctx context.Context, dir string, opt CheckOptions) (Report, error) {
	c := checker{opt: opt, broken: map[ostree.ObjectName]error{}, wrong: map[string]bool{}}
	if c.opt.Workers <= 0 {
		c.opt.Workers = runtime.GOMAXPROCS(0)
	}
	report, err := c.run(ctx, dir)
	if err != nil {
		return report, fmt.Errorf("check %s: %w", dir, err)
	}
	return report, nil
}

// checker is a check in progress.
type checker struct {
	opt  CheckOptions
	dir  durable.Dir
	repo *ostree.Repo
	fix  repairer
	keys *sign.Verifier // nil: unknown
	// gentle leaves the page cache as it was.
	gentle bool

	before remembered // what the last sound check saw
	seen   remembered // what this one has seen

	sound   nameset.Set // objects verified
	reached nameset.Set // objects that something needs

	mu     sync.Mutex // guards what follows
	broken map[ostree.ObjectName]error
	wrong  map[string]bool // paths of problems that are left
	report Report
}

func (c *checker) run(ctx context.Context, path string) (_ Report, err error) {
	if _, err := os.Stat(path); err != nil {
		return c.report, err // durable.Open would make it
	}
	if c.dir, err = durable.Open(path); err != nil {
		return c.report, err
	}
	defer func() { err = errors.Join(err, c.dir.Root.Close()) }()
	if c.repo, err = ostree.OpenRepo(os.DirFS(path)); err != nil {
		return c.report, err
	}
	if err := errors.Join(c.loadKeys(), c.prepareRepair(ctx)); err != nil {
		return c.report, err
	}
	if c.opt.Incremental {
		if c.before, err = readRemembered(c.dir.Root); err != nil {
			return c.report, err
		}
	}
	c.report.Incremental = c.before.any()
	if err := c.distrust(); err != nil {
		return c.report, err
	}
	for _, step := range []func(context.Context) error{c.checkObjects, c.checkRefs, c.reportBroken, c.checkApart, c.checkPartials, c.checkPointers, c.checkDeltas, c.countOrphans} {
		if err := step(ctx); err != nil {
			return c.report, err
		}
	}
	if c.report.Sound() && !c.opt.DryRun {
		if err := c.seen.write(c.dir); err != nil {
			return c.report, err
		}
	}
	err = c.checkCopy(ctx)
	return c.report, err
}

// verify reads an object to its end.
func (c *checker) verify(name ostree.ObjectName) error {
	f, err := c.repo.Open(name)
	if err != nil {
		return err
	}
	done := func() {}
	if c.gentle {
		done = leaveCache(f)
	}
	info, err := ostree.VerifyObject(name, f)
	done()
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	c.sound.Add(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Objects++
	c.report.Bytes += info.Stored
	return nil
}

// found takes a problem into the report.
func (c *checker) found(p Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Problems++
	if p.Repaired {
		c.report.Repaired++
	} else if c.wrong != nil {
		c.wrong[p.Path] = true
	}
	if c.opt.Found != nil {
		c.opt.Found(p)
	}
}

// told reports whether a problem with the file was found that is not repaired.
func (c *checker) told(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrong[path]
}

// progress tells how far the check is.
func (c *checker) progress(phase string, done, total int64) {
	if c.opt.Progress == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opt.Progress(Progress{phase, done, total, c.report.Objects, c.report.Bytes})
}

// bad tells an object that is not what it should be, repairs it if that can be
// done, and reports whether it is sound now.
func (c *checker) bad(ctx context.Context, name ostree.ObjectName, cause error, ref, in string) bool {
	p := Problem{Kind: KindDamaged, Path: name.Path(), Ref: ref, In: in, Error: ostree.Reason(cause)}
	if errors.Is(cause, fs.ErrNotExist) {
		p.Kind, p.Error = KindMissing, "it is not there"
		if apart, err := quarantine.Has(c.dir.Root, name); err == nil && apart {
			p.Kind, p.Error = KindApart, "it is in quarantine"
		}
	}
	err := c.mend(ctx, name, &p)
	switch {
	case err == nil:
		p.Repaired = true
		c.sound.Add(name)
		delete(c.broken, name)
	case !errors.Is(err, errNoRepair):
		p.Failure = err.Error()
		fallthrough
	default:
		c.broken[name] = nil // it has been told
	}
	c.found(p)
	return p.Repaired
}

// mend repairs an object, or else sees to it that nobody is served a damaged one; the
// error says why it is not sound.
func (c *checker) mend(ctx context.Context, name ostree.ObjectName, p *Problem) error {
	if p.Kind == KindApart && !c.opt.DryRun {
		if restored, err := quarantine.Restore(ctx, c.dir, name); restored || err != nil {
			return err
		}
	}
	err := c.fix.object(ctx, name, c.verifyDetached)
	switch {
	case err == nil:
		return quarantine.Drop(c.dir, name)
	case p.Kind != KindDamaged || !c.opt.Quarantine || c.opt.DryRun:
		return err
	}
	sound, apartErr := c.setApart(ctx, name, p)
	if sound && apartErr == nil {
		return nil
	}
	if apartErr != nil && errors.Is(err, errNoRepair) {
		return apartErr
	}
	return errors.Join(err, apartErr)
}
