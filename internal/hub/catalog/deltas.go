package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// DeltaKey names a static delta of a repository by its commits in hexadecimal;
// From is "" for one from nothing.
type DeltaKey struct{ From, To string }

// recordDeltas remembers what static deltas cost that a job has made.
func (c *Catalog) recordDeltas(ctx context.Context, tx *sqldb.Tx, repo string, made []hubapi.MadeDelta) error {
	for _, d := range made {
		if d.Size == 0 {
			continue // it was there, and is known already
		}
		_, err := tx.Exec(ctx, `INSERT INTO deltas (repo, to_commit, from_commit, ref_name, size, instead, parts, singly, micros, created)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (repo, to_commit, from_commit) DO UPDATE SET
			size = excluded.size, instead = excluded.instead, parts = excluded.parts, singly = excluded.singly,
			micros = CASE WHEN excluded.micros > 0 THEN excluded.micros ELSE deltas.micros END, created = excluded.created`,
			repo, d.To, d.From, clean(d.Ref), int64(d.Size), int64(d.Instead), d.Parts, d.Singly, int64(d.Seconds*1e6), c.now().UnixMicro())
		if err != nil {
			return fmt.Errorf("remember static delta to %s: %w", d.To, err)
		}
	}
	return nil
}

// CarriedDelta is a static delta that came with a build: there it led to the commit
// Source, and now it leads to the one that was made of it.
type CarriedDelta struct {
	hubapi.MadeDelta
	Source string
}

// carryDeltas remembers what static deltas cost that came with builds. What is known of
// one that was made for the build stays with it.
func (c *Catalog) carryDeltas(ctx context.Context, tx *sqldb.Tx, repo string, carried []CarriedDelta) error {
	for _, d := range carried {
		_, err := tx.Exec(ctx, `UPDATE deltas SET to_commit = ? WHERE repo = ? AND to_commit = ? AND from_commit = ?
			AND NOT EXISTS (SELECT 1 FROM deltas d WHERE d.repo = ? AND d.to_commit = ? AND d.from_commit = ?)`,
			d.To, repo, d.Source, d.From, repo, d.To, d.From)
		if err != nil {
			return fmt.Errorf("remember static delta to %s: %w", d.To, err)
		}
		if err := c.recordDeltas(ctx, tx, repo, []hubapi.MadeDelta{d.MadeDelta}); err != nil {
			return err
		}
	}
	return nil
}

// MadeDelta is a static delta with when it was made.
type MadeDelta struct {
	hubapi.MadeDelta
	Time time.Time
}

// Deltas returns what is known of static deltas; those of which nothing is known
// are left out.
func (c *Catalog) Deltas(ctx context.Context, repo string, keys []DeltaKey) (map[DeltaKey]MadeDelta, error) {
	known := make(map[DeltaKey]MadeDelta, len(keys))
	err := c.db.Read(ctx, func(tx *sqldb.Tx) error {
		for _, key := range keys {
			d := MadeDelta{MadeDelta: hubapi.MadeDelta{From: key.From, To: key.To}}
			var size, instead, micros, created int64
			err := tx.QueryRow(ctx, `SELECT ref_name, size, instead, parts, singly, micros, created FROM deltas
				WHERE repo = ? AND to_commit = ? AND from_commit = ?`, repo, key.To, key.From).
				Scan(&d.Ref, &size, &instead, &d.Parts, &d.Singly, &micros, &created)
			if sqldb.NoRows(err) {
				continue
			}
			if err != nil {
				return err
			}
			d.Size, d.Instead, d.Seconds, d.Time = uint64(size), uint64(instead), float64(micros)/1e6, timeOf(created)
			known[key] = d
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read static deltas of %s: %w", repo, err)
	}
	return known, nil
}

// DeltaTotals are sums over the static deltas of a repository that are known, in
// bytes; Instead and Size are those of deltas of which both are known.
type DeltaTotals struct {
	Count         int64
	Size, Instead int64
}

// DeltaTotals returns the sums for a repository.
func (c *Catalog) DeltaTotals(ctx context.Context, repo string) (totals DeltaTotals, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		var size, instead sql.NullInt64
		err := tx.QueryRow(ctx, `SELECT COUNT(*), SUM(CASE WHEN instead > 0 THEN size END), SUM(instead) FROM deltas WHERE repo = ?`, repo).
			Scan(&totals.Count, &size, &instead)
		totals.Size, totals.Instead = size.Int64, instead.Int64
		return err
	})
	if err != nil {
		return totals, fmt.Errorf("sum static deltas of %s: %w", repo, err)
	}
	return totals, nil
}

// ForgetDeltas forgets static deltas that were removed.
func (c *Catalog) ForgetDeltas(ctx context.Context, repo string, keys []DeltaKey) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		for _, key := range keys {
			_, err := tx.Exec(ctx, `DELETE FROM deltas WHERE repo = ? AND to_commit = ? AND from_commit = ?`, repo, key.To, key.From)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget static deltas of %s: %w", repo, err)
	}
	return nil
}
