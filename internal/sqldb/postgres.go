package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// postgresURL is the DSN of a PostgreSQL database.
type postgresURL struct{ *url.URL }

func (u postgresURL) name() string { return redact(u.URL) }

func (u postgresURL) open(ctx context.Context, cfg Config) (*DB, error) {
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		var parse *pgconn.ParseConfigError
		if errors.As(err, &parse) && parse.Unwrap() != nil {
			err = parse.Unwrap() // the outer error repeats the DSN
		}
		return nil, err
	}
	timeout := strconv.FormatInt(cfg.StatementTimeout.Milliseconds(), 10)
	defaults := map[string]string{
		"application_name":                    "freshet",
		"statement_timeout":                   timeout,
		"idle_in_transaction_session_timeout": strconv.FormatInt(cfg.IdleTimeout.Milliseconds(), 10),
	}
	for key, value := range defaults {
		if _, set := config.RuntimeParams[key]; !set {
			config.RuntimeParams[key] = value
		}
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}

	db := &DB{
		engine: PostgreSQL,
		name:   u.name(),
		listen: config,
		reader: stdlib.OpenDB(*config),
		writer: stdlib.OpenDB(*config),
	}
	db.writer.SetMaxOpenConns(1)
	db.reader.SetMaxOpenConns(cfg.Readers)
	db.reader.SetMaxIdleConns(cfg.Readers)
	if err := db.writer.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// lockSchema makes tx the only write transaction among the users of this
// package in the current schema, until it ends. READ COMMITTED lets each later
// statement see what the previous holder committed.
func lockSchema(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('freshet ' || current_schema(), 0))`)
	if err != nil {
		return fmt.Errorf("wait for other writers: %w", err)
	}
	return nil
}

// retryablePostgres tells whether a transaction that failed with err was rolled
// back because of others.
func retryablePostgres(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", // serialization_failure
		"40P01": // deadlock_detected
		return true
	}
	return false
}

// Away tells whether an error is that of a database that cannot be reached, has ended
// the connection, or takes too long: nothing that the caller did wrong, and it passes.
func Away(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		// Class 08: connection exceptions; 57P: the server stops or starts, or has
		// ended the session; 53300: too many connections; 25P03: idle for too long.
		return strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "57P") || e.Code == "53300" || e.Code == "25P03"
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*lostError](err); ok {
		return true
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
}

// Listen calls notified for each NOTIFY on the channel, until ctx ends or the
// connection breaks, and returns why. It is a hint to look sooner: what was
// sent while nobody listened is lost, so call it beside polling. On SQLite it
// fails at once with [errors.ErrUnsupported].
func (db *DB) Listen(ctx context.Context, channel string, notified func(payload string)) error {
	if db.engine != PostgreSQL {
		return fmt.Errorf("listen on %s: %w", db.name, errors.ErrUnsupported)
	}
	conn, err := pgx.ConnectConfig(ctx, db.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", db.name, err)
	}
	defer func() {
		// ctx may be over; the server still deserves a goodbye.
		goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(goodbye)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("listen on %s: %w", db.name, err)
	}
	for {
		note, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", db.name, err)
		}
		notified(note.Payload)
	}
}

// Hints sends to hint, if it has room, for each NOTIFY on the channel, until ctx ends.
// When the connection breaks it is made again, at most once in every. As with [DB.Listen],
// what was sent meanwhile is lost. On SQLite it returns at once.
func (db *DB) Hints(ctx context.Context, channel string, every time.Duration, hint chan<- struct{}) {
	if db.engine != PostgreSQL {
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		// An error leaves polling, which needs no notifications.
		_ = db.Listen(ctx, channel, func(string) {
			select {
			case hint <- struct{}{}:
			default:
			}
		})
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
