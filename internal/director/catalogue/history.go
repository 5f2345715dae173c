package catalogue

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/sqldb"
)

// HistoryQuery says which part of the history is wanted.
type HistoryQuery struct {
	// Before is a serial above all that are wanted; 0: from the newest.
	Before int64
	// Items and Name are what the changes must be of; empty: anything.
	Items directorapi.Items
	Name  string
	// Limit is how many changes at most.
	Limit int
}

// History returns changes, newest first, each with all that it changed, or with all
// that the query is about.
func (s *Store) History(ctx context.Context, q HistoryQuery) (h directorapi.History, err error) {
	h.Entries = []directorapi.HistoryEntry{}
	err = s.db.Read(ctx, func(tx *sqldb.Tx) error {
		serials, err := q.serials(ctx, tx)
		if err != nil {
			return err
		}
		for _, serial := range serials {
			entry, err := readChange(ctx, tx, serial, q)
			if err != nil {
				return err
			}
			h.Entries = append(h.Entries, entry)
		}
		if len(serials) == q.Limit {
			h.Next = serials[len(serials)-1]
		}
		return nil
	})
	if err != nil {
		return directorapi.History{}, fmt.Errorf("read history of the catalogue: %w", err)
	}
	return h, nil
}

// serials are those of the changes, newest first.
func (q HistoryQuery) serials(ctx context.Context, tx *sqldb.Tx) (serials []int64, err error) {
	rows, err := tx.Query(ctx, `SELECT c.serial FROM changes c WHERE (? = 0 OR c.serial < ?) AND EXISTS (
			SELECT 1 FROM change_items i WHERE i.serial = c.serial AND (? = '' OR i.items = ?) AND (? = '' OR i.name = ?))
		ORDER BY c.serial DESC LIMIT ?`,
		q.Before, q.Before, string(q.Items), string(q.Items), q.Name, q.Name, q.Limit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // read to its end, or failed anyway
	for rows.Next() {
		var serial int64
		if err := rows.Scan(&serial); err != nil {
			return nil, err
		}
		serials = append(serials, serial)
	}
	return serials, rows.Err()
}

func readChange(ctx context.Context, tx *sqldb.Tx, serial int64, q HistoryQuery) (directorapi.HistoryEntry, error) {
	entry := directorapi.HistoryEntry{Serial: serial}
	var created int64
	err := tx.QueryRow(ctx, `SELECT created, actor, note FROM changes WHERE serial = ?`, serial).Scan(&created, &entry.Actor, &entry.Note)
	if err != nil {
		return entry, err
	}
	entry.Time = time.UnixMicro(created).UTC()
	rows, err := tx.Query(ctx, `SELECT items, name, before, after FROM change_items
		WHERE serial = ? AND (? = '' OR items = ?) AND (? = '' OR name = ?) ORDER BY items, name`,
		serial, string(q.Items), string(q.Items), q.Name, q.Name)
	if err != nil {
		return entry, err
	}
	defer func() { _ = rows.Close() }() // read to its end, or failed anyway
	for rows.Next() {
		var (
			change        itemChange
			before, after sql.NullString
		)
		if err := rows.Scan(&change.items, &change.name, &before, &after); err != nil {
			return entry, err
		}
		change.before, change.after = before.String, after.String
		entry.Items = append(entry.Items, change.told())
	}
	return entry, rows.Err()
}
