package catalogue

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"freshet/api/directorapi"
	"freshet/internal/sqldb"
)

//go:embed schema/*.sql
var schema embed.FS

// Config says where a catalogue is kept.
type Config struct {
	// DSN is the database, see [sqldb.Config]. Empty means the SQLite file Path.
	DSN  string
	Path string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log is told when the database does not answer. Nil: nobody is.
	Log *slog.Logger
}

// Store is a catalogue in a database. All methods may be called concurrently.
type Store struct {
	published

	db  *sqldb.DB
	now func() time.Time
	log *slog.Logger
}

// Open opens the database, brings its schema up to date and reads the catalogue. That of
// a new database is empty.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	migrations, err := fs.Sub(schema, "schema")
	if err != nil {
		return nil, fmt.Errorf("open catalogue: %w", err)
	}
	db, err := sqldb.Open(ctx, sqldb.Config{DSN: cfg.DSN, Default: cfg.Path, Schema: migrations})
	if err != nil {
		return nil, fmt.Errorf("open catalogue: %w", err)
	}
	s := &Store{db: db, now: cfg.Now, log: cfg.Log}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(s.identify(ctx), s.refresh(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalogue %s: %w", db.Name(), err), db.Close())
	}
	return s, nil
}

// identify gives a new database its identity.
func (s *Store) identify(ctx context.Context) error {
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO catalogue (one, id, serial, changed) VALUES (1, ?, 0, ?) ON CONFLICT (one) DO NOTHING`,
			strings.ToLower(rand.Text()), s.now().UnixMicro())
		return err
	})
}

// Close implements [Source].
func (s *Store) Close() error { return s.db.Close() }

// Name names the database, without its password, for logs.
func (s *Store) Name() string { return s.db.Name() }

// DB is the database, for what else is kept in it.
func (s *Store) DB() *sqldb.DB { return s.db }

// Backup writes a copy of the database to a new file, see [sqldb.DB.Backup].
func (s *Store) Backup(ctx context.Context, path string) error { return s.db.Backup(ctx, path) }

// Edit is a change that somebody wants.
type Edit struct {
	// Actor is who, Note what they say of it. Neither has control characters.
	Actor, Note string
	// IfMatch is the ETag of the catalogue that it is for; with another one it is an
	// [ErrConflict]. Empty: whatever it is.
	IfMatch string
	// DryRun finds out what would change, and what is wrong with it, alone.
	DryRun bool
	// Before is done in the same transaction, before the change; an error ends both, and comes
	// out as it is. It may be called more than once. Nil: nothing is.
	Before func(ctx context.Context, tx *sqldb.Tx) error
	// Change makes it, on a copy of the newest catalogue. Serial, Changed, and the order
	// of lists are not its business. It may be called more than once, and its error
	// comes out as it is.
	Change func(*directorapi.Catalogue) error
}

// Bounds of what an edit says, in bytes.
const (
	maxActor = 200
	maxNote  = 2000
)

// ErrConflict says that the catalogue has changed since it was read.
var ErrConflict = errors.New("the catalogue has changed since it was read")

// InvalidError says what would be wrong with a catalogue.
type InvalidError struct{ Problems []directorapi.Problem }

func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Update makes a change in one transaction. When it returns without an error, the change
// is on stable storage, and in Current. One of nothing is no change, and raises no
// serial. The error is an [*InvalidError] if the catalogue would have problems.
func (s *Store) Update(ctx context.Context, edit Edit) (directorapi.Change, error) {
	if err := errors.Join(checkLine("actor", edit.Actor, maxActor), checkLine("note", edit.Note, maxNote)); err != nil {
		return directorapi.Change{}, err
	}
	var (
		next   *directorapi.Catalogue
		result directorapi.Change
	)
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		c, err := read(ctx, tx)
		if err != nil {
			return err
		}
		if edit.IfMatch != "" && edit.IfMatch != c.ETag() {
			return ErrConflict
		}
		if edit.Before != nil {
			if err := edit.Before(ctx, tx); err != nil {
				return err
			}
		}
		changes, err := apply(c, edit.Change)
		if err != nil {
			return err
		}
		result = changed(c, edit.DryRun, changes)
		if edit.DryRun || len(changes) == 0 {
			return nil
		}
		c.Serial++
		c.Changed = time.UnixMicro(s.now().UnixMicro()).UTC()
		result.Serial, next = c.Serial, c
		return write(ctx, tx, c, edit, changes)
	})
	if err != nil {
		return directorapi.Change{}, fmt.Errorf("change catalogue: %w", err)
	}
	if next != nil {
		s.advance(next)
	}
	return result, nil
}

// apply makes a change on c and returns what it did.
func apply(c *directorapi.Catalogue, change func(*directorapi.Catalogue) error) ([]itemChange, error) {
	before, err := texts(c)
	if err != nil {
		return nil, err
	}
	id, serial, changed := c.ID, c.Serial, c.Changed
	if err := change(c); err != nil {
		return nil, err
	}
	c.ID, c.Serial, c.Changed = id, serial, changed
	sorted(c)
	if problems := Check(c); len(problems) > 0 {
		return nil, &InvalidError{problems}
	}
	after, err := texts(c)
	if err != nil {
		return nil, err
	}
	return compare(before, after), nil
}

// changed is what is told of changes of a catalogue.
func changed(c *directorapi.Catalogue, dryRun bool, changes []itemChange) directorapi.Change {
	result := directorapi.Change{Serial: c.Serial, DryRun: dryRun, Items: make([]directorapi.ItemChange, len(changes))}
	for i, change := range changes {
		result.Items[i] = change.told()
	}
	return result
}

// checkLine refuses a text that is not one line of at most so many bytes.
func checkLine(what, text string, limit int) error {
	switch {
	case len(text) > limit:
		return fmt.Errorf("%s: has %d bytes, more than %d", what, len(text), limit)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("%s: %q is not one line of text", what, text)
	}
	return nil
}

// CheckNote refuses a note that is not one line, or too long.
func CheckNote(note string) error { return checkLine("note", note, maxNote) }

// refresh reads the catalogue if it has changed.
func (s *Store) refresh(ctx context.Context) error {
	var c *directorapi.Catalogue
	err := s.db.Read(ctx, func(tx *sqldb.Tx) error {
		head, err := readHead(ctx, tx)
		if err != nil {
			return err
		}
		if now := s.edition.Load(); now != nil && !newer(&head, now.catalogue) {
			return nil
		}
		c, err = read(ctx, tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("read catalogue: %w", err)
	}
	if c != nil {
		s.advance(c)
	}
	return nil
}

// readHead reads what is true of the whole catalogue.
func readHead(ctx context.Context, tx *sqldb.Tx) (c directorapi.Catalogue, err error) {
	var changed int64
	err = tx.QueryRow(ctx, `SELECT id, serial, changed FROM catalogue`).Scan(&c.ID, &c.Serial, &changed)
	c.Changed = time.UnixMicro(changed).UTC()
	return c, err
}

// read reads a catalogue of the caller's own.
func read(ctx context.Context, tx *sqldb.Tx) (*directorapi.Catalogue, error) {
	c, err := readHead(ctx, tx)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `SELECT items, name, body FROM items`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // read to its end, or failed anyway
	for rows.Next() {
		var items, name, body string
		if err := rows.Scan(&items, &name, &body); err != nil {
			return nil, err
		}
		k, ok := kindOf(directorapi.Items(items))
		if !ok {
			continue // of a newer version
		}
		if err := k.add(&c, name, body); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", items, name, err)
		}
	}
	sorted(&c)
	return &c, rows.Err()
}

// write writes what has changed, and who did it.
func write(ctx context.Context, tx *sqldb.Tx, c *directorapi.Catalogue, edit Edit, changes []itemChange) error {
	_, err := tx.Exec(ctx, `UPDATE catalogue SET serial = ?, changed = ?`, c.Serial, c.Changed.UnixMicro())
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO changes (serial, created, actor, note) VALUES (?, ?, ?, ?)`,
		c.Serial, c.Changed.UnixMicro(), edit.Actor, edit.Note)
	if err != nil {
		return err
	}
	for _, change := range changes {
		if change.after == "" {
			_, err = tx.Exec(ctx, `DELETE FROM items WHERE items = ? AND name = ?`, string(change.items), change.name)
		} else {
			_, err = tx.Exec(ctx, `INSERT INTO items (items, name, body) VALUES (?, ?, ?)
				ON CONFLICT (items, name) DO UPDATE SET body = excluded.body`, string(change.items), change.name, change.after)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO change_items (items, name, serial, before, after) VALUES (?, ?, ?, ?, ?)`,
			string(change.items), change.name, c.Serial, text(change.before), text(change.after))
		if err != nil {
			return err
		}
	}
	return tx.Notify(ctx, channel, "changed")
}

// text is NULL for an item that is not there.
func text(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
