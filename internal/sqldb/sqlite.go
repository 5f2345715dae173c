package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"

	"freshet/internal/pause"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// busyTimeout is how long SQLite waits for the lock of another process, in
// milliseconds, before a statement fails.
const busyTimeout = "5000"

// openAttempts bounds how often a database is opened that others are just opening or
// closing: about five seconds.
const openAttempts = 11

// sqliteFile is the path of a SQLite database.
type sqliteFile string

func (f sqliteFile) name() string { return "sqlite:" + string(f) }

func (f sqliteFile) open(ctx context.Context, cfg Config) (*DB, error) {
	path, err := filepath.Abs(string(f))
	if err != nil {
		return nil, err
	}
	if err := createFile(path); err != nil {
		return nil, err
	}
	common := url.Values{
		"_busy_timeout": {busyTimeout},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"on"},
	}
	writing := withValues(common, url.Values{"_txlock": {"immediate"}})
	reading := withValues(common, url.Values{"_txlock": {"deferred"}, "_query_only": {"on"}})
	uri := "file://" + (&url.URL{Path: path}).EscapedPath()

	// A connection for queries only can not make a backup.
	db := &DB{engine: SQLite, name: f.name(), copyFrom: uri + "?_busy_timeout=" + busyTimeout}
	if db.writer, err = sql.Open("sqlite", uri+"?"+writing.Encode()); err != nil {
		return nil, err
	}
	db.writer.SetMaxOpenConns(1)
	// Opening the writer first puts the file into WAL mode, which readers can
	// not do.
	// For that SQLite wants the file for itself, and does not wait.
	for attempt := range openAttempts {
		if attempt > 0 && !pause.For(ctx, backoff(attempt)) {
			break
		}
		if err = db.writer.PingContext(ctx); err == nil || !retryableSQLite(err) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, db.writer.Close())
	}
	if db.reader, err = sql.Open("sqlite", uri+"?"+reading.Encode()); err != nil {
		return nil, errors.Join(err, db.writer.Close())
	}
	db.reader.SetMaxOpenConns(cfg.Readers)
	db.reader.SetMaxIdleConns(cfg.Readers)
	return db, nil
}

// createFile makes an empty file that only its owner reads, when there is
// none. SQLite takes an empty file for an empty database.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func withValues(base, more url.Values) url.Values {
	sum := url.Values{}
	maps.Copy(sum, base)
	maps.Copy(sum, more)
	return sum
}

// retryableSQLite tells whether a transaction that failed with err was rolled
// back because of others, so that it may succeed when tried again.
func retryableSQLite(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	primary := e.Code() & 0xff
	return primary == sqlite3.SQLITE_BUSY || primary == sqlite3.SQLITE_LOCKED
}

// Backup writes a consistent copy of the database to path, which must not
// exist, while others read and write it. The copy is complete and on stable
// storage once it has its name. On PostgreSQL it fails with
// [errors.ErrUnsupported]: pg_dump makes backups there.
func (db *DB) Backup(ctx context.Context, path string) error {
	if db.engine != SQLite {
		return fmt.Errorf("back up %s: use pg_dump: %w", db.name, errors.ErrUnsupported)
	}
	if err := db.backup(ctx, path); err != nil {
		return fmt.Errorf("back up %s to %s: %w", db.name, path, err)
	}
	return nil
}

func (db *DB) backup(ctx context.Context, path string) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, ".backup-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	defer func() { err = errors.Join(err, temp.Close()) }()
	source, err := sql.Open("sqlite", db.copyFrom)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	// VACUUM INTO accepts an empty file, and we want its mode of 0600.
	if _, err := source.ExecContext(ctx, "VACUUM INTO ?", temp.Name()); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	// A link, unlike a rename, does not replace what is there.
	if err := os.Link(temp.Name(), path); err != nil {
		return err
	}
	if err := os.Remove(temp.Name()); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
