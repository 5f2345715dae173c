// Package catalog is the control state of the hub: builds and their refs, the
// queue of jobs with its logs, what is published, the event log, the tokens
// seen and revoked, and who did what.
//
// Its methods are the verbs of the domain. Each is one transaction: it happens
// as a whole, on stable storage, before the method returns, or not at all. The
// tables are in schema/, in SQLite or PostgreSQL (package sqldb).
//
// # Promises
//
//   - Serials of events begin at 1 and have no gap, and an event is written in
//     the transaction of the change that it tells of. Whoever sees serial n sees
//     all below n.
//   - A job is run by one claimant at a time. Jobs of one repository that move
//     its refs ([SerialKinds]) run one after the other; all others, commits,
//     checks and prunes among them, run beside each other and beside those.
//   - A job under way when its process dies is queued again by [Catalog.Recover],
//     with its build still Committing or Publishing; it fails only after
//     [MaxInterruptions].
//   - Of several processes that share the database one leads what goes by a name,
//     until it leaves or is taken for dead ([Catalog.Bury]).
//   - What is held waits and is overtaken by what is not; the jobs of one
//     application keep their order.
//   - [Catalog.FinishPublish] and [Catalog.RecordTree] take a key and do their
//     work once for it, so that they can be called again after a crash.
//
// Files are not its business: what is on disk is the truth for the publisher,
// which brings the catalog up to date after a crash.
package catalog

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

//go:embed schema/*.sql
var schema embed.FS

// Config says where the control state is.
type Config struct {
	// DSN is the database, see [sqldb.Config]. Empty means the SQLite file Path.
	DSN  string
	Path string
	// Instance names this process among all that share the database. After a
	// restart the same name gets back the jobs it had. Two processes that run
	// at the same time need different names. Empty means the host's name.
	Instance string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Catalog is the control state. All methods may be called concurrently.
type Catalog struct {
	*state
	actor    string
	reviewer bool // may put aside what a review has decided
}

// state is what all views of a catalog share.
type state struct {
	db       *sqldb.DB
	log      string // identity of the event log
	instance string
	boot     atomic.Pointer[string] // names this run of the process, see Boot
	clock    func() time.Time
	events   broadcast
	jobs     broadcast
}

// idleTimeout is how long a process that shares the database may hold up the others
// when it is stopped within a transaction.
const idleTimeout = 5 * time.Second

// Away tells whether an error is that of a database that does not answer for now.
func Away(err error) bool { return sqldb.Away(err) }

// Open opens the database and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*Catalog, error) {
	migrations, err := fs.Sub(schema, "schema")
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	database := sqldb.Config{DSN: cfg.DSN, Default: cfg.Path, Schema: migrations}
	if cfg.Instance != "" {
		database.IdleTimeout = idleTimeout
	}
	if cfg.Instance == "" {
		if cfg.Instance, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("open catalog: %w", err)
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	db, err := sqldb.Open(ctx, database)
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	c := &Catalog{state: &state{db: db, instance: cfg.Instance, clock: cfg.Now}}
	c.boot.Store(new(rand.Text()))
	if err := c.identify(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog: %w", err), db.Close())
	}
	return c, nil
}

// identify reads the identity of the event log, which a new catalog invents.
func (c *Catalog) identify(ctx context.Context) error {
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO meta (name, value) VALUES ('log', ?) ON CONFLICT (name) DO NOTHING`, rand.Text())
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT value FROM meta WHERE name = 'log'`).Scan(&c.log)
	})
}

// Close closes the database.
func (c *Catalog) Close() error { return c.db.Close() }

// Ping checks that the database answers.
func (c *Catalog) Ping(ctx context.Context) error {
	_, err := c.Head(ctx)
	return err
}

// Database names the database, without its password, for logs.
func (c *Catalog) Database() string { return c.db.Name() }

// Backup writes a copy of the database to a new file while the hub runs, see
// [sqldb.DB.Backup].
func (c *Catalog) Backup(ctx context.Context, path string) error { return c.db.Backup(ctx, path) }

// By returns the catalog as seen by an actor: what is done through it is
// recorded in the audit log as theirs. The actor is the name in a token, or
// "cli:root" and the like; by default it is "hub".
func (c *Catalog) By(actor string) *Catalog {
	return &Catalog{state: c.state, actor: actor}
}

// AsReviewer returns the catalog as seen by the same actor, with the right to decide
// on checks.
func (c *Catalog) AsReviewer() *Catalog {
	return &Catalog{state: c.state, actor: c.actor, reviewer: true}
}

func (c *Catalog) now() time.Time { return c.clock() }

// next gives out the next number of a counter. The transaction holds the
// counter until it ends, so that numbers have no gaps.
func next(ctx context.Context, tx *sqldb.Tx, counter string) (int64, error) {
	var n int64
	row := tx.QueryRow(ctx, `UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value`, counter)
	if err := row.Scan(&n); err != nil {
		return 0, fmt.Errorf("count %s: %w", counter, err)
	}
	return n, nil
}

// ErrNotFound is wrapped by errors about a build, ref, job or page that does
// not exist.
var ErrNotFound = errors.New("not found")

// ErrInUse refuses to purge a build that something is being done with. Clients
// of flat-manager look for this text.
var ErrInUse = errors.New("Can't prune build while in use") //nolint:staticcheck // the text is part of the protocol

// ErrClaimLost says that a job is no longer the caller's: somebody else has
// taken or ended it. The caller drops what it did.
var ErrClaimLost = errors.New("claim on job lost")

// WrongStateError says that a build is not in a state in which the verb is
// possible.
type WrongStateError struct {
	// Kind is hubapi.ErrWrongRepoState or hubapi.ErrWrongPublishedState.
	Kind hubapi.ErrorKind
	// Current and Expected are the names of states.
	Current, Expected string
	Message           string
}

func (e *WrongStateError) Error() string {
	return fmt.Sprintf("%s: state is %s, not %s", e.Message, e.Current, e.Expected)
}

func wrongRepoState(message string, current, expected hubapi.RepoState) error {
	return &WrongStateError{hubapi.ErrWrongRepoState, current.String(), expected.String(), message}
}

func wrongPublishedState(message string, current, expected hubapi.PublishedState) error {
	return &WrongStateError{hubapi.ErrWrongPublishedState, current.String(), expected.String(), message}
}

func notFound(what string, id any) error { return fmt.Errorf("%s %v: %w", what, id, ErrNotFound) }

// clean makes free text storable: PostgreSQL takes neither invalid UTF-8 nor
// NUL.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func cleanPtr(s *string) *string {
	if s == nil {
		return nil
	}
	return new(clean(*s))
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func timeOf(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

func toJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}
