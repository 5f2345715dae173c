package flatmanager

import (
	"context"
	"fmt"

	"freshet/internal/hub/catalog"
)

// Take takes the database over into the catalog. It may be called again after it
// was interrupted. step is told the number of rows done so far. When the catalog
// is in use the error wraps [catalog.ErrNotEmpty].
func (d *Database) Take(ctx context.Context, into *catalog.Catalog, step func(int64)) (Counts, error) {
	n, err := d.Count(ctx)
	if err != nil {
		return n, err
	}
	if err := into.BeginImport(ctx, d.name); err != nil {
		return n, err
	}
	done := int64(0)
	err = d.parts(ctx, func(part catalog.Import, rows int) error {
		if err := into.Import(ctx, part); err != nil {
			return err
		}
		done += int64(rows)
		step(done)
		return nil
	})
	if err != nil {
		return n, err
	}
	if done != n.Total() {
		return n, fmt.Errorf("read %d of %d rows of flat-manager's database", done, n.Total())
	}
	return n, nil
}

// Done says that everything was taken over: the catalog takes no other import.
func (d *Database) Done(ctx context.Context, into *catalog.Catalog) error {
	return into.EndImport(ctx, d.name)
}
