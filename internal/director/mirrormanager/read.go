package mirrormanager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"freshet/internal/mirrorlist"
)

// Options change how a database is read. The zero value is fine.
type Options struct {
	// Now is when the snapshot is made (default: the present time).
	Now time.Time
	// Resolve finds the addresses of a name that stands for a netblock (default: the
	// system's resolver, for ten seconds at most per name).
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
}

// Read makes a snapshot of the database at dsn, which is a URL like
// postgresql://user@host/mirrormanager2 or a list of settings (libpq's, section 34.1).
// Errors do not repeat it, since it may hold a password.
func Read(ctx context.Context, dsn string, opt Options) (*mirrorlist.Snapshot, error) {
	conn, err := connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("open MirrorManager's database: %w", err)
	}
	s, err := read(ctx, conn, opt)
	if closed := conn.Close(context.WithoutCancel(ctx)); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("read MirrorManager's database: %w", err)
	}
	return s, nil
}

func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		if parse, ok := errors.AsType[*pgconn.ParseConfigError](err); ok && parse.Unwrap() != nil {
			err = parse.Unwrap() // the outer error repeats the DSN
		}
		return nil, err
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "freshet director snapshot"
	}
	return pgx.ConnectConfig(ctx, config)
}

func read(ctx context.Context, conn *pgx.Conn, opt Options) (*mirrorlist.Snapshot, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	if opt.Now.IsZero() {
		opt.Now = time.Now()
	}
	if opt.Resolve == nil {
		opt.Resolve = resolve
	}
	r := newReader(tx, opt)
	for _, step := range []struct {
		table string
		read  func(context.Context) error
	}{
		{"host", r.readHosts},
		{"host_netblock", r.readNetblocks},
		{"host_country_allowed", r.readAllowed},
		{"host_category", r.readCarriers},
		{"host_category_url", r.readURLs},
		{"directory", r.readDirectories},
		{"category_directory", r.readCategories},
		{"host_category_dir", r.readUpToDate},
		{"repository", r.readRepositories},
		{"repository_redirect", r.readRedirects},
		{"country_continent_redirect", r.readContinents},
		{"netblock_country", r.readNetblockCountries},
		{"file_detail", r.readFiles},
	} {
		if err := step.read(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("table %s: %w", step.table, err), tx.Rollback(context.WithoutCancel(ctx)))
		}
	}
	if err := tx.Rollback(ctx); err != nil {
		return nil, err
	}
	if err := r.addNetblocks(ctx); err != nil {
		return nil, err
	}
	r.addDirectories()
	r.b.SetTime(uint64(opt.Now.Unix()))
	return r.b.Snapshot()
}

// resolve asks the system's resolver.
func resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// each runs a query and calls row after each of its rows was scanned into the values.
func (r *reader) each(ctx context.Context, query string, into []any, row func()) error {
	rows, err := r.tx.Query(ctx, query)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, into, func() error {
		row()
		return nil
	})
	return err
}
