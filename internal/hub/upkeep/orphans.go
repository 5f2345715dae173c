package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"freshet/internal/hub/quarantine"
	"freshet/internal/ostree"
	"freshet/internal/sqldb"
)

// scan dooms the objects that the graph does not know: it has never seen anything
// that needs them.
func (p *pruner) scan(ctx context.Context) error {
	if needed, err := p.needsScan(ctx); err != nil || !needed {
		return err
	}
	folders, err := objectFolders(p.repo.FS())
	if err != nil {
		return err
	}
	err = p.graph.db.Write(ctx, func(tx *sqldb.Tx) error { return p.adopt(ctx, tx, folders) })
	if err != nil {
		return err
	}
	for _, folder := range folders {
		err := p.graph.db.Write(ctx, func(tx *sqldb.Tx) error { return p.scanFolder(ctx, tx, folder) })
		if err != nil {
			return err
		}
	}
	return p.graph.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := p.scanApart(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM scans`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO scans (at) VALUES (?)`, p.opt.Now.Unix())
		return err
	})
}

// needsScan tells whether there may be objects that the graph does not know.
func (p *pruner) needsScan(ctx context.Context) (bool, error) {
	var scans int
	err := p.graph.db.Read(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM scans`).Scan(&scans)
	})
	return scans == 0 || p.opt.Full, err
}

// adopt counts the commits that no ref leads to and that were never counted, such as
// those of refs that were removed: their age begins now.
func (p *pruner) adopt(ctx context.Context, tx *sqldb.Tx, folders []string) error {
	var found plan
	for _, folder := range folders {
		err := eachObject(p.repo.FS(), folder, func(name ostree.ObjectName, _ fs.DirEntry) error {
			if name.Type != ostree.TypeCommit {
				return context.Cause(ctx)
			}
			var one int
			err := tx.QueryRow(ctx, `SELECT 1 FROM commits WHERE sum = ? UNION ALL SELECT 1 FROM doomed WHERE name = ?`,
				name.Checksum[:], key(name)).Scan(&one)
			if !sqldb.NoRows(err) {
				return err
			}
			commit, err := p.repo.Commit(name.Checksum)
			if err != nil {
				return nil //nolint:nilerr // nothing can be done with it
			}
			k := known{sum: name.Checksum, parent: commit.Parent, tree: commit.Tree, meta: commit.TreeMeta, superseded: p.opt.Now.Unix()}
			if bound, _ := commit.Metadata.Strings(ostree.KeyRefBinding); len(bound) > 0 {
				k.ref = bound[0]
			}
			if p.young(k) {
				found.add = append(found.add, k)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for first := true; first || len(found.add) > 0; first = false {
		if err := p.apply(ctx, tx, &found, editEdges); err != nil {
			return err
		}
	}
	return nil
}

func (p *pruner) scanFolder(ctx context.Context, tx *sqldb.Tx, folder string) error {
	e := newEdit(ctx, tx, p.repo.DirTree, p.opt.Now.Unix())
	return eachObject(p.repo.FS(), folder, func(name ostree.ObjectName, _ fs.DirEntry) error {
		return p.doomUnknown(ctx, tx, e, name)
	})
}

// scanApart dooms the objects in quarantine that the graph does not know.
func (p *pruner) scanApart(ctx context.Context, tx *sqldb.Tx) error {
	items, err := quarantine.List(p.dir.Root)
	if err != nil {
		return err
	}
	e := newEdit(ctx, tx, p.repo.DirTree, p.opt.Now.Unix())
	for _, item := range items {
		if err := p.doomUnknown(ctx, tx, e, item.Name); err != nil {
			return err
		}
	}
	return nil
}

// doomUnknown dooms an object, unless the graph knows it.
func (p *pruner) doomUnknown(ctx context.Context, tx *sqldb.Tx, e *edit, name ostree.ObjectName) error {
	query := `SELECT 1 FROM nodes WHERE name = ?`
	args := key(name)
	switch name.Type {
	case ostree.TypeCommit:
		query, args = `SELECT 1 FROM commits WHERE sum = ?`, name.Checksum[:]
	case ostree.TypeFile, ostree.TypeDirTree, ostree.TypeDirMeta:
	case ostree.TypeCommitMeta, ostree.TypeTombstone:
		return nil // it goes with its commit
	default:
		return nil // not ours to judge
	}
	var one int
	if err := tx.QueryRow(ctx, query, args).Scan(&one); !sqldb.NoRows(err) {
		return err
	}
	return e.doom(name)
}

// errRehearsed ends the transaction of a rehearsal.
var errRehearsed = errors.New("this was a rehearsal")

// rehearse does in a transaction that is taken back what a prune does, and counts
// what it would remove.
func (p *pruner) rehearse(ctx context.Context) error {
	now, err := p.readRoots()
	if err != nil {
		return err
	}
	changes, err := p.plan(ctx, now.heads)
	if err != nil {
		return err
	}
	if err := p.pin(ctx, now.builds); err != nil {
		return err
	}
	var folders []string
	if needed, err := p.needsScan(ctx); err != nil {
		return err
	} else if needed {
		if folders, err = objectFolders(p.repo.FS()); err != nil {
			return err
		}
	}
	err = p.graph.db.Write(ctx, func(tx *sqldb.Tx) error {
		p.result = Pruned{DryRun: true}
		left := changes
		for first := true; first || len(left.add)+len(left.drop) > 0; first = false {
			if err := p.apply(ctx, tx, &left, editEdges); err != nil {
				return err
			}
		}
		if err := p.adopt(ctx, tx, folders); err != nil {
			return err
		}
		for _, folder := range folders {
			if err := p.scanFolder(ctx, tx, folder); err != nil {
				return err
			}
		}
		if len(folders) > 0 {
			if err := p.scanApart(ctx, tx); err != nil {
				return err
			}
		}
		if err := p.countDoomed(ctx, tx); err != nil {
			return err
		}
		return errRehearsed
	})
	if !errors.Is(err, errRehearsed) {
		return err
	}
	for _, k := range changes.drop {
		p.printf("%s: commit %s would go", k.ref, k.sum)
	}
	p.printf("%s and %s, %s, would go", english.Plural(p.result.Commits, "commit", ""), english.Plural(int(p.result.Removed), "object", ""),
		humanize.Bytes(uint64(max(p.result.Bytes, 0))))
	return nil
}

// countDoomed counts what would be deleted if it had no grace.
func (p *pruner) countDoomed(ctx context.Context, tx *sqldb.Tx) error {
	doomed, err := queryNames(ctx, tx, `SELECT name FROM doomed`)
	if err != nil {
		return err
	}
	for _, name := range doomed {
		if p.pins.names.Has(name) {
			p.result.Waiting++
			continue
		}
		size, err := p.repo.StoredSize(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("size of %s: %w", name, err)
		}
		p.result.Removed++
		p.result.Bytes += size
	}
	return nil
}
