package sqldb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"time"
)

// migration is one file of a schema.
type migration struct {
	version int
	name    string
	sql     string
}

// migrate brings the database to the newest version of the schema. It is one
// write transaction: of several processes that start at once, the first does
// the work and the others find it done.
func (db *DB) migrate(ctx context.Context, schema fs.FS) error {
	migrations, err := readMigrations(schema)
	if err != nil {
		return err
	}
	return db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS schema_migrations (
			version BIGINT PRIMARY KEY,
			name    TEXT NOT NULL,
			applied BIGINT NOT NULL
		)`)
		if err != nil {
			return fmt.Errorf("create table schema_migrations: %w", err)
		}
		var have int
		row := tx.QueryRow(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_migrations`)
		if err := row.Scan(&have); err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if have > len(migrations) {
			return fmt.Errorf("its schema is version %d, this program knows up to %d: it was used by a newer version", have, len(migrations))
		}
		for _, m := range migrations[have:] {
			if _, err := tx.Exec(ctx, m.sql); err != nil {
				return fmt.Errorf("apply migration %s: %w", m.name, err)
			}
			_, err := tx.Exec(ctx, `INSERT INTO schema_migrations (version, name, applied) VALUES (?, ?, ?)`,
				m.version, m.name, time.Now().UnixMicro())
			if err != nil {
				return fmt.Errorf("record migration %s: %w", m.name, err)
			}
		}
		return nil
	})
}

// readMigrations returns the migrations in order; the file names must count
// from 1 without gaps.
func readMigrations(schema fs.FS) ([]migration, error) {
	names, err := fs.Glob(schema, "*.sql") // sorted
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("read schema: there are no migrations")
	}
	form := regexp.MustCompile(`^([0-9]{4})_[a-z0-9_]+\.sql$`)
	var migrations []migration
	for i, name := range names {
		parts := form.FindStringSubmatch(path.Base(name))
		if parts == nil {
			return nil, fmt.Errorf("read schema: %s is not of the form 0001_name.sql", name)
		}
		version, err := strconv.Atoi(parts[1])
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("read schema: found %s where %04d is due", name, i+1)
		}
		text, err := fs.ReadFile(schema, name)
		if err != nil {
			return nil, fmt.Errorf("read schema: %w", err)
		}
		migrations = append(migrations, migration{version, name, string(text)})
	}
	return migrations, nil
}
