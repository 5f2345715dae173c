package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// FrozenError refuses to publish what is frozen, or held where nothing waits.
type FrozenError struct{ Hold hubapi.Hold }

func (e *FrozenError) Error() string {
	what := "all of " + e.Hold.Repo
	if e.Hold.App != "" {
		what = e.Hold.App + " in " + e.Hold.Repo
	}
	how := "frozen"
	if e.Hold.Kind == hubapi.HoldWait {
		how = "held"
	}
	return fmt.Sprintf("%s is %s by %s: %s (hold %d)", what, how, e.Hold.Actor, e.Hold.Reason, e.Hold.ID)
}

// PlaceHold stops publishes and republishes. Those under way go on. Of hold, Repo,
// App, Kind and Reason count.
func (c *Catalog) PlaceHold(ctx context.Context, hold hubapi.Hold) (placed hubapi.Hold, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		placed = hold
		if placed.ID, err = next(ctx, tx, "hold"); err != nil {
			return err
		}
		placed.Reason, placed.Actor, placed.Time = clean(hold.Reason), c.by(), timeOf(c.now().UnixMicro())
		_, err := tx.Exec(ctx, `INSERT INTO holds (id, repo, app, kind, reason, actor, created) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			placed.ID, placed.Repo, placed.App, placed.Kind, placed.Reason, placed.Actor, placed.Time.UnixMicro())
		if err != nil {
			return err
		}
		return c.audit(ctx, tx, "repo."+placed.Kind, holdObject(placed), fmt.Sprintf("hold %d: %s", placed.ID, placed.Reason))
	})
	if err != nil {
		return hubapi.Hold{}, fmt.Errorf("hold %q in %s: %w", hold.App, hold.Repo, err)
	}
	return placed, nil
}

// ReleaseHold ends a hold of a repository; the error wraps [ErrNotFound] when there
// is none. Jobs that waited for it go on.
func (c *Catalog) ReleaseHold(ctx context.Context, repo string, id int64) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		holds, err := readHolds(ctx, tx, repo)
		if err != nil {
			return err
		}
		for _, hold := range holds {
			if hold.ID != id {
				continue
			}
			if _, err := tx.Exec(ctx, `DELETE FROM holds WHERE id = ?`, id); err != nil {
				return err
			}
			if err := touchJobs(ctx, tx); err != nil {
				return err
			}
			return c.audit(ctx, tx, "repo.release", holdObject(hold), fmt.Sprintf("hold %d", id))
		}
		return notFound("hold of "+repo, id)
	})
	if err != nil {
		return err
	}
	c.jobs.send()
	return nil
}

// Holds returns the holds of a repository, oldest first.
func (c *Catalog) Holds(ctx context.Context, repo string) (holds []hubapi.Hold, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		holds, err = readHolds(ctx, tx, repo)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read holds of %s: %w", repo, err)
	}
	return holds, nil
}

// HeldBy returns the hold for which a queued job waits; nil for none.
func (c *Catalog) HeldBy(ctx context.Context, job int64) (hold *hubapi.Hold, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		j, err := readJob(ctx, tx, job)
		if err != nil || j.Status != hubapi.JobNew {
			return err
		}
		hold, err = heldBy(ctx, tx, j.Kind, j.Repo, j.Build, j.Contents)
		return err
	})
	return hold, err
}

func holdObject(hold hubapi.Hold) string {
	if hold.App == "" {
		return "repo/" + hold.Repo
	}
	return "repo/" + hold.Repo + "/" + hold.App
}

func readHolds(ctx context.Context, tx *sqldb.Tx, repo string) ([]hubapi.Hold, error) {
	rows, err := tx.Query(ctx, `SELECT id, repo, app, kind, reason, actor, created FROM holds WHERE repo = ? ORDER BY id`, repo)
	return collect(rows, err, func(rows *sql.Rows) (h hubapi.Hold, err error) {
		var created int64
		err = rows.Scan(&h.ID, &h.Repo, &h.App, &h.Kind, &h.Reason, &h.Actor, &created)
		h.Time = timeOf(created)
		return h, err
	})
}

// heldBy returns the hold that stops a job: of several a freeze, else the oldest.
func heldBy(ctx context.Context, tx *sqldb.Tx, kind hubapi.JobKind, repo string, build int64, contents string) (*hubapi.Hold, error) {
	if kind != hubapi.JobPublish && kind != hubapi.JobRepublish {
		return nil, nil //nolint:nilnil // no hold
	}
	holds, err := readHolds(ctx, tx, repo)
	if err != nil || len(holds) == 0 {
		return nil, err
	}
	ids, err := jobIDs(ctx, tx, build, contents)
	if err != nil {
		return nil, err
	}
	var found *hubapi.Hold
	for i := range holds {
		if holdsAny(holds[i], ids) && (found == nil || found.Kind != hubapi.HoldFreeze && holds[i].Kind == hubapi.HoldFreeze) {
			found = &holds[i]
		}
	}
	return found, nil
}

// holdsAny tells whether a hold is on one of the ids, or on everything.
func holdsAny(hold hubapi.Hold, ids []string) bool {
	if hold.App == "" {
		return true
	}
	for _, id := range ids {
		if id == hold.App || strings.HasPrefix(id, hold.App+".") {
			return true
		}
	}
	return false
}

// jobIDs are the application ids that a publish or republish is about: that in its
// contents, that of its build, and those of the build's refs.
func jobIDs(ctx context.Context, tx *sqldb.Tx, build int64, contents string) ([]string, error) {
	var about struct {
		App  string                     `json:"app"`
		Refs map[string]json.RawMessage `json:"refs"`
	}
	_ = json.Unmarshal([]byte(contents), &about) // it says nothing of an app
	ids := []string{about.App}
	for ref := range about.Refs {
		if elements := strings.Split(ref, "/"); len(elements) == 4 {
			ids = append(ids, elements[1])
		}
	}
	if build == 0 {
		return ids, nil
	}
	b, err := readBuild(ctx, tx, build)
	if err != nil {
		return nil, err
	}
	if b.AppID != nil {
		ids = append(ids, *b.AppID)
	}
	ids = append(ids, b.ExtraIDs...)
	rows, err := tx.Query(ctx, `SELECT ref_name FROM build_refs WHERE build_id = ?`, build)
	refs, err := collect(rows, err, func(rows *sql.Rows) (ref string, err error) { return ref, rows.Scan(&ref) })
	for _, ref := range refs {
		if elements := strings.Split(ref, "/"); len(elements) == 4 {
			ids = append(ids, elements[1])
		}
	}
	return ids, err
}

// anyHolds tells whether there is a hold at all, which is rare.
func anyHolds(ctx context.Context, tx *sqldb.Tx) (bool, error) {
	var one int64
	err := tx.QueryRow(ctx, `SELECT id FROM holds LIMIT 1`).Scan(&one)
	if sqldb.NoRows(err) {
		return false, nil
	}
	return err == nil, err
}

// firstFree returns the first of the jobs that a query finds that no hold stops, 0
// for none. The query has no limit yet.
func firstFree(ctx context.Context, tx *sqldb.Tx, query string, args []any) (int64, error) {
	holds, err := anyHolds(ctx, tx)
	if err != nil {
		return 0, err
	}
	if !holds {
		query += ` LIMIT 1`
	}
	rows, err := tx.Query(ctx, query, args...)
	ids, err := collect(rows, err, func(rows *sql.Rows) (id int64, err error) { return id, rows.Scan(&id) })
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if !holds {
			return id, nil
		}
		job, err := readJob(ctx, tx, id)
		if err != nil {
			return 0, err
		}
		hold, err := heldBy(ctx, tx, job.Kind, job.Repo, job.Build, job.Contents)
		if err != nil {
			return 0, err
		}
		if hold == nil {
			return id, nil
		}
	}
	return 0, nil
}

// free leaves those jobs that no hold stops.
func free(ctx context.Context, tx *sqldb.Tx, jobs []*Job) ([]*Job, error) {
	holds, err := anyHolds(ctx, tx)
	if err != nil || !holds {
		return jobs, err
	}
	left := jobs[:0]
	for _, job := range jobs {
		hold, err := heldBy(ctx, tx, job.Kind, job.Repo, job.Build, job.Contents)
		if err != nil {
			return nil, err
		}
		if hold == nil {
			left = append(left, job)
		}
	}
	return left, nil
}
