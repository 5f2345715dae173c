// Package collect takes batches of telemetry and adds up what they count, each batch once,
// in a database. It is the receiving half of a watch, without what that makes of the sums.
package collect

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"freshet/api/watchapi"
	"freshet/internal/sqldb"
	"freshet/internal/telemetry/spool"
)

//go:embed schema/*.sql
var schema embed.FS

// Schema are the tables of this package, for [sqldb.Open].
func Schema() fs.FS {
	sub, _ := fs.Sub(schema, "schema") // it is there
	return sub
}

// ErrFuture is of a batch that counts what is to come.
var ErrFuture = errors.New("it counts what is to come: the clock of the node is ahead")

// ErrOverlap is of a batch of which a part was counted already.
var ErrOverlap = errors.New("a part of what it covers was counted already")

// ErrOther is of a batch that is not the one that was announced.
var ErrOther = errors.New("it is another batch than the one that was announced")

// maxAhead is how far the clock of a node may be ahead.
const maxAhead = 10 * time.Minute

// Ledger adds up batches. It may be used by several goroutines, and processes, at once.
type Ledger struct{ DB *sqldb.DB }

// Apply reads a compressed batch, which is the one of the id, and adds up what it counts, in
// one transaction with the note that it did so: all of it, or nothing with an error. A
// batch that was applied before changes nothing.
func (l Ledger) Apply(ctx context.Context, id watchapi.ID, body io.Reader, now time.Time) (watchapi.Ack, error) {
	ack := watchapi.Ack{Batch: id.String()}
	// It is read whole before the database is locked: its sender may be slow.
	var sum spool.Sum
	begin := func(h watchapi.Head) error {
		if h.ID != id {
			return ErrOther
		}
		return nil
	}
	err := spool.Decode(body, begin, func(line watchapi.Line) error {
		if c := line.Count; c != nil && time.Unix(c.At, 0).After(now.Add(maxAhead)) {
			return ErrFuture
		}
		sum.Add(line)
		return nil
	})
	if err != nil {
		return ack, err
	}
	lines := sum.Lines()
	return ack, l.DB.Write(ctx, func(tx *sqldb.Tx) error {
		ack.Known, ack.Gap = false, false // another try
		known, gap, err := enter(ctx, tx, id)
		if err != nil {
			return err
		}
		if ack.Known, ack.Gap = known, gap; known {
			return nil
		}
		for _, line := range lines {
			if err := apply(ctx, tx, id.Node, line); err != nil {
				return err
			}
		}
		return nil
	})
}

// enter notes that a batch is applied. It reports whether it was before, and whether
// batches before it are missing.
func enter(ctx context.Context, tx *sqldb.Tx, id watchapi.ID) (known, gap bool, err error) {
	var through int64
	err = tx.QueryRow(ctx, "SELECT through FROM telemetry_streams WHERE node = ? AND epoch = ?", id.Node, id.Epoch).Scan(&through)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, false, err
	}
	if id.First > through {
		if id.First > through+1 {
			_, err := tx.Exec(ctx, "INSERT INTO telemetry_gaps (node, epoch, first, last) VALUES (?, ?, ?, ?)", id.Node, id.Epoch, through+1, id.First-1)
			if err != nil {
				return false, false, err
			}
			gap = true
		}
		_, err := tx.Exec(ctx, `INSERT INTO telemetry_streams (node, epoch, through) VALUES (?, ?, ?)
			ON CONFLICT (node, epoch) DO UPDATE SET through = excluded.through`, id.Node, id.Epoch, id.Last)
		return false, gap, err
	}
	return fill(ctx, tx, id, through)
}

// fill enters a batch that comes late: into a gap, or it is known.
func fill(ctx context.Context, tx *sqldb.Tx, id watchapi.ID, through int64) (known, gap bool, err error) {
	var first, last int64
	err = tx.QueryRow(ctx, `SELECT first, last FROM telemetry_gaps
		WHERE node = ? AND epoch = ? AND first <= ? AND last >= ? ORDER BY first LIMIT 1`, id.Node, id.Epoch, id.Last, id.First).Scan(&first, &last)
	switch {
	case errors.Is(err, sql.ErrNoRows) && id.Last <= through:
		return true, false, nil
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return false, false, err
	case err != nil || first > id.First || last < id.Last:
		return false, false, ErrOverlap
	}
	if _, err := tx.Exec(ctx, "DELETE FROM telemetry_gaps WHERE node = ? AND epoch = ? AND first = ?", id.Node, id.Epoch, first); err != nil {
		return false, false, err
	}
	for _, rest := range [][2]int64{{first, id.First - 1}, {id.Last + 1, last}} {
		if rest[0] > rest[1] {
			continue
		}
		if _, err := tx.Exec(ctx, "INSERT INTO telemetry_gaps (node, epoch, first, last) VALUES (?, ?, ?, ?)", id.Node, id.Epoch, rest[0], rest[1]); err != nil {
			return false, false, err
		}
	}
	return false, false, nil
}

func apply(ctx context.Context, tx *sqldb.Tx, node string, line watchapi.Line) error {
	var err error
	switch {
	case line.Count != nil:
		return count(ctx, tx, node, line.Count)
	case line.Project != nil:
		err = keep(ctx, tx, "telemetry_projects (node, project, at, state) VALUES (?, ?, ?, ?) ON CONFLICT (node, project)", "telemetry_projects", line.Project,
			node, line.Project.Name, line.Project.At.UnixMicro())
	case line.Disk != nil:
		err = keep(ctx, tx, "telemetry_disks (node, at, state) VALUES (?, ?, ?) ON CONFLICT (node)", "telemetry_disks", line.Disk, node, line.Disk.At.UnixMicro())
	case line.Dropped != nil:
		d := line.Dropped
		_, err = tx.Exec(ctx, `INSERT INTO telemetry_dropped (node, reason, batches, requests, bytes) VALUES (?, ?, ?, ?, ?) ON CONFLICT (node, reason) DO UPDATE SET
			batches = telemetry_dropped.batches + excluded.batches, requests = telemetry_dropped.requests + excluded.requests, bytes = telemetry_dropped.bytes + excluded.bytes`,
			node, d.Reason, d.Batches, d.Requests, d.Bytes)
	}
	return err
}

// keep takes over a state, unless a later one is there.
func keep(ctx context.Context, tx *sqldb.Tx, insert, table string, state any, args ...any) error {
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO "+insert+" DO UPDATE SET at = excluded.at, state = excluded.state WHERE excluded.at >= "+table+".at", append(args, string(text))...)
	return err
}

func count(ctx context.Context, tx *sqldb.Tx, node string, c *watchapi.Count) error {
	labels, err := json.Marshal(c.Labels)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO telemetry_counts (cube, width, at, node, labels, requests, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (cube, width, at, node, labels) DO UPDATE SET
		requests = telemetry_counts.requests + excluded.requests, bytes = telemetry_counts.bytes + excluded.bytes`,
		c.Cube, c.Width, c.At, node, string(labels), c.Requests, c.Bytes)
	if err != nil {
		return fmt.Errorf("count: %w", err)
	}
	for _, b := range c.Times {
		_, err := tx.Exec(ctx, `INSERT INTO telemetry_times (cube, width, at, node, labels, bucket, count) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (cube, width, at, node, labels, bucket) DO UPDATE SET count = telemetry_times.count + excluded.count`,
			c.Cube, c.Width, c.At, node, string(labels), b[0], b[1])
		if err != nil {
			return fmt.Errorf("times: %w", err)
		}
	}
	return nil
}

// Clock notes how far the clock of a node is ahead.
func (l Ledger) Clock(ctx context.Context, node string, sent, now time.Time) error {
	return l.DB.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO telemetry_clocks (node, received, skew) VALUES (?, ?, ?)
			ON CONFLICT (node) DO UPDATE SET received = excluded.received, skew = excluded.skew`, node, now.UnixMicro(), sent.Sub(now).Milliseconds())
		return err
	})
}
