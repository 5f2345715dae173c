package flatmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

// batch is how many rows are read and written at a time.
const batch = 1000

// logsKept is how old a build may be for the logs of its jobs to be taken along:
// the hub forgets older ones.
const logsKept = 90 * 24 * time.Hour

// Database is a snapshot of a flat-manager's database, for one goroutine.
type Database struct {
	conn *pgx.Conn
	tx   pgx.Tx
	now  time.Time
	// name says which database it is, whatever DSN leads there.
	name string
}

// Counts are the rows of a database.
type Counts struct{ Builds, Refs, Jobs, Checks, Tokens int64 }

// Total is the number of all rows.
func (c Counts) Total() int64 { return c.Builds + c.Refs + c.Jobs + c.Checks + c.Tokens }

// OpenDatabase opens a database for reading, as it is now.
func OpenDatabase(ctx context.Context, dsn string) (_ *Database, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("open flat-manager's database: %w", err)
	}
	d := &Database{conn: conn, now: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("read flat-manager's database: %w", err), conn.Close(ctx))
		}
	}()
	if d.tx, err = conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err != nil {
		return nil, err
	}
	err = d.tx.QueryRow(ctx, `SELECT current_database() || '/' || oid::text FROM pg_database WHERE datname = current_database()`).Scan(&d.name)
	return d, err
}

// Close ends the snapshot.
func (d *Database) Close(ctx context.Context) error {
	return errors.Join(d.tx.Rollback(ctx), d.conn.Close(ctx))
}

// Count counts the rows.
func (d *Database) Count(ctx context.Context) (n Counts, err error) {
	for table, into := range map[string]*int64{
		"builds": &n.Builds, "build_refs": &n.Refs, "jobs": &n.Jobs, "checks": &n.Checks, "tokens": &n.Tokens,
	} {
		if err := d.tx.QueryRow(ctx, `SELECT COUNT(*) FROM `+table).Scan(into); err != nil {
			return n, fmt.Errorf("count %s of flat-manager: %w", table, err)
		}
	}
	return n, nil
}

// Unfinished counts the builds that were neither published nor purged.
func (d *Database) Unfinished(ctx context.Context) (n int64, err error) {
	err = d.tx.QueryRow(ctx, `SELECT COUNT(*) FROM builds WHERE published_state <> 2 AND repo_state <> 5`).Scan(&n)
	return n, err
}

// Repos returns the names of the repositories that builds are for.
func (d *Database) Repos(ctx context.Context) ([]string, error) {
	rows, err := d.tx.Query(ctx, `SELECT DISTINCT repo FROM builds ORDER BY repo`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// parts reads everything, and hands it over part by part: builds before jobs,
// and these before what refers to them.
func (d *Database) parts(ctx context.Context, yield func(part catalog.Import, rows int) error) error {
	created := make(map[int64]time.Time)
	for _, read := range []func(context.Context, int64) (catalog.Import, int64, int, error){
		func(ctx context.Context, after int64) (catalog.Import, int64, int, error) {
			return d.builds(ctx, after, created)
		},
		func(ctx context.Context, after int64) (catalog.Import, int64, int, error) {
			return d.jobs(ctx, after, created)
		},
		d.refs,
		d.checks,
	} {
		for after := int64(0); ; {
			part, last, rows, err := read(ctx, after)
			if err != nil {
				return fmt.Errorf("read flat-manager's database: %w", err)
			}
			if rows == 0 {
				break
			}
			if err := yield(part, rows); err != nil {
				return err
			}
			after = last
		}
	}
	tokens, err := d.tokens(ctx)
	if err != nil {
		return fmt.Errorf("read flat-manager's tokens: %w", err)
	}
	return yield(catalog.Import{Tokens: tokens}, len(tokens))
}

func (d *Database) builds(ctx context.Context, after int64, created map[int64]time.Time) (part catalog.Import, last int64, n int, err error) {
	rows, err := d.tx.Query(ctx, `SELECT id, created_at, repo_state, repo_state_reason, published_state, published_state_reason,
			commit_job_id, publish_job_id, repo, extra_ids, app_id, public_download, build_log_url, token_name, token_type::text
		FROM builds WHERE id > $1 ORDER BY id LIMIT $2`, after, batch)
	if err != nil {
		return part, 0, 0, err
	}
	var b hubapi.Build
	var ids []*string
	var tokenType *string
	_, err = pgx.ForEachRow(rows, []any{
		&b.ID, &b.Created.Time, &b.RepoState, &b.RepoStateReason, &b.PublishedState, &b.PublishedStateReason,
		&b.CommitJobID, &b.PublishJobID, &b.Repo, &ids, &b.AppID, &b.PublicDownload, &b.BuildLogURL, &b.TokenName, &tokenType,
	}, func() error {
		one := b
		one.ExtraIDs = nil
		for _, id := range ids {
			if id != nil {
				one.ExtraIDs = append(one.ExtraIDs, *id)
			}
		}
		one.TokenType = number(tokenType)
		settle(&one)
		created[one.ID] = one.Created.Time
		last = one.ID
		part.Builds = append(part.Builds, one)
		return nil
	})
	return part, last, len(part.Builds), err
}

const left = "Its files stayed with flat-manager; upload it again"

// settle ends what was under way with a build.
func settle(b *hubapi.Build) {
	if b.PublishedState == hubapi.Publishing {
		b.PublishedState, b.PublishedStateReason = hubapi.PublishFailed, new(left)
	}
	if b.PublishedState == hubapi.Published || b.RepoState == hubapi.RepoPurged {
		return
	}
	if b.RepoState != hubapi.RepoFailed || b.RepoStateReason == nil {
		b.RepoStateReason = new(left)
	}
	b.RepoState = hubapi.RepoPurged
}

// number reads a token type: some versions keep a text.
func number(text *string) *int32 {
	if text == nil {
		return nil
	}
	n, err := strconv.ParseInt(*text, 10, 32)
	if err != nil {
		return nil
	}
	return new(int32(n))
}

func (d *Database) jobs(ctx context.Context, after int64, created map[int64]time.Time) (part catalog.Import, last int64, n int, err error) {
	rows, err := d.tx.Query(ctx, `SELECT id, kind, status, contents, COALESCE(results, ''), log, COALESCE(repo, '')
		FROM jobs WHERE id > $1 ORDER BY id LIMIT $2`, after, batch)
	if err != nil {
		return part, 0, 0, err
	}
	var j catalog.ImportedJob
	_, err = pgx.ForEachRow(rows, []any{&j.ID, &j.Kind, &j.Status, &j.Contents, &j.Results, &j.Log, &j.Repo}, func() error {
		one := j
		last = one.ID
		var about struct {
			Build int64 `json:"build"`
		}
		// Jobs about no build have none; what cannot be read is kept as it is.
		_ = json.Unmarshal([]byte(one.Contents), &about)
		when, known := created[about.Build]
		if known {
			one.Build = about.Build
		}
		d.endJob(&one, when)
		part.Jobs = append(part.Jobs, one)
		return nil
	})
	return part, last, len(part.Jobs), err
}

// endJob ends a job that was not through, and gives it a time: that of its build,
// because flat-manager keeps none.
func (d *Database) endJob(j *catalog.ImportedJob, when time.Time) {
	if j.Status == hubapi.JobNew || j.Status == hubapi.JobStarted {
		j.Status = hubapi.JobBroken
		j.Results = `{"error-message":"Not done before the import from flat-manager"}`
	}
	if when.IsZero() || d.now.Sub(when) > logsKept {
		j.Log = ""
	}
	if when.IsZero() {
		when = time.UnixMicro(1)
	}
	j.Created, j.Started, j.Ended = when, when, when
}

func (d *Database) refs(ctx context.Context, after int64) (part catalog.Import, last int64, n int, err error) {
	rows, err := d.tx.Query(ctx, `SELECT id, build_id, ref_name, commit, build_log_url FROM build_refs WHERE id > $1 ORDER BY id LIMIT $2`, after, batch)
	if err != nil {
		return part, 0, 0, err
	}
	var r hubapi.BuildRef
	_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.BuildID, &r.RefName, &r.Commit, &r.BuildLogURL}, func() error {
		part.Refs, last = append(part.Refs, r), r.ID
		return nil
	})
	return part, last, len(part.Refs), err
}

func (d *Database) checks(ctx context.Context, after int64) (part catalog.Import, last int64, n int, err error) {
	rows, err := d.tx.Query(ctx, `SELECT check_name, build_id, job_id, status, status_reason, results FROM checks WHERE job_id > $1 ORDER BY job_id LIMIT $2`, after, batch)
	if err != nil {
		return part, 0, 0, err
	}
	var k hubapi.Check
	_, err = pgx.ForEachRow(rows, []any{&k.CheckName, &k.BuildID, &k.JobID, &k.Status, &k.StatusReason, &k.Results}, func() error {
		one := k
		if !one.Status.Finished() {
			one.Status, one.StatusReason = hubapi.CheckFailed, new("Not done before the import from flat-manager")
		}
		part.Checks, last = append(part.Checks, one), one.JobID
		return nil
	})
	return part, last, len(part.Checks), err
}

func (d *Database) tokens(ctx context.Context) ([]catalog.Token, error) {
	rows, err := d.tx.Query(ctx, `SELECT token_id, expires, last_used, revoked_at FROM tokens ORDER BY token_id`)
	if err != nil {
		return nil, err
	}
	var id string
	var expires, used, revoked *time.Time
	var tokens []catalog.Token
	_, err = pgx.ForEachRow(rows, []any{&id, &expires, &used, &revoked}, func() error {
		tokens = append(tokens, catalog.Token{ID: id, Expires: orZero(expires), LastUsed: orZero(used), Revoked: orZero(revoked)})
		return nil
	})
	return tokens, err
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
