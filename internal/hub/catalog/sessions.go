package catalog

import (
	"context"
	"fmt"
	"time"

	"freshet/internal/sqldb"
)

// SaveSession keeps what belongs to a session under its id, until expires, and
// forgets the sessions that are over. Saving again replaces the content and not
// the end.
func (c *Catalog) SaveSession(ctx context.Context, id, content string, expires time.Time) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		now := c.now().UnixMicro()
		if _, err := tx.Exec(ctx, `DELETE FROM sessions WHERE expires <= ?`, now); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO sessions (id, content, created, expires) VALUES (?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET content = excluded.content`, id, clean(content), now, expires.UnixMicro())
		return err
	})
	if err != nil {
		return fmt.Errorf("save session: %w", err)
	}
	return nil
}

// Session returns the content of a session and when it ends; the error wraps
// [ErrNotFound] when there is none, or no more.
func (c *Catalog) Session(ctx context.Context, id string) (content string, expires time.Time, err error) {
	var end int64
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT content, expires FROM sessions WHERE id = ? AND expires > ?`, id, c.now().UnixMicro()).Scan(&content, &end)
	})
	switch {
	case sqldb.NoRows(err):
		return "", time.Time{}, notFound("session", "of this cookie")
	case err != nil:
		return "", time.Time{}, fmt.Errorf("read session: %w", err)
	}
	return content, timeOf(end), nil
}

// EndSession forgets a session.
func (c *Catalog) EndSession(ctx context.Context, id string) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM sessions WHERE id = ?`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}
