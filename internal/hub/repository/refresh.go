package repository

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path"
	"time"

	"freshet/internal/flatpak"
	"freshet/internal/hub/repolock"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/sign"
)

// staleness says what Open found out, for the refresh.
type staleness struct {
	reconfigured bool // the options are others than those that were published
	damaged      bool // the summary cannot be read
}

// Stale tells whether Refresh is to be called: because of
// [Options.RefreshLater], or because the key was away when it was opened.
func (r *Repository) Stale() bool { return r.stale.Load() != nil }

// Refresh does what Open had to leave: it brings summaries, catalogue, signatures
// and what people find the repository by up to date with the refs and the
// options. It calls commit, as Publish does, when that changed something. While
// the key is away (sign.Away) the repository stays stale; after other errors it
// does not, and what is published remains as it is.
func (r *Repository) Refresh(ctx context.Context, commit func(Result) error) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if !r.Stale() {
		return nil
	}
	p, err := r.refresh(ctx)
	if err == nil && p.tx != nil {
		err = p.tell(commit)
	}
	if err != nil {
		return fmt.Errorf("bring %s up to date: %w", r.opt.Name, err)
	}
	return nil
}

// refresh is the same for Open, which tells of a change as [Pending]. Usually
// there is none, and what it returns has no transaction.
func (r *Repository) refresh(ctx context.Context) (p *publication, err error) {
	p = r.begin(ctx, newJournal(nil))
	defer func() {
		if _, away := sign.Away(err); !away && ctx.Err() == nil {
			r.stale.Store(nil)
		}
	}()
	lock, err := repolock.Shared(ctx, r.root)
	if err != nil {
		return p, err
	}
	defer lock.Release() //nolint:errcheck // nothing was written
	p.result.Keys = []string{fmt.Sprintf("refresh-%d", time.Now().UnixNano())}
	stale := r.stale.Load()
	err = p.change(func() (*flatpak.Files, error) { return p.stageRefresh(stale.reconfigured, stale.damaged) })
	if err != nil {
		return p, err
	}
	return p, r.rememberSigners()
}

func (p *publication) stageRefresh(reconfigured, damaged bool) (*flatpak.Files, error) {
	repoFiles, err := p.r.opt.repoFiles()
	if err != nil {
		return nil, err
	}
	for _, file := range sortedKeys(repoFiles) {
		if err := p.putChanged(file, repoFiles[file]); err != nil {
			return nil, err
		}
	}
	if err := p.stageRefFiles(nil); err != nil {
		return nil, err
	}
	if err := p.stageCatalogue(); err != nil {
		return nil, err
	}
	resigned, err := p.resign()
	if err != nil {
		return nil, err
	}
	if err := p.stageCheckout(); err != nil {
		return nil, err
	}
	if !reconfigured && !damaged && resigned == 0 && len(p.heads) == 0 {
		if stale, err := p.outdated(); err != nil || !stale {
			return nil, err
		}
	}
	files, err := p.buildSummaries()
	if err != nil {
		return nil, err
	}
	if reconfigured {
		p.paths[configFile] = layout.Index
	}
	if err := p.stageRefs(nil); err != nil {
		return nil, err
	}
	return files, p.stageSummaries(files)
}

// outdated tells whether the summaries on disk are not those of the refs, damaged,
// or not signed with all keys. Summaries have a time, so they are made anew for the
// time that those on disk have, and compared.
func (p *publication) outdated() (bool, error) {
	index, err := p.r.root.ReadFile("summary.idx")
	if err != nil {
		return true, nil //nolint:nilerr // it is to be written, whatever the reason
	}
	published, err := ostree.ParseSummaryIndex(index)
	if err != nil {
		return true, nil //nolint:nilerr // and so is rubbish
	}
	modified, ok := published.Metadata.Get("ostree.summary.last-modified")
	if !ok || !modified.Is("t") {
		return true, nil
	}
	info, err := p.r.opt.repoInfo()
	if err != nil {
		return false, err
	}
	files, err := p.r.index.Build(flatpak.BuildOptions{
		Repo:          info,
		Now:           modified.Uint64BE(),
		SummaryArches: p.r.opt.SummaryArches,
		Serial:        p.r.index.Serial(),
	})
	if err != nil {
		return false, err
	}
	signers, err := newSignatures(&p.r.opt)
	if err != nil {
		return false, err
	}
	for i := range files.Write {
		file := &files.Write[i]
		if path.Dir(file.Path) != "." {
			return true, nil // what is addressed by its content is written when it is absent
		}
		data := file.Bytes()
		if stored, err := p.r.root.ReadFile(file.Path); err != nil || !bytes.Equal(stored, data) {
			return true, nil //nolint:nilerr // as above
		}
		signature, err := p.r.root.ReadFile(file.Path + ".sig")
		if err != nil && p.r.opt.Signer != nil || err == nil && !signers.complete(data, signature) {
			return true, nil
		}
	}
	if p.r.opt.Signer == nil {
		return false, nil
	}
	// Clients that read the index by its digest find the same signature there.
	digest := ostree.ChecksumOf(index)
	addressed, err := p.r.root.ReadFile(ostree.SummaryIndexSignaturePath(digest))
	if err != nil {
		return true, nil //nolint:nilerr // as above
	}
	return !signers.complete(index, addressed), nil
}

// stageRefFiles brings the .flatpakref files of the refs up to date: all, or those
// of the given ones, of which those that no ref needs any more are removed.
func (p *publication) stageRefFiles(only map[string]bool) error {
	if only != nil && len(only) == 0 {
		return nil
	}
	candidates := map[string][]refFile{}
	for file := range only {
		candidates[file] = nil
	}
	for ref := range p.r.index.Refs() {
		parsed, err := flatpak.ParseUploadRef(ref)
		if err != nil {
			continue // an appstream branch
		}
		file, data, err := p.r.opt.refFile(parsed)
		if err != nil {
			return err
		}
		if file != "" && (only == nil || only[file]) {
			candidates[file] = append(candidates[file], refFile{parsed.Branch, data})
		}
	}
	for _, file := range sortedKeys(candidates) {
		before, err := p.r.root.ReadFile(file)
		switch {
		case err == nil && len(candidates[file]) == 0:
			if err := p.remove(file); err != nil {
				return err
			}
			continue
		case err != nil && len(candidates[file]) == 0:
			continue
		case err != nil:
			before = nil
		}
		if err := p.putChanged(file, chooseRefFile(candidates[file], before, p.r.opt.DefaultBranch)); err != nil {
			return err
		}
	}
	return nil
}

// refFile is what a .flatpakref says when it leads to a branch.
type refFile struct {
	branch string
	data   []byte
}

// chooseRefFile returns what the .flatpakref of an id should be, which leads to one
// of its branches: to the one to which it leads now, else to the default one, else
// to the last one.
func chooseRefFile(all []refFile, before []byte, branch string) []byte {
	chosen, best := all[0], -1
	for _, c := range all {
		rank := 0
		switch {
		case bytes.Equal(c.data, before):
			return before
		case bytes.Contains(before, []byte("\nBranch="+c.branch+"\n")):
			rank = 2
		case c.branch == branch:
			rank = 1
		}
		if rank > best || rank == best && c.branch > chosen.branch {
			chosen, best = c, rank
		}
	}
	return chosen.data
}

// resign signs commits of refs with keys that have not signed them, because the
// keys were exchanged, and returns how many. Other signatures stay: clients that
// know an old key only still accept the commits.
func (p *publication) resign() (int, error) {
	signer := p.r.opt.Signer
	if signer == nil || p.r.signersKnown() {
		return 0, nil
	}
	signers, err := newSignatures(&p.r.opt)
	if err != nil {
		return 0, err
	}
	heads, err := p.signedHeads()
	if err != nil {
		return 0, err
	}
	var unsigned []unsignedCommit
	var messages [][]byte
	for _, sum := range heads {
		if err := context.Cause(p.ctx); err != nil {
			return 0, err
		}
		if commit, complete := p.signaturesOf(sum, signers); !complete {
			unsigned = append(unsigned, commit)
			messages = append(messages, commit.data)
		}
	}
	made, err := p.sign(messages)
	if err != nil || len(unsigned) == 0 {
		return 0, err
	}
	resigned := make(map[ostree.Checksum]bool, len(unsigned))
	for i, c := range unsigned {
		ostree.SetGPGSignatures(&c.detached, append(made[i], c.others...))
		more, _ := p.r.opt.Ed25519.Merge(c.data, ostree.Ed25519Signatures(c.detached))
		ostree.SetEd25519Signatures(&c.detached, more)
		if err := p.put(commitMetaName(c.sum).Path(), ostree.EncodeDetached(c.detached)); err != nil {
			return 0, err
		}
		resigned[c.sum] = true
	}
	p.r.log.WarnContext(p.ctx, "the signing keys are not those that signed the repository: commits and summaries are signed anew",
		slog.Int("commits", len(unsigned)), slog.Any("keys", signer.Keys()))
	return len(unsigned), p.dropDeltas(resigned)
}

// dropDeltas takes away the static deltas that lead to commits whose signatures
// changed: a superblock has a copy of these, and is never written anew.
func (p *publication) dropDeltas(to map[ostree.Checksum]bool) error {
	names, err := ostree.ListDeltas(p.r.root.FS(), "deltas")
	if err != nil {
		return err
	}
	for _, name := range names {
		if !to[name.To] {
			continue
		}
		if err := p.remove(name.SuperblockPath()); err != nil {
			return err
		}
		p.setDeltas(name.To, nil)
		p.r.log.InfoContext(p.ctx, "a static delta with the signatures of other keys is dropped", slog.String("delta", name.Hex()))
	}
	return nil
}
