package repository

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"freshet/internal/flatpak"
	"freshet/internal/layout"
)

// refresh brings summaries, catalogue and .flatpakrepo files up to date with the
// refs and the options when the repository is opened. Usually nothing changes.
func (r *Repository) refresh(ctx context.Context, reconfigured, damaged bool) error {
	p := r.begin(ctx, newJournal(nil))
	lock, err := lockShared(ctx, r.root)
	if err != nil {
		return err
	}
	defer lock.release() //nolint:errcheck // nothing was written
	p.result.Keys = []string{fmt.Sprintf("refresh-%d", time.Now().UnixNano())}
	p.tx = r.store.Begin()
	files, err := p.stageRefresh(reconfigured, damaged)
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
	if err := p.stageCatalogue(); err != nil {
		return nil, err
	}
	files, err := p.buildSummaries()
	if err != nil {
		return nil, err
	}
	if !reconfigured && !damaged && len(p.heads) == 0 && !p.outdated(files) {
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
