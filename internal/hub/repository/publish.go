package repository

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"freshet/internal/flatpak"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/sign"
	"freshet/internal/store"
)

// Publish brings builds into the repository: in one step, or not at all. When the
// files are in place it calls commit, which writes the result down for good; when
// that returns an error, Publish does too, and the next Open returns the result as
// Pending. A request that cannot be published, for example because an
// object is missing, is in Result.Failed and does not hold up the others; commit
// is called when at least one request is left, even if it changes nothing.
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

	refs  map[string]*planned            // what is going to change
	undo  map[string]*flatpak.CommitInfo // what the index knew before; nil: nothing
	infos map[string][]byte              // what the cache has to keep, by ref
	heads map[string]ostree.Checksum     // new commits of appstream branches
	paths map[string]layout.Class        // what is staged
	led   map[ostree.Checksum]bool       // commits that got static deltas
}

func (r *Repository) begin(ctx context.Context, log *journal) *publication {
	return &publication{
		r:     r,
		ctx:   ctx,
		log:   log,
		now:   uint64(time.Now().Unix()), //nolint:gosec // after 1970
		refs:  map[string]*planned{},
		undo:  map[string]*flatpak.CommitInfo{},
		infos: map[string][]byte{},
		heads: map[string]ostree.Checksum{},
		paths: map[string]layout.Class{},
		led:   map[ostree.Checksum]bool{},
	}
}

func (p *publication) run(requests []PublishRequest, commit func(Result) error) (Result, error) {
	release, err := p.r.acquire(p.ctx)
	if err != nil {
		return Result{}, err
	}
	defer release()
	lock, err := lockShared(p.ctx, p.r.root)
	if err != nil {
		return Result{}, err
	}
	defer lock.release() //nolint:errcheck // nothing was written
	done, err := holdBuilds(requests)
	if err != nil {
		return Result{}, err
	}
	defer done()
	p.log.lap("waiting")

	if err := p.planAll(requests); err != nil {
		p.revert()
		return p.result, err
	}
	p.log.lap("checking")
	if err := p.publish(); err != nil {
		return p.result, err
	}
	if err := p.tell(commit); err != nil {
		return p.result, err
	}
	p.log.lap("database")
	p.log.printf("Published after %s", p.log.total())
	return p.result, nil
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
	for ; len(r.owed) > 0; r.owed = r.owed[1:] {
		if err := r.owed[0].done(); err != nil {
			return err
		}
	}
	return nil
}

// holdBuilds keeps the builds from being removed or committed meanwhile.
func holdBuilds(requests []PublishRequest) (done func(), err error) {
	var held []func()
	done = func() {
		for _, release := range held {
			release()
		}
	}
	seen := map[*Build]bool{nil: true}
	for i := range requests {
		b := requests[i].Build
		if seen[b] {
			continue
		}
		seen[b] = true
		release, err := b.begin()
		if err != nil {
			done()
			return nil, err
		}
		held = append(held, release)
	}
	return done, nil
}

// planAll plans all requests. Of two that publish the same ref the later one counts.
func (p *publication) planAll(requests []PublishRequest) error {
	p.result = Result{Refs: map[string]map[string]string{}, Failed: map[string]error{}}
	var failures []error
	for i := range requests {
		req := &requests[i]
		p.log.printf("Publishing %s into %s: %s", req.Key, p.r.opt.Name, count(len(req.Refs), "ref"))
		refs, err := p.plan(req)
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
			p.refs[c.made.ref] = c
			p.result.Refs[req.Key][c.made.ref] = ""
		}
	}
	if len(p.result.Keys) == 0 {
		return errors.Join(append(failures, ErrNoRefs)[:max(1, len(failures))]...)
	}
	for _, refs := range p.result.Refs {
		for ref := range refs {
			refs[ref] = p.refs[ref].made.sum.String()
		}
	}
	return nil
}

// publish changes the repository, or takes everything back.
func (p *publication) publish() error {
	p.tx = p.r.store.Begin()
	files, err := p.stage()
	if err == nil && len(p.paths) == 0 {
		err = p.tx.Abort()
		p.tx = nil
		p.result.Removed = nil
		p.log.printf("  nothing changes")
		return err
	}
	if err == nil {
		err = p.switchOver()
	}
	if err != nil {
		p.revert()
		for to := range p.led {
			p.r.index.SetDeltas(to, nil)
		}
		return errors.Join(err, p.tx.Abort())
	}
	if files != nil {
		p.r.index.Commit(files)
	}
	p.r.heads.Store(int64(p.r.index.Len()))
	return nil
}

// stage prepares all files.
func (p *publication) stage() (*flatpak.Files, error) {
	changed := p.changedRefs()
	if err := p.stageMedia(); err != nil {
		return nil, err
	}
	if len(changed) == 0 && len(p.undo) == 0 {
		return nil, nil
	}
	if err := p.stageObjects(changed); err != nil {
		return nil, err
	}
	if err := p.stageCommits(changed); err != nil {
		return nil, err
	}
	if err := p.stageDeltas(changed); err != nil {
		return nil, err
	}
	p.log.lap("objects")
	if err := p.stageCatalogue(); err != nil {
		return nil, err
	}
	p.log.lap("catalogue")
	files, err := p.buildSummaries()
	if err != nil {
		return nil, err
	}
	if err := p.stageRefs(changed); err != nil {
		return nil, err
	}
	if err := p.stageSummaries(files); err != nil {
		return nil, err
	}
	p.log.lap("summaries")
	return files, nil
}

// changedRefs returns the refs that get a new commit, sorted, and tells the log
// about all.
func (p *publication) changedRefs() []*planned {
	var changed []*planned
	for _, ref := range sortedKeys(p.refs) {
		c := p.refs[ref]
		switch {
		case c.ref.Kind == flatpak.Screenshots:
			continue
		case !c.changed:
			p.log.printf("  %s: unchanged at %s", ref, short(c.made.sum.String()))
			continue
		}
		changed = append(changed, c)
		before := "new"
		if !c.before.IsZero() {
			before = short(c.before.String())
		}
		p.log.printf("  %s: %s → %s, %s (%s)", ref, before, short(c.made.sum.String()),
			count(len(c.links), "new object"), formatBytes(c.bytes))
		p.result.Stats.ReusedObjects += c.reused
	}
	return changed
}

// stageObjects links what the builds bring.
func (p *publication) stageObjects(changed []*planned) error {
	roots := map[*Build]*os.Root{}
	defer func() {
		for _, root := range roots {
			_ = root.Close() // opened for reading
		}
	}()
	for _, c := range changed {
		for _, name := range c.links {
			if err := context.Cause(p.ctx); err != nil {
				return err
			}
			root := roots[c.build]
			if root == nil {
				var err error
				if root, err = os.OpenRoot(c.build.dir); err != nil {
					return err
				}
				roots[c.build] = root
			}
			file := name.Path()
			if _, ok := p.paths[file]; ok {
				continue
			}
			if err := p.tx.Link(layout.Payload, file, root, file); err != nil {
				return err
			}
			p.paths[file] = layout.Payload
			p.result.Stats.NewObjects++
		}
		p.result.Stats.Bytes += c.bytes
	}
	return nil
}

// stageCommits writes and signs the new commits and takes them into the index.
func (p *publication) stageCommits(changed []*planned) error {
	commits := make([][]byte, len(changed))
	for i, c := range changed {
		commits[i] = c.made.data
	}
	signatures, err := p.sign(commits)
	if err != nil {
		return err
	}
	var infos []flatpak.CommitInfo
	for i, c := range changed {
		if err := p.put(commitName(c.made.sum).Path(), c.made.data); err != nil {
			return err
		}
		p.result.Stats.NewObjects++
		p.result.Stats.Bytes += int64(len(c.made.data))
		if signatures != nil {
			c.made.detached = detached(signatures[i])
			if err := p.put(commitMetaName(c.made.sum).Path(), c.made.detached); err != nil {
				return err
			}
		}
		info, err := c.info()
		if err != nil {
			return err
		}
		if info.CatalogueProblem != "" {
			p.log.printf("  %s: not in the catalogue: %s", c.made.ref, info.CatalogueProblem)
		}
		infos = append(infos, info)
	}
	p.update(infos, nil)
	return nil
}

// info reads what the summaries say of a commit that is not on the disk yet.
func (c *planned) info() (flatpak.CommitInfo, error) {
	made := staged{commitName(c.made.sum).Path(): c.made.data}
	in, err := ostree.OpenRepo(overlay{made, c.in.FS()})
	if err != nil {
		return flatpak.CommitInfo{}, err
	}
	return flatpak.ReadCommitInfo(in, c.made.ref, c.made.sum)
}

// sign signs messages; without a signer there are no signatures.
func (p *publication) sign(messages [][]byte) ([][][]byte, error) {
	if p.r.opt.Signer == nil || len(messages) == 0 {
		return nil, nil
	}
	signatures, err := sign.All(p.ctx, p.r.opt.Signer, messages)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	p.result.Stats.Signatures += len(messages)
	return signatures, nil
}

// classOf returns the class in which a file is published: that of its path. But a
// commit comes after everything that it needs, whether a ref points at it
// or not; a crash must not leave one with a hole.
func classOf(file string) layout.Class {
	if path.Ext(file) == "."+ostree.TypeCommit.Ext() {
		return layout.Index
	}
	return layout.OSTree(file).Class
}

// put stages a file.
func (p *publication) put(file string, data []byte) error {
	class := classOf(file)
	p.paths[file] = class
	return p.tx.PutBytes(class, file, data)
}

// write stages a file that is written piece by piece.
func (p *publication) write(file string, write func(io.Writer) error) (int64, error) {
	class := classOf(file)
	p.paths[file] = class
	return p.tx.Write(class, file, write)
}

// remove stages the removal of a file.
func (p *publication) remove(file string) error {
	class := layout.OSTree(file).Class
	p.paths[file] = class
	return p.tx.Remove(class, file)
}

// stageDeltas takes over the static deltas of the builds.
func (p *publication) stageDeltas(changed []*planned) error {
	for _, c := range changed {
		all, err := p.deltas(c)
		if err != nil {
			p.log.printf("  %s: its static deltas are dropped: %v", c.made.ref, err)
			continue
		}
		var deltas []flatpak.Delta
		for _, d := range all {
			sum, err := p.stageDelta(c, d)
			if err != nil {
				return err
			}
			deltas = append(deltas, flatpak.Delta{From: d.to.Name.From, Superblock: sum})
		}
		if len(deltas) > 0 {
			p.r.index.SetDeltas(c.made.sum, deltas)
			p.led[c.made.sum] = true
			p.log.printf("  %s: %s", c.made.ref, count(len(deltas), "static delta"))
		}
	}
	return nil
}

// stageDelta links the parts of a delta and writes its superblock, of which it
// returns the checksum. A superblock that is there stays, for it is payload: its
// signature may be another one, but is as good.
func (p *publication) stageDelta(c *planned, d carried) (ostree.Checksum, error) {
	root, err := os.OpenRoot(c.build.dir)
	if err != nil {
		return ostree.Checksum{}, err
	}
	defer root.Close() //nolint:errcheck // opened for reading
	for part := range d.to.Parts {
		from, to := d.from.Name.PartPath(part), d.to.Name.PartPath(part)
		if d.to.Metadata.Has(to) {
			continue // inline
		}
		if err := p.tx.Link(layout.Payload, to, root, from); err != nil {
			return ostree.Checksum{}, err
		}
		p.paths[to] = layout.Payload
	}
	file := d.to.Name.SuperblockPath()
	data, err := p.r.root.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		data = d.to.Encode()
		err = p.put(file, data)
	}
	return ostree.ChecksumOf(data), err
}

// stageCatalogue makes the appstream branches.
func (p *publication) stageCatalogue() error {
	commits, err := p.r.index.BuildAppstream(p, flatpak.AppstreamOptions{CollectionID: p.r.opt.CollectionID, Now: p.now})
	if err != nil {
		return err
	}
	messages := make([][]byte, len(commits))
	infos := make([]flatpak.CommitInfo, len(commits))
	for i, commit := range commits {
		messages[i] = commit.Object
		infos[i] = commit.Info
	}
	signatures, err := p.sign(messages)
	if err != nil {
		return err
	}
	for i, commit := range commits {
		if signatures != nil {
			if err := p.put(commitMetaName(commit.Info.Checksum).Path(), detached(signatures[i])); err != nil {
				return err
			}
		}
		p.heads[commit.Info.Ref] = commit.Info.Checksum
		p.log.printf("  %s: %s", commit.Info.Ref, short(commit.Info.Checksum.String()))
	}
	p.update(infos, nil)
	return nil
}

// Has and Put take the objects of the catalogue: ostree.Sink.
func (p *publication) Has(name ostree.ObjectName) (bool, error) {
	if _, ok := p.paths[name.Path()]; ok {
		return true, nil
	}
	return p.r.objects.Has(name)
}

// Put implements ostree.Sink.
func (p *publication) Put(name ostree.ObjectName, write func(io.Writer) error) error {
	size, err := p.write(name.Path(), write)
	p.result.Stats.NewObjects++
	p.result.Stats.Bytes += size
	return err
}

func (p *publication) buildSummaries() (*flatpak.Files, error) {
	opt := flatpak.BuildOptions{
		Repo:          p.r.opt.repoInfo(),
		Now:           p.now,
		SummaryArches: p.r.opt.SummaryArches,
	}
	if sign := signWith(p.ctx, p.r.opt.Signer); sign != nil {
		opt.Sign = func(data []byte) ([][]byte, error) {
			p.result.Stats.Signatures++
			return sign(data)
		}
	}
	return p.r.index.Build(opt)
}

func (p *publication) stageSummaries(files *flatpak.Files) error {
	for i := range files.Write {
		f := &files.Write[i]
		_, err := p.write(f.Path, func(w io.Writer) error {
			_, err := f.WriteTo(w)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, file := range files.Remove {
		if err := p.remove(file); err != nil {
			return err
		}
	}
	return nil
}

// stageRefs points the refs at the new commits and writes the files by which
// people find them.
func (p *publication) stageRefs(changed []*planned) error {
	for _, c := range changed {
		ref := ostree.RefFile(c.made.sum)
		if err := p.put(ostree.RefPath(c.made.ref), ref); err != nil {
			return err
		}
		for _, collection := range c.extra {
			if err := p.put(ostree.MirrorRefPath(collection, c.made.ref), ref); err != nil {
				return err
			}
		}
		file, data, err := p.r.opt.refFile(c.ref)
		if err == nil && file != "" {
			err = p.putChanged(file, data)
		}
		if err != nil {
			return err
		}
	}
	for _, ref := range sortedKeys(p.heads) {
		if err := p.put(ostree.RefPath(ref), ostree.RefFile(p.heads[ref])); err != nil {
			return err
		}
	}
	return nil
}

// putChanged stages a file unless it is there as it is.
func (p *publication) putChanged(file string, data []byte) error {
	if before, err := p.r.root.ReadFile(file); err == nil && bytes.Equal(before, data) {
		return nil
	}
	return p.put(file, data)
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

// refresh brings summaries, catalogue and .flatpakrepo files up to date with the
// refs and the options when the repository is opened. Usually nothing changes.
func (r *Repository) refresh(ctx context.Context, reconfigured bool) error {
	p := r.begin(ctx, newJournal(nil))
	lock, err := lockShared(ctx, r.root)
	if err != nil {
		return err
	}
	defer lock.release() //nolint:errcheck // nothing was written
	p.result.Keys = []string{fmt.Sprintf("refresh-%d", time.Now().UnixNano())}
	p.tx = r.store.Begin()
	files, err := p.stageRefresh(reconfigured)
	if err == nil && len(p.paths) == 0 {
		return p.tx.Abort()
	}
	if err == nil {
		err = p.switchOver()
	}
	if err != nil {
		p.revert()
		return errors.Join(err, p.tx.Abort())
	}
	if files != nil {
		r.index.Commit(files)
	}
	return nil
}

func (p *publication) stageRefresh(reconfigured bool) (*flatpak.Files, error) {
	repoFiles, err := p.r.opt.repoFiles()
	if err != nil {
		return nil, err
	}
	for _, file := range sortedKeys(repoFiles) {
		if err := p.putChanged(file, repoFiles[file]); err != nil {
			return nil, err
		}
	}
	if err := p.stageCatalogue(); err != nil {
		return nil, err
	}
	files, err := p.buildSummaries()
	if err != nil {
		return nil, err
	}
	if !reconfigured && len(p.heads) == 0 && !p.outdated(files) {
		return nil, nil
	}
	if reconfigured {
		p.paths[configFile] = layout.Index
	}
	if err := p.stageRefs(nil); err != nil {
		return nil, err
	}
	return files, p.stageSummaries(files)
}

// outdated tells whether the summaries on disk are not those of the refs.
func (p *publication) outdated(files *flatpak.Files) bool {
	for i := range files.Write {
		file := files.Write[i].Path
		switch dir := path.Dir(file); {
		case dir == "summaries" && path.Ext(file) != ".sig", path.Ext(file) == ".index":
			return true
		case dir == ".":
			if _, err := p.r.root.Stat(file); err != nil {
				return true
			}
		}
	}
	return false
}
