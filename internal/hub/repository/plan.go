package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

// planned is a ref that a publish is going to change.
type planned struct {
	ref    flatpak.Ref
	source ostree.Checksum // the commit of the build
	before ostree.Checksum // the commit that the ref has now, zero for none
	build  *Build          // nil: nothing comes from a build
	in     *ostree.Repo    // the repository and the build
	extra  []string        // further collection ids

	made    madeCommit
	links   []ostree.ObjectName // objects that the repository does not have yet
	bytes   int64               // of these
	reused  int
	changed bool // false: the ref keeps its commit
	media   []medium
}

// plan decides what a request changes, without changing anything: the refs that
// it publishes, and those that it takes away, with their commits.
func (p *publication) plan(req *PublishRequest) ([]*planned, map[string]ostree.Checksum, error) {
	if len(req.Refs) == 0 && len(req.Remove) == 0 {
		return nil, nil, ErrNoRefs
	}
	all, err := p.planRefs(req)
	if err != nil {
		return nil, nil, err
	}
	taken, err := p.planRemovals(req)
	return all, taken, err
}

func (p *publication) planRefs(req *PublishRequest) ([]*planned, error) {
	if err := p.gone[req.Build]; err != nil {
		return nil, err
	}
	in := p.r.objects
	if req.Build != nil {
		in = req.Build.objects
	}
	for _, id := range req.ExtraCollections {
		if err := ostree.ValidateCollectionID(id); err != nil {
			return nil, err
		}
	}
	all := make([]*planned, 0, len(req.Refs))
	for _, ref := range sortedKeys(req.Refs) {
		c := &planned{build: req.Build, in: in, extra: req.ExtraCollections}
		if err := p.planRef(c, req, ref, req.Refs[ref]); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if err := p.checkMedia(req, all); err != nil {
		return nil, err
	}
	return all, nil
}

const (
	// maxFileName is what file systems allow, in bytes.
	maxFileName = 255

	// maxArch bounds the name of an architecture, which is joined with that of a
	// subset to one of a branch.
	maxArch = 64
)

// parseRef reads a ref of which files can be made: all its elements are names of
// files, the id with the longest suffix that it gets.
func parseRef(ref string) (flatpak.Ref, error) {
	parsed, err := flatpak.ParseUploadRef(ref)
	if err != nil {
		return parsed, err
	}
	if len(parsed.ID) > maxFileName-len(".flatpakref") || len(parsed.Branch) > maxFileName || len(parsed.Arch) > maxArch {
		return parsed, fmt.Errorf("%w: a part of %.80q is too long for the name of a file", flatpak.ErrRef, ref)
	}
	return parsed, nil
}

func (p *publication) planRef(c *planned, req *PublishRequest, ref, source string) (err error) {
	if c.ref, err = parseRef(ref); err != nil {
		return err
	}
	if c.ref.Kind == flatpak.Screenshots {
		return p.planMedia(c, source)
	}
	base, err := p.head(c, ref)
	if err == nil {
		err = req.expected(ref, c.before)
	}
	if err != nil {
		return err
	}
	switch {
	case source != "":
		if c.source, err = ostree.ParseChecksum(source); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
	case req.Build == nil && base != nil:
		c.source = c.before
	default:
		return fmt.Errorf("%s: %w", ref, errNoCommit)
	}
	walk := reach{ref: ref, in: c.in, look: c.look(p.r.objects)}
	commit, err := walk.commit(p.ctx, c.source, base)
	if err != nil {
		return err
	}
	if err := req.checkOld(ref, commit); err != nil {
		return err
	}
	rewrite := flatpak.Rewrite{
		Ref:                ref,
		From:               c.source,
		Parent:             c.before,
		CollectionID:       p.r.opt.CollectionID,
		ExtraCollectionIDs: c.extra,
		TokenType:          req.TokenType,
		Subsets:            p.r.opt.subsets(commit, req.Subsets, p.log, ref),
	}
	if rewrite.DownloadSize, err = c.downloadSize(p.ctx, &walk, commit.Tree, base); err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	// Clients refuse what is older than what they have. Builds may be published in
	// another order than they were committed, and clocks are set back.
	latest := p.former[ref]
	if base != nil {
		latest = base.Timestamp
	}
	if latest > 0 {
		later := max(commit.Timestamp, latest+1)
		rewrite.Timestamp = &later
	}
	rewrite.EndOfLife, rewrite.EndOfLifeRebase = endOfLife(req.EndOfLife, req.EndOfLifeRebase, req.AppID, req.Refs)
	made, err := flatpak.RewriteCommit(commit, rewrite)
	if err != nil {
		return err
	}
	if base != nil && sameCommit(made, base) {
		c.made = madeCommit{ref: ref, sum: c.before}
		return nil
	}
	c.changed = true
	c.made = madeCommit{ref: ref, commit: made, data: made.Encode()}
	c.made.sum = ostree.ChecksumOf(c.made.data)
	return nil
}

var errNoCommit = errors.New("there is no commit to publish")

// look returns the function that finds objects, and tells new ones from those that
// are published. The build's own commit stays behind.
func (c *planned) look(published *ostree.Repo) func(ostree.ObjectName) (object, error) {
	return func(name ostree.ObjectName) (object, error) {
		if name.Type == ostree.TypeCommit {
			return probe(c.in, name)
		}
		has, err := published.Has(name)
		switch {
		case err != nil:
			return object{}, err
		case has:
			c.reused++
			return probe(published, name)
		case c.build == nil:
			return object{}, &ostree.ObjectError{Name: name, Err: fs.ErrNotExist}
		}
		found, own, err := c.build.look(name)
		if err != nil {
			return object{}, err
		}
		if own {
			c.links = append(c.links, name)
			c.bytes += found.stored
		} else { // it was published meanwhile
			c.reused++
		}
		return found, nil
	}
}

// downloadSize returns that of a tree that was walked over. Commit has added it up, if
// it was in this process.
func (c *planned) downloadSize(ctx context.Context, walk *reach, tree ostree.Checksum, base *ostree.Commit) (uint64, error) {
	if c.build != nil {
		if size, ok := c.build.sizes.get(tree); ok {
			return uint64(size), nil
		}
	}
	sizes := downloadSize{trees: &walk.trees, files: walk.seen}
	return sizes.rebased(ctx, tree, base)
}

// head finds what a ref points at now. The disk decides: another program may
// have moved it.
func (p *publication) head(c *planned, ref string) (*ostree.Commit, error) {
	known, ok := p.r.index.Get(ref)
	sum, err := p.r.objects.ResolveRef(ref)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if ok {
			p.update(nil, []string{ref})
			p.result.Removed = append(p.result.Removed, ref)
		}
		return nil, nil
	case err != nil:
		return nil, err
	}
	commit, err := p.r.objects.Commit(sum)
	if errors.Is(err, fs.ErrNotExist) {
		p.log.printf("  %s: its commit %s is not in the repository; beginning anew", ref, short(sum.String()))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !ok || known.Checksum != sum {
		info, err := flatpak.ReadCommitInfo(p.r.objects, ref, sum)
		if err != nil {
			return nil, err
		}
		p.update([]flatpak.CommitInfo{info}, nil)
	}
	c.before = sum
	return commit, nil
}

// sameCommit tells whether a new commit would say nothing that the one before
// did not.
func sameCommit(made, before *ostree.Commit) bool {
	if made.Tree != before.Tree || made.TreeMeta != before.TreeMeta ||
		made.Subject != before.Subject || made.Body != before.Body {
		return false
	}
	return slices.Equal(essence(made), essence(before))
}

// essence returns the metadata that counts, sorted.
func essence(commit *ostree.Commit) []string {
	var all []string
	for key, value := range commit.Metadata.All() {
		if key != "xa.from_commit" {
			all = append(all, key+"\x00"+string(gvariant.Variant(value).Data()))
		}
	}
	slices.Sort(all)
	return all
}

// deltas are the static deltas that came with the build, for the commit that is
// published.
func (p *publication) deltas(c *planned) ([]carried, error) {
	if c.build == nil {
		return nil, nil
	}
	names, err := ostree.ListDeltas(os.DirFS(c.build.dir), "deltas")
	if err != nil {
		return nil, err
	}
	var all []carried
	for _, name := range names {
		if name.To != c.source {
			continue
		}
		data, err := fs.ReadFile(os.DirFS(c.build.dir), name.SuperblockPath())
		if err != nil {
			return nil, err
		}
		block, err := ostree.ParseSuperblock(data)
		if err != nil {
			return nil, err
		}
		led, err := lead(block, c.made, c.in)
		if err != nil {
			return nil, err
		}
		all = append(all, carried{from: block, to: led})
	}
	return all, nil
}

// carried is a static delta with its two names.
type carried struct{ from, to *ostree.Superblock }

// update takes commits into the index and remembers how to undo it.
func (p *publication) update(infos []flatpak.CommitInfo, removed []string) {
	remember := func(ref string) {
		if _, ok := p.undo[ref]; ok {
			return
		}
		if info, ok := p.r.index.Get(ref); ok {
			p.undo[ref] = &info
		} else {
			p.undo[ref] = nil
		}
	}
	for i := range infos {
		remember(infos[i].Ref)
		p.infos[infos[i].Ref] = infos[i].Encode()
	}
	for _, ref := range removed {
		remember(ref)
		delete(p.infos, ref)
	}
	p.r.index.Update(infos, removed)
}

// revert gives the index back what it knew before.
func (p *publication) revert() {
	var infos []flatpak.CommitInfo
	var removed []string
	for ref, info := range p.undo {
		if info != nil {
			infos = append(infos, *info)
		} else {
			removed = append(removed, ref)
		}
	}
	p.r.index.Update(infos, removed)
	for to, deltas := range p.led {
		p.r.index.SetDeltas(to, deltas)
	}
}

// setDeltas tells the index which static deltas lead to a commit, and remembers how
// to undo it.
func (p *publication) setDeltas(to ostree.Checksum, deltas []flatpak.Delta) {
	if _, ok := p.led[to]; !ok {
		p.led[to] = p.r.index.Deltas(to)
	}
	p.r.index.SetDeltas(to, deltas)
}
