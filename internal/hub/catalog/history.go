package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// recordHistory writes down that refs of a repository moved, and the number of the
// publish in any case. A number that is there already is that of a publish which
// is recorded a second time.
func (c *Catalog) recordHistory(ctx context.Context, tx *sqldb.Tx, p Publish, event hubapi.Event, jobs []*Job) error {
	if p.Number == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO repositories (name, number) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET number = excluded.number WHERE repositories.number < excluded.number`, p.Repo, p.Number)
	if err != nil {
		return fmt.Errorf("count publishes of %s: %w", p.Repo, err)
	}
	if len(p.Before) == 0 {
		return nil
	}
	done := make([]hubapi.PublishJob, len(jobs))
	for i, job := range jobs {
		done[i] = hubapi.PublishJob{ID: job.ID, Kind: job.Kind.String(), Build: job.Build, Actor: job.Actor}
	}
	text, err := toJSON(done)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO publishes (repo, number, event, created, jobs) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (repo, number) DO NOTHING`, p.Repo, p.Number, event.Serial, event.Time.UnixMicro(), clean(text))
	if err != nil {
		return fmt.Errorf("record publish %d of %s: %w", p.Number, p.Repo, err)
	}
	for ref, before := range p.Before {
		_, err := tx.Exec(ctx, `INSERT INTO publish_refs (repo, ref_name, number, from_commit, to_commit) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (repo, ref_name, number) DO NOTHING`, p.Repo, ref, p.Number, before, event.Refs[ref])
		if err != nil {
			return fmt.Errorf("record publish %d of %s: %w", p.Number, p.Repo, err)
		}
	}
	return nil
}

// LastPublish returns the highest number that was recorded for a repository, 0 for
// none.
func (c *Catalog) LastPublish(ctx context.Context, repo string) (number int64, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		err := tx.QueryRow(ctx, `SELECT number FROM repositories WHERE name = ?`, repo).Scan(&number)
		if sqldb.NoRows(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read the last publish of %s: %w", repo, err)
	}
	return number, nil
}

// Publishes returns publishes of a repository, newest first: at most limit of those
// with a number below before, where 0 means from the newest; with a ref only those
// that moved it.
func (c *Catalog) Publishes(ctx context.Context, repo, ref string, before int64, limit int) (list []hubapi.Publish, err error) {
	if before == 0 {
		before = math.MaxInt64
	}
	query := `SELECT number, event, created, jobs FROM publishes WHERE repo = ? AND number < ?`
	args := []any{repo, before}
	if ref != "" {
		query += ` AND number IN (SELECT number FROM publish_refs WHERE repo = ? AND ref_name = ? AND number < ?)`
		args = append(args, repo, ref, before)
	}
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		list, err = queryPublishes(ctx, tx, repo, query+` ORDER BY number DESC LIMIT ?`, append(args, limit)...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read publishes of %s: %w", repo, err)
	}
	return list, nil
}

// Publish returns a publish by its number; the error wraps [ErrNotFound] when there
// is none.
func (c *Catalog) Publish(ctx context.Context, repo string, number int64) (publish hubapi.Publish, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		list, err := queryPublishes(ctx, tx, repo,
			`SELECT number, event, created, jobs FROM publishes WHERE repo = ? AND number = ?`, repo, number)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return notFound("publish of "+repo, number)
		}
		publish = list[0]
		return nil
	})
	return publish, err
}

func queryPublishes(ctx context.Context, tx *sqldb.Tx, repo, query string, args ...any) ([]hubapi.Publish, error) {
	rows, err := tx.Query(ctx, query, args...)
	list, err := collect(rows, err, func(rows *sql.Rows) (hubapi.Publish, error) {
		p := hubapi.Publish{Repo: repo, Refs: map[string]hubapi.RefMove{}}
		var created int64
		var jobs string
		if err := rows.Scan(&p.Number, &p.Event, &created, &jobs); err != nil {
			return p, err
		}
		p.Time = timeOf(created)
		var err error
		p.Jobs, err = publishJobs(jobs)
		return p, err
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		moves, err := readMoves(ctx, tx, `number = ?`, repo, list[i].Number)
		if err != nil {
			return nil, err
		}
		for _, m := range moves {
			list[i].Refs[m.ref] = m.RefMove
		}
	}
	return list, nil
}

// publishJobs reads the jobs of a publish.
func publishJobs(text string) (jobs []hubapi.PublishJob, err error) {
	if err := json.Unmarshal([]byte(text), &jobs); err != nil {
		return nil, fmt.Errorf("jobs of a publish: %w", err)
	}
	return jobs, nil
}

// move is one ref in one publish.
type move struct {
	ref string
	hubapi.RefMove
}

// readMoves returns moves of refs, the earliest first.
func readMoves(ctx context.Context, tx *sqldb.Tx, where string, args ...any) ([]move, error) {
	rows, err := tx.Query(ctx, `SELECT ref_name, from_commit, to_commit FROM publish_refs WHERE repo = ? AND `+where+
		` ORDER BY number, ref_name`, args...)
	return collect(rows, err, func(rows *sql.Rows) (m move, err error) {
		return m, rows.Scan(&m.ref, &m.From, &m.To)
	})
}

// Since returns, by ref, how the refs of a repository that moved after a publish
// did so altogether: From is what they had then, To what they have now. The error
// wraps [ErrNotFound] when there was no publish of that number yet.
func (c *Catalog) Since(ctx context.Context, repo string, number int64) (moved map[string]hubapi.RefMove, err error) {
	last, err := c.LastPublish(ctx, repo)
	if err != nil {
		return nil, err
	}
	if number > last {
		return nil, notFound("publish of "+repo, number)
	}
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		moves, err := readMoves(ctx, tx, `number > ?`, repo, number)
		if err != nil {
			return err
		}
		moved = make(map[string]hubapi.RefMove)
		for _, m := range moves {
			if first, ok := moved[m.ref]; ok {
				m.From = first.From
			}
			moved[m.ref] = m.RefMove
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what moved in %s after publish %d: %w", repo, number, err)
	}
	return moved, nil
}

// LastMove returns the last move of a ref; the error wraps [ErrNotFound] when none
// is recorded.
func (c *Catalog) LastMove(ctx context.Context, repo, ref string) (last hubapi.RefMove, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		err := tx.QueryRow(ctx, `SELECT from_commit, to_commit FROM publish_refs WHERE repo = ? AND ref_name = ?
			ORDER BY number DESC LIMIT 1`, repo, ref).Scan(&last.From, &last.To)
		if sqldb.NoRows(err) {
			return notFound("recorded publish of", ref)
		}
		return err
	})
	return last, err
}
