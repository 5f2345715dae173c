package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"freshet/internal/pause"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxAttempts bounds how often a transaction is tried that loses against
// others. With SQLite's own wait of five seconds it is half a minute.
const maxAttempts = 6

// Tx is a transaction. It is valid until the function it was given to returns,
// and for use by one goroutine. Queries take "?" placeholders.
type Tx struct {
	tx     *sql.Tx
	engine Engine
}

// Exec runs a statement and returns how many rows it touched.
func (tx *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := tx.tx.ExecContext(ctx, tx.bind(query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Query runs a statement that returns rows. Close them before the next
// statement.
func (tx *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return tx.tx.QueryContext(ctx, tx.bind(query), args...)
}

// QueryRow runs a statement that returns one row; without any, Scan fails with
// [sql.ErrNoRows].
func (tx *Tx) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return tx.tx.QueryRowContext(ctx, tx.bind(query), args...)
}

// Notify sends a notification to every [DB.Listen] of the channel when the
// transaction commits. On SQLite nobody can listen, and it does nothing.
func (tx *Tx) Notify(ctx context.Context, channel, payload string) error {
	if tx.engine != PostgreSQL {
		return nil
	}
	_, err := tx.tx.ExecContext(ctx, "SELECT pg_notify($1, $2)", channel, payload)
	return err
}

func (tx *Tx) bind(query string) string {
	if tx.engine == PostgreSQL {
		return numbered(query)
	}
	return query
}

// Write runs fn in a write transaction and commits it when fn returns nil. It
// runs alone, see the package comment. When the transaction is lost to others
// (a lock held for long, a deadlock), it is rolled back and fn runs again, so
// fn must not change anything but the database until it has returned nil, and
// must set what it returns anew each time.
//
// An error of fn is returned as it is. When the connection breaks during the
// commit, the error leaves open whether it took place.
func (db *DB) Write(ctx context.Context, fn func(tx *Tx) error) error {
	var err error
	for attempt := range maxAttempts {
		if attempt > 0 {
			if !pause.For(ctx, backoff(attempt)) {
				break
			}
		}
		err = db.run(ctx, db.writer, nil, fn)
		if err == nil || !db.retryable(err) {
			break
		}
	}
	return err
}

// Read runs fn in a transaction that sees one snapshot of the database and can
// change nothing. An error of fn is returned as it is.
func (db *DB) Read(ctx context.Context, fn func(tx *Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if db.engine == PostgreSQL {
		opts.Isolation = sql.LevelRepeatableRead
	}
	return db.run(ctx, db.reader, opts, fn)
}

func (db *DB) run(ctx context.Context, pool *sql.DB, opts *sql.TxOptions, fn func(tx *Tx) error) error {
	tx, err := pool.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("database %s: begin: %w", db.name, db.lost(ctx, err))
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing; before, the first error counts
	if opts == nil && db.engine == PostgreSQL {
		if err := lockSchema(ctx, tx); err != nil {
			return fmt.Errorf("database %s: %w", db.name, db.lost(ctx, err))
		}
	}
	if err := fn(&Tx{tx: tx, engine: db.engine}); err != nil {
		if endErr := tx.Rollback(); endErr != nil && !errors.Is(endErr, sql.ErrTxDone) && ctx.Err() == nil {
			return &lostError{err} // nobody is there to take it back
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("database %s: commit: %w", db.name, db.lost(ctx, err))
	}
	return nil
}

// lostError is an error of a transaction whose connection is lost.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// lost marks an error of the transaction itself that is not the server's answer.
func (db *DB) lost(ctx context.Context, err error) error {
	if _, answered := errors.AsType[*pgconn.PgError](err); answered || db.engine != PostgreSQL || ctx.Err() != nil {
		return err
	}
	return &lostError{err}
}

func (db *DB) retryable(err error) bool {
	return retryableSQLite(err) || retryablePostgres(err)
}

// backoff returns a random pause that grows with the attempts.
func backoff(attempt int) time.Duration {
	limit := 5 * time.Millisecond << attempt
	return limit/2 + rand.N(limit)
}

// NoRows tells whether err says that a row was not found.
func NoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
