package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"

	"freshet/internal/flatpak"
	"freshet/internal/hub/deltas"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/sign"
)

// stage prepares all files.
func (p *publication) stage() (*flatpak.Files, error) {
	changed := p.changedRefs()
	if err := p.stageMedia(); err != nil {
		return nil, err
	}
	if len(changed) == 0 && len(p.taken) == 0 && len(p.undo) == 0 && len(p.paths) == 0 {
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
	if err := p.stageRemovals(); err != nil {
		return nil, err
	}
	p.log.lap("objects")
	if err := p.stageCatalogue(); err != nil {
		return nil, err
	}
	if err := p.stageCheckout(); err != nil {
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
	if err := p.stageRefFiles(p.takenFiles()); err != nil {
		return nil, err
	}
	if err := p.stageFormer(changed); err != nil {
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
		if !c.changed {
			p.log.printf("  %s: unchanged at %s", ref, short(c.made.sum.String()))
			continue
		}
		changed = append(changed, c)
		before := "new"
		p.replaces(ref, c.before)
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
	for _, c := range changed {
		if len(c.links) == 0 {
			continue
		}
		if err := p.link(c); err != nil {
			return err
		}
		p.result.Stats.Bytes += c.bytes
	}
	return nil
}

// link links what a build brings for a ref, unless it is staged already.
func (p *publication) link(c *planned) error {
	root, err := os.OpenRoot(c.build.dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // opened for reading
	files := make([]string, 0, len(c.links))
	for _, name := range c.links {
		file := name.Path()
		if _, ok := p.paths[file]; ok {
			continue
		}
		files = append(files, file)
		p.paths[file] = layout.Payload
	}
	p.result.Stats.NewObjects += len(files)
	return p.tx.LinkPayload(p.ctx, root, files)
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
			c.made.detached = detached(signatures[i], p.r.opt.Ed25519.Sign(c.made.data))
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
		var staged []flatpak.Delta
		for _, d := range all {
			told, err := c.price(d)
			if err != nil { // an object of it was put into quarantine, say
				p.log.printf("  %s: a static delta is left out: %v", c.made.ref, err)
				continue
			}
			sum, err := p.stageDelta(c, d)
			if err != nil {
				return err
			}
			p.result.Deltas = append(p.result.Deltas, told)
			staged = append(staged, flatpak.Delta{From: d.to.Name.From, Superblock: sum})
		}
		if len(staged) > 0 {
			p.setDeltas(c.made.sum, staged)
			p.log.printf("  %s: %s", c.made.ref, count(len(staged), "static delta"))
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
	if err != nil {
		return ostree.Checksum{}, err
	}
	return ostree.ChecksumOf(data), nil
}

// price tells what a delta costs that is published with its commit.
func (c *planned) price(d carried) (PublishedDelta, error) {
	cost, err := deltas.Measure(c.in, d.to)
	if err != nil {
		return PublishedDelta{}, err
	}
	told := PublishedDelta{
		Ref: c.made.ref, To: d.to.Name.To.String(), Source: d.from.Name.To.String(),
		Size: cost.Size, Instead: cost.Instead, Parts: cost.Parts, Singly: cost.Singly,
	}
	if !d.to.Name.FromScratch() {
		told.From = d.to.Name.From.String()
	}
	return told, nil
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
			if err := p.put(commitMetaName(commit.Info.Checksum).Path(), detached(signatures[i], p.r.opt.Ed25519.Sign(commit.Object))); err != nil {
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
	size, err := p.write(name.Path(), p.keep(name, write))
	p.result.Stats.NewObjects++
	p.result.Stats.Bytes += size
	return err
}

func (p *publication) buildSummaries() (*flatpak.Files, error) {
	info, err := p.r.opt.repoInfo()
	if err != nil {
		return nil, err
	}
	opt := flatpak.BuildOptions{
		Repo:          info,
		Now:           p.now,
		SummaryArches: p.r.opt.SummaryArches,
		Serial:        max(p.r.index.Serial(), p.r.after) + 1,
	}
	if sign := signWith(p.ctx, p.r.opt.Signer); sign != nil {
		opt.SignEd25519 = p.r.opt.Ed25519.Sign
		opt.Sign = func(data []byte) ([][]byte, error) {
			p.result.Stats.Signatures++
			return sign(data)
		}
	}
	files, err := p.r.index.Build(opt)
	if err == nil {
		p.result.Serial, p.result.Summary = opt.Serial, files.CompatSize()
		p.warnOfSummary()
	}
	return files, err
}

// summaryAlarm is the length of the compat summary from which logs warn of it.
// Clients before flatpak 1.9 read nothing else, and some take 10 MiB at most.
const summaryAlarm = 8 << 20

// warnOfSummary says that the compat summary is too long soon.
func (p *publication) warnOfSummary() {
	size := p.result.Summary
	if size < summaryAlarm {
		return
	}
	p.log.printf("  the summary for clients before flatpak 1.9 has %s; some of them refuse more than 10.5 MB: limit summary-arches", formatBytes(size))
	p.r.log.WarnContext(p.ctx, "the summary for clients before flatpak 1.9 is close to 10 MiB, beyond which some refuse it: limit summary-arches",
		slog.Int64("bytes", size))
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
