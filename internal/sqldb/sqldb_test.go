package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"freshet/internal/sqldb"
	"freshet/internal/sqldb/sqldbtest"
)

var schemaV1 = fstest.MapFS{
	"0001_items.sql": {Data: []byte(`-- Is this "quoted"? It's a comment.
		CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT NOT NULL, body BYTEA);
		CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
		INSERT INTO counters (name, value) VALUES ('item', 0);`)},
}

func open(t *testing.T, dsn string, schema fstest.MapFS) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Config{DSN: dsn, Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func count(t *testing.T, db *sqldb.DB) (n int) {
	t.Helper()
	err := db.Read(t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT COUNT(*) FROM items`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func add(ctx context.Context, tx *sqldb.Tx, name string, body []byte) error {
	var id int64
	row := tx.QueryRow(ctx, `UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value`, "item")
	if err := row.Scan(&id); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO items (id, name, body) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING`, id, name, body)
	return err
}

func TestTransactions(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		t.Helper()
		ctx := t.Context()
		db := open(t, newDSN(), schemaV1)

		body := []byte("\x00\xff bytes")
		if err := db.Write(ctx, func(tx *sqldb.Tx) error { return add(ctx, tx, "what?", body) }); err != nil {
			t.Fatal(err)
		}
		var name string
		var got []byte
		err := db.Read(ctx, func(tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, `SELECT name, body FROM items WHERE id = ? AND name <> '?'`, 1).Scan(&name, &got)
		})
		if err != nil || name != "what?" || string(got) != string(body) {
			t.Fatalf("read back %q, %q, %v", name, got, err)
		}

		// An error rolls back and comes out as it is.
		wrong := errors.New("wrong")
		err = db.Write(ctx, func(tx *sqldb.Tx) error { return errors.Join(add(ctx, tx, "lost", nil), wrong) })
		if !errors.Is(err, wrong) || count(t, db) != 1 {
			t.Errorf("after an error: %v, %d items", err, count(t, db))
		}

		// Readers can not write.
		err = db.Read(ctx, func(tx *sqldb.Tx) error { return add(ctx, tx, "forbidden", nil) })
		if err == nil || count(t, db) != 1 {
			t.Errorf("a reader wrote: %v", err)
		}

		err = db.Read(ctx, func(tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, `SELECT name FROM items WHERE id = ?`, 99).Scan(&name)
		})
		if !sqldb.NoRows(err) {
			t.Errorf("absent row: %v", err)
		}
	})
}

// A reader sees one snapshot, whatever is committed while it reads.
func TestSnapshot(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		t.Helper()
		ctx := t.Context()
		db := open(t, newDSN(), schemaV1)
		err := db.Read(ctx, func(tx *sqldb.Tx) error {
			for range 3 {
				var n int
				if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM items`).Scan(&n); err != nil {
					return err
				}
				if n != 0 {
					return fmt.Errorf("the snapshot moved: %d items", n)
				}
				// The writer does not wait for us either.
				if err := db.Write(ctx, func(tx *sqldb.Tx) error { return add(ctx, tx, "new", nil) }); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := count(t, db); n != 3 {
			t.Errorf("%d items", n)
		}
	})
}

// Writers of several handles, as of several processes, run one after the other:
// reading and then writing what was read loses nothing.
func TestWritersRunAlone(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		t.Helper()
		const handles, writers, rounds = 3, 3, 10
		ctx := t.Context()
		dsn := newDSN()
		var group sync.WaitGroup
		for range handles {
			db := open(t, dsn, schemaV1)
			for range writers {
				group.Go(func() {
					for range rounds {
						err := db.Write(ctx, func(tx *sqldb.Tx) error {
							var n int64
							if err := tx.QueryRow(ctx, `SELECT value FROM counters WHERE name = 'item'`).Scan(&n); err != nil {
								return err
							}
							if _, err := tx.Exec(ctx, `UPDATE counters SET value = ? WHERE name = 'item'`, n+1); err != nil {
								return err
							}
							_, err := tx.Exec(ctx, `INSERT INTO items (id, name) VALUES (?, 'x')`, n+1)
							return err
						})
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
		}
		group.Wait()
		if n := count(t, open(t, dsn, schemaV1)); n != handles*writers*rounds {
			t.Errorf("%d items, want %d", n, handles*writers*rounds)
		}
	})
}

func TestMigrations(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		t.Helper()
		dsn := newDSN()
		v2 := fstest.MapFS{
			"0001_items.sql": schemaV1["0001_items.sql"],
			"0002_kinds.sql": {Data: []byte(`ALTER TABLE items ADD COLUMN kind TEXT NOT NULL DEFAULT 'old'; CREATE TABLE kinds (name TEXT);`)},
		}
		broken := fstest.MapFS{
			"0001_items.sql": v2["0001_items.sql"],
			"0002_kinds.sql": {Data: []byte(`CREATE TABLE kinds (name TEXT); CREATE NONSENSE;`)},
		}
		ctx := t.Context()

		// Several processes start at once on an empty database.
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				db, err := sqldb.Open(ctx, sqldb.Config{DSN: dsn, Schema: schemaV1})
				if err != nil {
					t.Error(err)
					return
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		db := open(t, dsn, schemaV1)
		if err := db.Write(ctx, func(tx *sqldb.Tx) error { return add(ctx, tx, "kept", nil) }); err != nil {
			t.Fatal(err)
		}

		// A migration that fails leaves nothing of itself.
		if _, err := sqldb.Open(ctx, sqldb.Config{DSN: dsn, Schema: broken}); err == nil || !strings.Contains(err.Error(), "0002_kinds.sql") {
			t.Fatalf("broken migration: %v", err)
		}
		db = open(t, dsn, v2)
		var kind string
		err := db.Read(ctx, func(tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, `SELECT kind FROM items WHERE name = ?`, "kept").Scan(&kind)
		})
		if err != nil || kind != "old" {
			t.Errorf("after the migration: %q, %v", kind, err)
		}

		// An older program does not touch what a newer one made.
		if _, err := sqldb.Open(ctx, sqldb.Config{DSN: dsn, Schema: schemaV1}); err == nil || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("older program: %v", err)
		}
	})
}

func TestBadSchemas(t *testing.T) {
	for name, files := range map[string][]string{
		"none":     {"README"},
		"gap":      {"0001_a.sql", "0003_c.sql"},
		"twice":    {"0001_a.sql", "0001_b.sql"},
		"from 2":   {"0002_a.sql"},
		"bad name": {"0001-a.sql"},
	} {
		t.Run(name, func(t *testing.T) {
			schema := fstest.MapFS{}
			for _, file := range files {
				schema[file] = &fstest.MapFile{Data: []byte("SELECT 1")}
			}
			_, err := sqldb.Open(t.Context(), sqldb.Config{DSN: sqldbtest.SQLite(t), Schema: schema})
			if err == nil || !strings.Contains(err.Error(), "read schema") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestErrorsKeepThePassword(t *testing.T) {
	for _, dsn := range []string{
		"postgres://hub:hunter2@127.0.0.1:1/freshet?connect_timeout=1",
		"postgres://hub@127.0.0.1:1/freshet?password=hunter2",
		"postgres://hub:hunter2@127.0.0.1:1/freshet?sslmode=sometimes",
		"postgres://hub:hunter2@[::1/freshet",
		"postgres://hub:hunter2@127.0.0.1:port/freshet",
		"mysql://hub:hunter2@127.0.0.1/freshet",
	} {
		_, err := sqldb.Open(t.Context(), sqldb.Config{DSN: dsn})
		if err == nil {
			t.Errorf("%s: opened", dsn)
		} else if text := err.Error(); strings.Contains(text, "hunter2") || !strings.HasPrefix(text, "open database ") {
			t.Errorf("%s: %s", dsn, text)
		}
	}
}

func TestSQLitePaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	odd := `odd name?mode=memory#%41&_pragma=x.db`
	for dsn, file := range map[string]string{
		"plain.db":                        "plain.db",
		filepath.Join(dir, "abs.db"):      "abs.db",
		"sqlite:scheme.db":                "scheme.db",
		"sqlite:" + dir + "/scheme2.db":   "scheme2.db",
		"sqlite://" + dir + "/slashes.db": "slashes.db",
		odd:                               odd,
		"sqlite:" + dir + "/" + odd + "2": odd + "2",
	} {
		open(t, dsn, schemaV1)
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
		} else if info.Mode().Perm() != 0o600 || info.Size() == 0 {
			t.Errorf("%s: mode %v, %d bytes", dsn, info.Mode(), info.Size())
		}
	}
	db, err := sqldb.Open(t.Context(), sqldb.Config{Default: "default.db"})
	if err != nil || db.Name() != "sqlite:default.db" {
		t.Fatalf("default: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if _, err := sqldb.Open(t.Context(), sqldb.Config{DSN: "absent/x.db"}); err == nil {
		t.Error("opened a file in a folder that does not exist")
	}
}

// What is committed must be on stable storage: the pragmas are what they
// should be on every connection.
func TestSQLitePragmas(t *testing.T) {
	ctx := t.Context()
	db := open(t, sqldbtest.SQLite(t), schemaV1)
	check := func(tx *sqldb.Tx) error {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
			var got string
			if err := tx.QueryRow(ctx, "PRAGMA "+pragma).Scan(&got); err != nil {
				return err
			}
			if got != want {
				t.Errorf("%s is %s, want %s", pragma, got, want)
			}
		}
		return nil
	}
	if err := errors.Join(db.Write(ctx, check), db.Read(ctx, check)); err != nil {
		t.Fatal(err)
	}
}

func TestBackup(t *testing.T) {
	ctx := t.Context()
	db := open(t, sqldbtest.SQLite(t), schemaV1)
	if err := db.Write(ctx, func(tx *sqldb.Tx) error { return add(ctx, tx, "kept", nil) }); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "copy.db")
	if err := db.Backup(ctx, path); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(ctx, func(tx *sqldb.Tx) error { return add(ctx, tx, "later", nil) }); err != nil {
		t.Fatal(err)
	}
	if n := count(t, open(t, path, schemaV1)); n != 1 {
		t.Errorf("the copy has %d items", n)
	}
	if err := db.Backup(ctx, path); !errors.Is(err, os.ErrExist) {
		t.Errorf("second copy to the same place: %v", err)
	}
	if leftovers, err := filepath.Glob(filepath.Join(dir, ".backup-*")); err != nil || len(leftovers) > 0 {
		t.Errorf("leftovers: %v, %v", leftovers, err)
	}
}

func TestPostgreSQLOnly(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dsn := sqldbtest.PostgreSQL(t)
	db := open(t, dsn, schemaV1)
	if err := db.Backup(ctx, filepath.Join(t.TempDir(), "x")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("backup: %v", err)
	}

	// Notifications arrive from another handle.
	listening, stop := context.WithCancel(ctx)
	heard := make(chan string, 100)
	done := make(chan error, 1)
	go func() { done <- db.Listen(listening, "test", func(payload string) { heard <- payload }) }()
	other := open(t, dsn, schemaV1)
	for tell := true; tell; {
		// Until the listener is there, what is sent is lost.
		err := other.Write(ctx, func(tx *sqldb.Tx) error { return tx.Notify(ctx, "test", "it's \"here\"") })
		if err != nil {
			t.Fatal(err)
		}
		select {
		case payload := <-heard:
			if payload != "it's \"here\"" {
				t.Errorf("heard %q", payload)
			}
			tell = false
		case <-time.After(10 * time.Millisecond):
		case err := <-done:
			t.Fatal(err)
		}
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("listen ended with %v", err)
	}

	// A statement that takes too long ends.
	slow, err := sqldb.Open(ctx, sqldb.Config{DSN: dsn, StatementTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	err = slow.Read(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_sleep(600)`)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "statement timeout") {
		t.Errorf("slow statement: %v", err)
	}
}

// A transaction that is lost to others runs again.
func TestRetry(t *testing.T) {
	ctx := t.Context()
	dsn := sqldbtest.PostgreSQL(t)
	db := open(t, dsn, schemaV1)
	raw, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, statement := range []string{`INSERT INTO items (id, name) VALUES (1, 'a')`, `INSERT INTO items (id, name) VALUES (2, 'b')`} {
		if _, err := raw.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	// A program that does not know our lock takes the rows in the other order.
	foreign, err := raw.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Rollback()
	var pid int
	if err := foreign.QueryRowContext(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
		t.Fatal(err)
	}
	// The foreign program waits longer for the deadlock to be found, so that
	// ours is the one chosen to lose.
	for _, statement := range []string{`SET LOCAL deadlock_timeout = '1h'`, `UPDATE items SET name = 'c' WHERE id = 2`} {
		if _, err := foreign.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	attempts := 0
	var others sync.WaitGroup
	err = db.Write(ctx, func(tx *sqldb.Tx) error {
		attempts++
		if _, err := tx.Exec(ctx, `UPDATE items SET name = 'd' WHERE id = 1`); err != nil {
			return err
		}
		if attempts == 1 {
			others.Go(func() {
				_, err := foreign.ExecContext(ctx, `UPDATE items SET name = 'c' WHERE id = 1`)
				if err == nil {
					err = foreign.Commit()
				}
				if err != nil {
					t.Errorf("foreign: %v", err)
				}
			})
			// Ours looks for a deadlock once: the foreign program must wait by then.
			for waits := false; !waits; {
				const query = `SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = $1`
				if err := raw.QueryRowContext(ctx, query, pid).Scan(&waits); err != nil {
					return err
				}
			}
		}
		_, err := tx.Exec(ctx, `UPDATE items SET name = 'd' WHERE id = 2`)
		return err
	})
	others.Wait()
	if err != nil || attempts != 2 {
		t.Errorf("%d attempts: %v", attempts, err)
	}
}
