// Package sqldb opens the database in which a role keeps its control state:
// a SQLite file by default, PostgreSQL by DSN. Code above it is written once,
// in SQL that both engines understand.
//
// # What both engines promise
//
//   - [DB.Write] runs one transaction at a time per database, whatever number
//     of goroutines, processes or hosts ask. What the function reads is the
//     newest committed state, and nobody changes it before the function is
//     through. When Write returns nil, the change has reached stable storage.
//   - [DB.Read] sees one snapshot, never waits for writers and delays none.
//
// SQLite gives both in WAL mode with one connection for writing and several
// for reading; synchronous=FULL makes a commit survive power loss. On
// PostgreSQL a write transaction first takes an advisory lock of the schema,
// which makes it alone among the users of this package; reads are REPEATABLE
// READ. A role that outgrows one writer at a time adds its own way of writing
// beside Write; the control state of a hub does not come near (hundreds of
// commits a second).
//
// # Portable SQL
//
// Placeholders are "?" (rewritten to "$1…" for PostgreSQL). Times are BIGINT
// microseconds since 1970, truth values are BIGINT 0 and 1, JSON is TEXT,
// bytes are BYTEA (SQLite stores any type under any name). Upserts are written
// ON CONFLICT, pages go by key and not by OFFSET, and numbers are given out
// by counters in tables, not by sequences, which leave gaps.
//
// # Files
//
// A SQLite database is its file plus "-wal" and "-shm" beside it; the three
// belong together while a process has it open. [DB.Backup] makes one file that
// needs no others.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
)

// Engine is the database program behind a [DB].
type Engine int

// The engines.
const (
	SQLite Engine = iota
	PostgreSQL
)

func (e Engine) String() string {
	if e == PostgreSQL {
		return "postgresql"
	}
	return "sqlite"
}

// Config says which database to open, and what it must contain.
type Config struct {
	// DSN names the database: a path or "sqlite:path" for a SQLite file,
	// "postgres://user@host/name?…" or "postgresql://…" for PostgreSQL. Empty
	// means the SQLite file Default.
	DSN string
	// Default is the SQLite file that serves when DSN is empty.
	Default string
	// Schema holds the migrations, see [Open]. Nil means none.
	Schema fs.FS
	// Readers bounds the connections for reading; 0 means 8.
	Readers int
	// StatementTimeout ends a PostgreSQL statement that takes longer; 0 means 30
	// seconds.
	StatementTimeout time.Duration
	// IdleTimeout ends a PostgreSQL transaction that is idle for longer, of a process
	// that was stopped for instance; 0 means StatementTimeout.
	IdleTimeout time.Duration
}

// DB is an open database. All methods may be called concurrently.
type DB struct {
	engine Engine
	name   string  // the DSN without its password
	reader *sql.DB // connections for reading
	writer *sql.DB // one connection

	listen   *pgx.ConnConfig // PostgreSQL: how Listen connects
	copyFrom string          // SQLite: what Backup opens
}

// Open opens the database, creates the SQLite file when there is none (mode
// 0600; its folder must exist), and applies the migrations that it lacks.
//
// Migrations are the files "NNNN_name.sql" at the root of cfg.Schema, numbered
// from 0001 without gaps. They only go forward; the numbers applied are kept
// in the table schema_migrations. All that are missing are applied in one
// transaction, so that a database is never between two versions, and several
// processes may open it at once. A database with more migrations than
// cfg.Schema has belongs to a newer program and is refused.
//
// Every error names the database without its password.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Readers <= 0 {
		cfg.Readers = 8
	}
	if cfg.StatementTimeout <= 0 {
		cfg.StatementTimeout = 30 * time.Second
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = cfg.StatementTimeout
	}
	src, err := parseDSN(cfg)
	if err != nil {
		return nil, err
	}
	db, err := src.open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", src.name(), err)
	}
	if cfg.Schema != nil {
		if err := db.migrate(ctx, cfg.Schema); err != nil {
			return nil, errors.Join(fmt.Errorf("open database %s: %w", db.name, err), db.Close())
		}
	}
	return db, nil
}

// Close closes all connections. Transactions under way fail.
func (db *DB) Close() error {
	return errors.Join(db.reader.Close(), db.writer.Close())
}

// Engine returns the engine that runs the database.
func (db *DB) Engine() Engine { return db.engine }

// Name returns the DSN without its password, for logs.
func (db *DB) Name() string { return db.name }
