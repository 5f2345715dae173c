package catalog

import (
	"context"
	"errors"
	"fmt"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// ErrNotEmpty refuses an import into a catalog with a life of its own: numbers
// of builds and jobs would mean two things.
var ErrNotEmpty = errors.New("the hub has builds or jobs of its own, or was imported before")

// Names in the table meta.
const (
	metaImport   = "import"      // the source of an import
	metaImported = "import-done" // the same when it was through
)

// Import is a part of the state of another hub. Everything keeps its numbers.
type Import struct {
	Builds []hubapi.Build
	Jobs   []ImportedJob
	// Refs and Checks are of builds and jobs that are imported with them, or were.
	Refs   []hubapi.BuildRef
	Checks []hubapi.Check
	Tokens []Token
}

// ImportedJob is a job with its log.
type ImportedJob struct {
	Job

	Log string
}

// BeginImport begins the import from a source, or goes on with one from the same
// source that was interrupted. A catalog that is in use, or was imported to the
// end, is [ErrNotEmpty].
func (c *Catalog) BeginImport(ctx context.Context, source string) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		before, err := metaValue(ctx, tx, metaImport)
		if err != nil {
			return err
		}
		done, err := metaValue(ctx, tx, metaImported)
		if err != nil || before == source && done == "" {
			return err
		}
		var used int64
		if err := tx.QueryRow(ctx, `SELECT COALESCE(SUM(value), 0) FROM counters WHERE name IN ('build', 'job')`).Scan(&used); err != nil {
			return err
		}
		if used > 0 || before != "" {
			return ErrNotEmpty
		}
		return setMeta(ctx, tx, metaImport, source)
	})
	if err != nil {
		return fmt.Errorf("begin import: %w", err)
	}
	return nil
}

// EndImport ends an import for good.
func (c *Catalog) EndImport(ctx context.Context, source string) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := setMeta(ctx, tx, metaImported, source); err != nil {
			return err
		}
		return c.audit(ctx, tx, "hub.import", "hub", source)
	})
	if err != nil {
		return fmt.Errorf("end import: %w", err)
	}
	return nil
}

// Import writes a part of another hub's state, between BeginImport and EndImport.
// What is there already stays as it is, so that a part may be written again.
func (c *Catalog) Import(ctx context.Context, part Import) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		var build, job, buildRef int64 // the highest numbers
		for i := range part.Builds {
			build = max(build, part.Builds[i].ID)
			if err := importBuild(ctx, tx, &part.Builds[i]); err != nil {
				return fmt.Errorf("build %d: %w", part.Builds[i].ID, err)
			}
		}
		for i := range part.Jobs {
			job = max(job, part.Jobs[i].ID)
			if err := importJob(ctx, tx, &part.Jobs[i]); err != nil {
				return fmt.Errorf("job %d: %w", part.Jobs[i].ID, err)
			}
		}
		for _, ref := range part.Refs {
			buildRef = max(buildRef, ref.ID)
			if err := importRef(ctx, tx, ref); err != nil {
				return fmt.Errorf("ref %d: %w", ref.ID, err)
			}
		}
		for _, check := range part.Checks {
			_, err := tx.Exec(ctx, `INSERT INTO checks (build_id, check_name, job_id, status, status_reason, results)
				VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				check.BuildID, clean(check.CheckName), check.JobID, check.Status, cleanPtr(check.StatusReason), cleanPtr(check.Results))
			if err != nil {
				return fmt.Errorf("check %s of build %d: %w", check.CheckName, check.BuildID, err)
			}
		}
		for _, token := range part.Tokens {
			_, err := tx.Exec(ctx, `INSERT INTO tokens (id, expires, last_used, revoked) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				clean(token.ID), micros(token.Expires), micros(token.LastUsed), micros(token.Revoked))
			if err != nil {
				return fmt.Errorf("token %q: %w", token.ID, err)
			}
		}
		return errors.Join(passed(ctx, tx, "build", build), passed(ctx, tx, "job", job), passed(ctx, tx, "build-ref", buildRef))
	})
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}

func importBuild(ctx context.Context, tx *sqldb.Tx, b *hubapi.Build) error {
	ids, err := toJSON(append([]string{}, b.ExtraIDs...))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO builds (id, created, repo, app_id, extra_ids, public_download, build_log_url, token_name, token_type,
			repo_state, repo_state_reason, published_state, published_state_reason, commit_job_id, publish_job_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		b.ID, micros(b.Created.Time), clean(b.Repo), cleanPtr(b.AppID), clean(ids), flag(b.PublicDownload), cleanPtr(b.BuildLogURL),
		cleanPtr(b.TokenName), b.TokenType, b.RepoState, cleanPtr(b.RepoStateReason), b.PublishedState, cleanPtr(b.PublishedStateReason),
		b.CommitJobID, b.PublishJobID)
	return err
}

func importJob(ctx context.Context, tx *sqldb.Tx, j *ImportedJob) error {
	log := clean(j.Log)
	_, err := tx.Exec(ctx, `INSERT INTO jobs (id, kind, status, repo, build_id, contents, results, created, start_after, started, ended, log_size)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		j.ID, j.Kind, j.Status, clean(j.Repo), j.Build, clean(j.Contents), orNull(j.Results),
		micros(j.Created), micros(j.StartAfter), micros(j.Started), micros(j.Ended), len(log))
	if err != nil {
		return err
	}
	if log != "" {
		if _, err := tx.Exec(ctx, `INSERT INTO job_logs (job_id, start, chunk) VALUES (?, 0, ?) ON CONFLICT DO NOTHING`, j.ID, []byte(log)); err != nil {
			return err
		}
	}
	return nil
}

func importRef(ctx context.Context, tx *sqldb.Tx, ref hubapi.BuildRef) error {
	_, err := tx.Exec(ctx, `INSERT INTO build_refs (id, build_id, ref_name, checksum, build_log_url) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		ref.ID, ref.BuildID, clean(ref.RefName), clean(ref.Commit), cleanPtr(ref.BuildLogURL))
	return err
}

// passed sees to it that a counter gives out higher numbers only.
func passed(ctx context.Context, tx *sqldb.Tx, counter string, n int64) error {
	_, err := tx.Exec(ctx, `UPDATE counters SET value = ? WHERE name = ? AND value < ?`, n, counter, n)
	return err
}

func metaValue(ctx context.Context, tx *sqldb.Tx, name string) (value string, err error) {
	err = tx.QueryRow(ctx, `SELECT value FROM meta WHERE name = ?`, name).Scan(&value)
	if sqldb.NoRows(err) {
		return "", nil
	}
	return value, err
}

func setMeta(ctx context.Context, tx *sqldb.Tx, name, value string) error {
	_, err := tx.Exec(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, clean(value))
	return err
}
