package repository

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"freshet/internal/flatpak"
	"freshet/internal/hub/repolock"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/store"
)

// Publish brings builds into the repository: in one step, or not at all. When the
// files are in place it calls commit, which writes the result down for good; when
// that returns an error, Publish does too, and the next Open returns the result as
// Pending. A request that cannot be published, for example because an
// object is missing, is in Result.Failed and does not hold up the others; commit
// is called when at least one request is left, even if it changes nothing.
//
// Where that comes to light only when everything is put together, the requests
// are published one by one, and commit is called for each. The result is then
// that of all.
func (r *Repository) Publish(ctx context.Context, requests []PublishRequest, log io.Writer, commit func(Result) error) (Result, error) {
	p := r.begin(ctx, newJournal(log))
	result, err := p.run(requests, commit)
	if err != nil {
		return result, fmt.Errorf("publish into %s: %w", r.opt.Name, err)
	}
	return result, nil
}

// publication is one Publish in progress.
type publication struct {
	r      *Repository
	ctx    context.Context //nolint:containedctx // lives as long as the call
	log    *journal
	now    uint64
	tx     *store.Tx
	result Result

	refs   map[string]*planned                 // what is going to change
	undo   map[string]*flatpak.CommitInfo      // what the index knew before; nil: nothing
	infos  map[string][]byte                   // what the cache has to keep, by ref
	taken  map[string]ostree.Checksum          // refs to remove, with the commits that they have
	made   staged                              // objects of the catalogue, for its checkout
	former map[string]uint64                   // times of the last commits of refs that were removed
	heads  map[string]ostree.Checksum          // new commits of appstream branches
	paths  map[string]layout.Class             // what is staged
	led    map[ostree.Checksum][]flatpak.Delta // commits that got or lost static deltas, with those before
	gone   map[*Build]error                    // builds that are not there for us
	media  mediaPlan
}

func (r *Repository) begin(ctx context.Context, log *journal) *publication {
	return &publication{
		r:     r,
		ctx:   ctx,
		log:   log,
		now:   uint64(time.Now().Unix()),
		refs:  map[string]*planned{},
		undo:  map[string]*flatpak.CommitInfo{},
		infos: map[string][]byte{},
		taken: map[string]ostree.Checksum{},
		made:  staged{},
		heads: map[string]ostree.Checksum{},
		paths: map[string]layout.Class{},
		led:   map[ostree.Checksum][]flatpak.Delta{},
		gone:  map[*Build]error{},
		media: mediaPlan{files: map[string]*planned{}, folders: map[string]bool{}},
	}
}

func (p *publication) run(requests []PublishRequest, commit func(Result) error) (Result, error) {
	release, err := p.r.acquire(p.ctx)
	if err != nil {
		return Result{}, err
	}
	defer release()
	lock, err := repolock.Shared(p.ctx, p.r.root)
	if err != nil {
		return Result{}, err
	}
	defer lock.Release() //nolint:errcheck // nothing was written
	defer p.holdBuilds(requests)()
	p.log.lap("waiting")

	if err := p.planAll(requests); err != nil {
		p.revert()
		return p.result, err
	}
	p.log.lap("checking")
	if err := p.publish(); err != nil {
		if len(p.result.Keys) > 1 && p.mayBeOneOf(err) {
			return p.singly(requests, err, commit)
		}
		return p.result, err
	}
	// The log ends here: who reads of the end wants to have read everything.
	p.log.printf("Published after %s", p.log.total())
	return p.result, p.tell(commit)
}

// tell hands the result to the caller.
func (p *publication) tell(commit func(Result) error) error {
	r := p.r
	if p.tx != nil {
		r.owed = append(r.owed, owed{p.result.Changed, p.result.Removed, p.tx.Done})
	}
	p.result.Changed, p.result.Removed = nil, nil
	for _, o := range r.owed {
		p.result.Changed = append(p.result.Changed, o.changed...)
		p.result.Removed = append(p.result.Removed, o.removed...)
	}
	slices.Sort(p.result.Changed)
	p.result.Changed = slices.Compact(p.result.Changed)
	p.result.Infos = p.cacheInfos()
	if err := commit(p.result); err != nil {
		return fmt.Errorf("the repository is published, but not recorded: %w", err)
	}
	for _, info := range p.result.Infos {
		delete(r.unsaved, info.Ref)
	}
	for _, ref := range p.result.Removed {
		delete(r.unsaved, ref)
	}
	for ; len(r.owed) > 0; r.owed = r.owed[1:] {
		if err := r.owed[0].done(); err != nil {
			return err
		}
	}
	return nil
}

// holdBuilds keeps the builds from being removed or committed meanwhile. Those
// that cannot be had, or that an edit has left damaged, are in p.gone.
func (p *publication) holdBuilds(requests []PublishRequest) (done func()) {
	var held []func()
	seen := map[*Build]bool{nil: true}
	for i := range requests {
		b := requests[i].Build
		if seen[b] {
			continue
		}
		seen[b] = true
		if release, err := b.begin(p.ctx); err != nil {
			p.gone[b] = err
		} else {
			held = append(held, release)
			if err := b.verifyEdit(p.ctx); err != nil {
				p.gone[b] = err
			}
		}
	}
	return func() {
		for _, release := range held {
			release()
		}
	}
}

// planAll plans all requests. Of two that publish the same ref the later one
// counts; but screenshots refs are called the same in all builds.
func (p *publication) planAll(requests []PublishRequest) error {
	p.result = Result{Refs: map[string]map[string]string{}, Failed: map[string]error{}}
	var err error
	if p.former, err = readFormer(p.r.root); err != nil {
		return err
	}
	var failures []error
	for i := range requests {
		req := &requests[i]
		p.log.printf("Publishing %s into %s: %s", req.Key, p.r.opt.Name, req.amount())
		refs, taken, err := p.plan(req)
		if err != nil {
			if cause := context.Cause(p.ctx); cause != nil {
				return cause
			}
			p.log.printf("  %s cannot be published: %v", req.Key, err)
			p.result.Failed[req.Key] = err
			failures = append(failures, fmt.Errorf("%s: %w", req.Key, err))
			continue
		}
		p.result.Keys = append(p.result.Keys, req.Key)
		p.result.Refs[req.Key] = map[string]string{}
		for _, c := range refs {
			p.result.Refs[req.Key][c.made.ref] = c.made.sum.String()
			if c.ref.Kind == flatpak.Screenshots {
				p.media.add(c)
			} else {
				p.refs[c.made.ref] = c
				delete(p.taken, c.made.ref)
			}
		}
		for ref, before := range taken {
			p.result.Refs[req.Key][ref] = ""
			p.taken[ref] = before
			delete(p.refs, ref)
		}
	}
	if len(p.result.Keys) == 0 {
		return errors.Join(append(failures, ErrNoRefs)[:max(1, len(failures))]...)
	}
	for _, refs := range p.result.Refs {
		for ref := range refs {
			if c := p.refs[ref]; c != nil {
				refs[ref] = c.made.sum.String()
			} else if _, ok := p.taken[ref]; ok {
				refs[ref] = ""
			}
		}
	}
	return nil
}

// publish makes what was planned the state of the repository.
func (p *publication) publish() error { return p.change(p.stage) }

// change makes what stage stages the state of the repository, or takes everything
// back.
func (p *publication) change(stage func() (*flatpak.Files, error)) error {
	p.tx = p.r.store.Begin()
	files, err := stage()
	if err == nil && len(p.paths) == 0 {
		err = p.tx.Abort()
		p.tx = nil
		p.result.Removed = nil
		p.result.Serial = p.r.index.Serial()
		p.log.printf("  nothing changes")
		return err
	}
	if err == nil {
		err = p.switchOver()
	}
	if err != nil {
		p.revert()
		return errors.Join(err, p.tx.Abort())
	}
	if files != nil {
		p.r.index.Commit(files)
	}
	p.r.known.Store(p.r.index.Snapshot())
	return nil
}

// switchOver makes the staged files the published ones.
func (p *publication) switchOver() error {
	for file := range p.paths {
		if layout.OSTree(file).Mutable() {
			p.result.Changed = append(p.result.Changed, file)
		}
	}
	slices.Sort(p.result.Changed)
	p.result.Infos = p.newInfos()
	note, err := json.Marshal(p.result)
	if err != nil {
		return err
	}
	if err := p.tx.Commit(p.ctx, note); err != nil {
		return err
	}
	for ref := range p.infos {
		p.r.unsaved[ref] = true
	}
	s := &p.result.Stats
	p.log.lap("switching")
	p.log.printf("  %s written (%s), %d there already, %s", count(s.NewObjects, "object"), formatBytes(s.Bytes),
		s.ReusedObjects, count(s.Signatures, "signature"))
	return nil
}

// newInfos is what this publish found out.
func (p *publication) newInfos() []RefInfo {
	infos := make([]RefInfo, 0, len(p.infos))
	for _, ref := range sortedKeys(p.infos) {
		if info, ok := p.r.index.Get(ref); ok {
			infos = append(infos, RefInfo{Ref: ref, Commit: info.Checksum.String(), Blob: p.infos[ref]})
		}
	}
	return infos
}

// cacheInfos is what the cache does not know yet: of this publish, and of those
// before that it was not told of.
func (p *publication) cacheInfos() []RefInfo {
	infos := make([]RefInfo, 0, len(p.r.unsaved))
	for _, ref := range sortedKeys(p.r.unsaved) {
		if info, ok := p.r.index.Get(ref); ok {
			infos = append(infos, RefInfo{Ref: ref, Commit: info.Checksum.String(), Blob: info.Encode()})
		}
	}
	return infos
}
