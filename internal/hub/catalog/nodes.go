package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

const (
	// maxNodes bounds the nodes that are known.
	maxNodes = 10_000
	// seenStep is how exactly it is known when a node last reported: one that
	// stands still costs one write in this time.
	seenStep = 15 * time.Second
)

// ErrTooManyNodes says that a report of a new node is not kept.
var ErrTooManyNodes = errors.New("too many nodes are known already")

// ReportNode notes how far a node has come. Seen and Past are not looked at.
func (c *Catalog) ReportNode(ctx context.Context, node hubapi.Node) error {
	now := c.now()
	var known []hubapi.Node
	err := c.db.Read(ctx, func(tx *sqldb.Tx) (err error) {
		known, err = queryNodes(ctx, tx, ` WHERE name = ? AND site = ?`, clean(node.Name), clean(node.Site))
		return err
	})
	if err != nil {
		return fmt.Errorf("read node %q: %w", node.Name, err)
	}
	if len(known) == 1 && known[0].Log == node.Log && known[0].Serial == node.Serial {
		if since := now.Sub(known[0].Seen); since >= 0 && since < seenStep {
			return nil
		}
	}
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if len(known) == 0 {
			var n int
			if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM nodes`).Scan(&n); err != nil {
				return err
			}
			if n >= maxNodes {
				return ErrTooManyNodes
			}
		}
		_, err := tx.Exec(ctx, `INSERT INTO nodes (name, site, log, serial, seen) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name, site) DO UPDATE SET log = excluded.log, serial = excluded.serial, seen = excluded.seen`,
			clean(node.Name), clean(node.Site), clean(node.Log), node.Serial, now.UnixMicro())
		if err != nil {
			return err
		}
		return c.noteStep(ctx, tx, node, len(known) == 0 || known[0].Log != node.Log || known[0].Serial != node.Serial)
	})
	if err != nil {
		return fmt.Errorf("note node %q: %w", node.Name, err)
	}
	return nil
}

// Nodes returns the nodes that have reported since the last [Catalog.Expire]
// forgot the others, sorted by name and site, with the log's identity and head.
func (c *Catalog) Nodes(ctx context.Context) (list hubapi.NodeList, err error) {
	list.Log = c.log
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT value FROM counters WHERE name = 'event'`).Scan(&list.Head); err != nil {
			return err
		}
		list.Nodes, err = queryNodes(ctx, tx, ` ORDER BY name, site`)
		return err
	})
	if err != nil {
		return list, fmt.Errorf("read nodes: %w", err)
	}
	return list, nil
}

func queryNodes(ctx context.Context, tx *sqldb.Tx, where string, args ...any) ([]hubapi.Node, error) {
	rows, err := tx.Query(ctx, `SELECT name, site, log, serial, seen FROM nodes`+where, args...)
	return collect(rows, err, func(rows *sql.Rows) (n hubapi.Node, err error) {
		var seen int64
		err = rows.Scan(&n.Name, &n.Site, &n.Log, &n.Serial, &seen)
		n.Seen = timeOf(seen)
		return n, err
	})
}
