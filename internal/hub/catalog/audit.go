package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"time"

	"freshet/internal/sqldb"
)

// AuditEntry says who did what, when.
type AuditEntry struct {
	ID   int64
	Time time.Time
	// Actor is the name given to [Catalog.By].
	Actor string
	// Action is a verb, "build.publish"; Object what it was done to, "build/7".
	Action, Object string
	// Detail is a free text.
	Detail string
}

// Audit returns entries of the audit log, newest first: at most limit of those
// with an id below before, where 0 means from the newest.
func (c *Catalog) Audit(ctx context.Context, before int64, limit int) (entries []AuditEntry, err error) {
	return c.audited(ctx, `id < ?`, limit, fromNewest(before))
}

// AuditOf returns the newest entries about an object ("build/7"), newest first.
func (c *Catalog) AuditOf(ctx context.Context, object string, limit int) (entries []AuditEntry, err error) {
	return c.audited(ctx, `object = ?`, limit, object)
}

func (c *Catalog) audited(ctx context.Context, where string, limit int, args ...any) (entries []AuditEntry, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id, created, actor, action, object, detail FROM audit
			WHERE `+where+` ORDER BY id DESC LIMIT ?`, append(args, limit)...)
		entries, err = collect(rows, err, func(rows *sql.Rows) (e AuditEntry, err error) {
			var created int64
			err = rows.Scan(&e.ID, &created, &e.Actor, &e.Action, &e.Object, &e.Detail)
			e.Time = timeOf(created)
			return e, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return entries, nil
}

// by is who does what is done through this view.
func (c *Catalog) by() string { return cmp.Or(c.actor, "hub") }

// audit writes an entry in the transaction of what it tells of.
func (c *Catalog) audit(ctx context.Context, tx *sqldb.Tx, action, object, detail string) error {
	id, err := next(ctx, tx, "audit")
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit (id, created, actor, action, object, detail) VALUES (?, ?, ?, ?, ?, ?)`,
		id, c.now().UnixMicro(), clean(c.by()), action, clean(object), clean(detail))
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}
