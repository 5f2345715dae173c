package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

const (
	// NodeAway is how long a node may be silent before nobody waits for it.
	NodeAway = 5 * time.Minute
	// stepsKept is how many of its last advances are known of a node.
	stepsKept = 64
	// reachWindow bounds the events, and reachLate the age, of publishes that a
	// report can make known to be everywhere. What is older was published before
	// there were nodes.
	reachWindow = 1000
	reachLate   = 24 * time.Hour
)

// noteStep notes that a node has come to a serial, and which publishes are
// everywhere by that.
func (c *Catalog) noteStep(ctx context.Context, tx *sqldb.Tx, node hubapi.Node, advanced bool) error {
	now := c.now()
	if advanced {
		var steps int64
		err := tx.QueryRow(ctx, `UPDATE nodes SET steps = steps + 1 WHERE name = ? AND site = ? RETURNING steps`,
			clean(node.Name), clean(node.Site)).Scan(&steps)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO node_steps (name, site, slot, log, serial, passed) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (name, site, slot) DO UPDATE SET log = excluded.log, serial = excluded.serial, passed = excluded.passed`,
			clean(node.Name), clean(node.Site), steps%stepsKept, clean(node.Log), node.Serial, now.UnixMicro())
		if err != nil {
			return err
		}
	}
	var least *int64
	var nodes int64
	err := tx.QueryRow(ctx, `SELECT MIN(serial), COUNT(*) FROM nodes WHERE log = ? AND seen > ?`,
		c.log, now.Add(-NodeAway).UnixMicro()).Scan(&least, &nodes)
	if err != nil || least == nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE publishes SET everywhere = ?, nodes = ? WHERE everywhere = 0 AND event > ? AND event <= ? AND created > ?`,
		now.UnixMicro(), nodes, max(*least-reachWindow, 0), *least, now.Add(-reachLate).UnixMicro())
	return err
}

// NodeReach says how far a node is with an event.
type NodeReach struct {
	hubapi.Node
	// Passed is when the node reported the event or a later one; zero when it has
	// not, or that is too long ago to be known.
	Passed time.Time
	// Away says that the node has not been heard of for [NodeAway].
	Away bool
}

// Reach returns how far the nodes are with an event, by name and site, at most
// limit of them.
func (c *Catalog) Reach(ctx context.Context, serial int64, limit int) (reach []NodeReach, err error) {
	now := c.now()
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		nodes, err := queryNodes(ctx, tx, ` ORDER BY name, site LIMIT ?`, limit)
		if err != nil {
			return err
		}
		reach = make([]NodeReach, len(nodes))
		for i, node := range nodes {
			node.Past = node.Log == c.log && node.Serial >= serial
			reach[i] = NodeReach{Node: node, Away: now.Sub(node.Seen) > NodeAway}
			if !node.Past {
				continue
			}
			var passed, before sql.NullInt64
			err := tx.QueryRow(ctx, `SELECT MIN(CASE WHEN serial >= ? THEN passed END), MIN(CASE WHEN serial < ? THEN 1 END)
				FROM node_steps WHERE name = ? AND site = ? AND log = ?`, serial, serial, node.Name, node.Site, c.log).Scan(&passed, &before)
			if err != nil {
				return err
			}
			if before.Valid { // else it may have passed long before the first step that is known
				reach[i].Passed = timeOf(passed.Int64)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read how far nodes are with event %d: %w", serial, err)
	}
	return reach, nil
}

// PublishSummary is a publish in a list.
type PublishSummary struct {
	hubapi.Publish
	// Refs of Publish holds a few of the refs that moved, Moved counts all.
	Moved int
	// Asked is when the first of its jobs was asked for, Began when the first was
	// started; zero without jobs.
	Asked, Began time.Time
	// Everywhere is when the last node had applied it, of which there were Nodes;
	// zero while it is not known.
	Everywhere time.Time
	Nodes      int64
}

// fewRefs is how many refs a summary names.
const fewRefs = 3

// PublishPage returns publishes of a repository, newest first: at most limit of
// those with a number below before (0: from the newest on); with a ref only those
// that moved it, and Refs then holds that ref.
func (c *Catalog) PublishPage(ctx context.Context, repo, ref string, before int64, limit int) (list []PublishSummary, err error) {
	query := `SELECT number, event, created, jobs, everywhere, nodes FROM publishes WHERE repo = ? AND number < ? ORDER BY number DESC LIMIT ?`
	args := []any{repo, fromNewest(before), limit}
	if ref != "" {
		query = `SELECT p.number, p.event, p.created, p.jobs, p.everywhere, p.nodes FROM publish_refs m
			JOIN publishes p ON p.repo = m.repo AND p.number = m.number
			WHERE m.repo = ? AND m.ref_name = ? AND m.number < ? ORDER BY m.number DESC LIMIT ?`
		args = []any{repo, ref, fromNewest(before), limit}
	}
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Query(ctx, query, args...)
		if list, err = collect(rows, err, func(rows *sql.Rows) (PublishSummary, error) { return scanSummary(rows, repo) }); err != nil {
			return err
		}
		for i := range list {
			if err := completeSummary(ctx, tx, &list[i], ref); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list publishes of %s: %w", repo, err)
	}
	return list, nil
}

// PublishSummaryOf returns one publish, with all its refs; the error wraps
// [ErrNotFound] when there is none.
func (c *Catalog) PublishSummaryOf(ctx context.Context, repo string, number int64) (summary PublishSummary, err error) {
	summary.Publish, err = c.Publish(ctx, repo, number)
	if err != nil {
		return summary, err
	}
	summary.Moved = len(summary.Refs)
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		var everywhere int64
		err := tx.QueryRow(ctx, `SELECT everywhere, nodes FROM publishes WHERE repo = ? AND number = ?`, repo, number).
			Scan(&everywhere, &summary.Nodes)
		summary.Everywhere = timeOf(everywhere)
		if err != nil {
			return err
		}
		return askedAndBegan(ctx, tx, &summary)
	})
	return summary, err
}

func scanSummary(rows *sql.Rows, repo string) (s PublishSummary, err error) {
	s.Repo, s.Refs = repo, map[string]hubapi.RefMove{}
	var created, everywhere int64
	var jobs string
	if err := rows.Scan(&s.Number, &s.Event, &created, &jobs, &everywhere, &s.Nodes); err != nil {
		return s, err
	}
	s.Time, s.Everywhere = timeOf(created), timeOf(everywhere)
	s.Jobs, err = publishJobs(jobs)
	return s, err
}

// completeSummary adds what is in other tables.
func completeSummary(ctx context.Context, tx *sqldb.Tx, s *PublishSummary, ref string) error {
	if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM publish_refs WHERE repo = ? AND number = ?`, s.Repo, s.Number).Scan(&s.Moved); err != nil {
		return err
	}
	query, args := `SELECT ref_name, from_commit, to_commit FROM publish_refs WHERE repo = ? AND number = ?`, []any{s.Repo, s.Number}
	if ref != "" {
		query, args = query+` AND ref_name = ?`, append(args, ref)
	}
	rows, err := tx.Query(ctx, query+` LIMIT ?`, append(args, fewRefs)...)
	moves, err := collect(rows, err, func(rows *sql.Rows) (m move, err error) {
		return m, rows.Scan(&m.ref, &m.From, &m.To)
	})
	for _, m := range moves {
		s.Refs[m.ref] = m.RefMove
	}
	if err != nil {
		return err
	}
	return askedAndBegan(ctx, tx, s)
}

func askedAndBegan(ctx context.Context, tx *sqldb.Tx, s *PublishSummary) error {
	if len(s.Jobs) == 0 {
		return nil
	}
	ids := make([]int64, len(s.Jobs))
	for i, job := range s.Jobs {
		ids[i] = job.ID
	}
	var asked, began sql.NullInt64
	err := tx.QueryRow(ctx, `SELECT MIN(created), MIN(started) FROM jobs WHERE id IN (`+placeholders(len(ids))+`)`, anys(ids)...).Scan(&asked, &began)
	s.Asked, s.Began = timeOf(asked.Int64), timeOf(began.Int64)
	return err
}
