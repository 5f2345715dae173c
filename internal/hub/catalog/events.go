package catalog

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// maxEvents bounds one answer of Events.
const maxEvents = 1000

// Log returns the identity of the event log, which consumers keep beside their
// cursor.
func (c *Catalog) Log() string { return c.log }

// RenewLog gives the event log a new identity. Call it, with the hub stopped,
// after an older copy of the database was put in place: its serials will be
// given out a second time, and the new identity tells consumers that their
// cursors mean nothing any more. It takes effect with the next Open.
func (c *Catalog) RenewLog(ctx context.Context) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE meta SET value = ? WHERE name = 'log'`, rand.Text()); err != nil {
			return err
		}
		return c.audit(ctx, tx, "log.renew", "log", "")
	})
	if err != nil {
		return fmt.Errorf("renew event log: %w", err)
	}
	return nil
}

// Head returns the newest serial, 0 when there is no event yet.
func (c *Catalog) Head(ctx context.Context) (head int64, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		head, err = readHead(ctx, tx)
		return err
	})
	return head, err
}

// Events returns the events after a serial, oldest first: at most limit, and at
// most 1000. Head is the newest serial, so that a reader sees how far behind
// it is.
func (c *Catalog) Events(ctx context.Context, after int64, limit int) (hubapi.EventPage, error) {
	limit = min(max(limit, 0), maxEvents)
	page, err := c.readEvents(ctx, after, after+int64(limit))
	if err != nil {
		return hubapi.EventPage{}, fmt.Errorf("read events after %d: %w", after, err)
	}
	return page, nil
}

// EventPage returns page n of the log, from 0, and whether it is full. A full
// page never changes: its Head is its last serial. The error wraps
// [ErrNotFound] when the page has not begun, except for page 0.
func (c *Catalog) EventPage(ctx context.Context, n int64) (page hubapi.EventPage, full bool, err error) {
	const maxPage = 1 << 40 // far beyond any log, and n*EventPageSize fits
	if n < 0 || n > maxPage {
		return hubapi.EventPage{}, false, notFound("event page", n)
	}
	first := n * hubapi.EventPageSize
	if page, err = c.readEvents(ctx, first, first+hubapi.EventPageSize); err != nil {
		return hubapi.EventPage{}, false, fmt.Errorf("read event page %d: %w", n, err)
	}
	if len(page.Events) == 0 && n > 0 {
		return hubapi.EventPage{}, false, notFound("event page", n)
	}
	full = len(page.Events) == hubapi.EventPageSize
	if full {
		page.Head = first + hubapi.EventPageSize
	}
	return page, full, nil
}

// readEvents returns the events with after < serial <= until.
func (c *Catalog) readEvents(ctx context.Context, after, until int64) (hubapi.EventPage, error) {
	page := hubapi.EventPage{Log: c.log}
	err := c.db.Read(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Query(ctx, `SELECT serial, created, body FROM events WHERE serial > ? AND serial <= ? ORDER BY serial`, after, until)
		page.Events, err = collect(rows, err, scanEvent)
		if err != nil {
			return err
		}
		page.Head, err = readHead(ctx, tx)
		return err
	})
	return page, err
}

func scanEvent(rows *sql.Rows) (event hubapi.Event, err error) {
	var serial, created int64
	var body string
	if err := rows.Scan(&serial, &created, &body); err != nil {
		return event, err
	}
	if err := json.Unmarshal([]byte(body), &event); err != nil {
		return event, fmt.Errorf("event %d: %w", serial, err)
	}
	event.Serial, event.Time = serial, timeOf(created)
	return event, nil
}

func readHead(ctx context.Context, tx *sqldb.Tx) (head int64, err error) {
	err = tx.QueryRow(ctx, `SELECT value FROM counters WHERE name = 'event'`).Scan(&head)
	return head, err
}

// appendEvent writes the event with the next serial and the time, and returns
// it.
func (c *Catalog) appendEvent(ctx context.Context, tx *sqldb.Tx, event hubapi.Event) (hubapi.Event, error) {
	serial, err := next(ctx, tx, "event")
	if err != nil {
		return hubapi.Event{}, err
	}
	event.Serial, event.Time = serial, c.now().UTC().Truncate(time.Microsecond)
	if event.Changed == nil {
		event.Changed = []string{}
	}
	body, err := toJSON(event)
	if err != nil {
		return hubapi.Event{}, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO events (serial, created, kind, repo, body) VALUES (?, ?, ?, ?, ?)`,
		event.Serial, event.Time.UnixMicro(), string(event.Kind), event.Repo, clean(body))
	if err != nil {
		return hubapi.Event{}, fmt.Errorf("write event %d: %w", serial, err)
	}
	return event, tx.Notify(ctx, channel, "event")
}

// recordOnce runs fn, which writes an event and returns it, unless the same was
// done before under the same key; then it returns the event of that time. An
// event with serial 0 says that there was nothing to tell.
func (c *Catalog) recordOnce(ctx context.Context, tx *sqldb.Tx, key string, fn func() (hubapi.Event, error)) (hubapi.Event, error) {
	var serial int64
	err := tx.QueryRow(ctx, `SELECT serial FROM recorded WHERE request = ?`, key).Scan(&serial)
	switch {
	case err == nil && serial == 0:
		return hubapi.Event{}, nil
	case err == nil:
		rows, err := tx.Query(ctx, `SELECT serial, created, body FROM events WHERE serial = ?`, serial)
		events, err := collect(rows, err, scanEvent)
		if err != nil {
			return hubapi.Event{}, err
		}
		if len(events) == 0 {
			return hubapi.Event{}, notFound("event", serial)
		}
		return events[0], nil
	case !sqldb.NoRows(err):
		return hubapi.Event{}, err
	}
	event, err := fn()
	if err != nil {
		return hubapi.Event{}, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO recorded (request, serial, created) VALUES (?, ?, ?)`, key, event.Serial, c.now().UnixMicro())
	return event, err
}

// RecordRepair writes the event of files that were repaired, which must be readable
// already. Called again, it writes another event.
func (c *Catalog) RecordRepair(ctx context.Context, repo, base string, paths []string) error {
	event := hubapi.Event{Kind: hubapi.EventRepair, Repo: repo, Base: base, Changed: paths}
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := c.audit(ctx, tx, "repo.repair", "repo/"+repo, strings.Join(paths[:min(len(paths), auditedPaths)], " ")); err != nil {
			return err
		}
		_, err := c.appendEvent(ctx, tx, event)
		return err
	})
	if err != nil {
		return fmt.Errorf("record repairs of %s: %w", repo, err)
	}
	c.events.send()
	return nil
}

// auditedPaths bounds the paths in an entry of the audit log.
const auditedPaths = 10

// RecordTree writes the event of a plain tree that was switched to a new
// generation. What it tells of must be readable already. The key names the
// switch: called again with it, after a crash, RecordTree returns the same
// event and writes none.
func (c *Catalog) RecordTree(ctx context.Context, key string, event hubapi.Event) (recorded hubapi.Event, err error) {
	event.Kind = hubapi.EventTree
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		recorded, err = c.recordOnce(ctx, tx, "tree:"+key, func() (hubapi.Event, error) {
			detail := fmt.Sprintf("generation %d", event.Generation)
			if err := c.audit(ctx, tx, "tree.switch", "tree/"+event.Repo, detail); err != nil {
				return hubapi.Event{}, err
			}
			return c.appendEvent(ctx, tx, event)
		})
		return err
	})
	if err != nil {
		return hubapi.Event{}, fmt.Errorf("record generation %d of tree %s: %w", event.Generation, event.Repo, err)
	}
	c.events.send()
	return recorded, nil
}
