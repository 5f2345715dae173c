package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// RefInfo is what the publisher wants to remember of a published ref.
type RefInfo struct {
	Ref    string
	Commit string // 64 hexadecimal digits
	Info   []byte // opaque
}

// Publish tells of refs of a repository that were published. Everything in it
// must be readable for clients already.
type Publish struct {
	// Key names the publish among all, see FinishPublish.
	Key string
	// Repo is the repository, and Base the URL path below which it is served.
	Repo, Base string
	// Jobs are the jobs done by it, with the commits that the refs of each now
	// have. Several when publishes were merged, none when nobody asked.
	Jobs []PublishedJob
	// Refs are further new commits, by ref, that belong to no job.
	Refs map[string]string
	// Removed are refs that are gone.
	Removed []string
	// Infos is what is remembered from now on, of these refs or others.
	Infos []RefInfo
	// Number is that of the publish among all of the repository, 0 when there was
	// nothing to publish; Before is what the refs that moved pointed at, "" for
	// new ones.
	Number int64
	Before map[string]string
	// Deltas are the static deltas that came with the builds.
	Deltas []CarriedDelta
	// Changed are the files whose content changed, relative to Base. Without
	// any, and without refs new or gone, there is nothing to tell, and no
	// event.
	Changed []string
}

// PublishedJob is one job that a publish did.
type PublishedJob struct {
	Claim Claim
	Refs  map[string]string
}

// FinishPublish records a publish: in one transaction the published refs, the
// jobs and their builds (Published), and the event. It returns the event; its
// Serial is 0 when there was nothing to tell.
//
// Called again with the same key, because a crash left open whether the first
// call was through, it returns what the first call returned and changes
// nothing. A job that somebody else has taken or ended fails the whole with
// [ErrClaimLost].
func (c *Catalog) FinishPublish(ctx context.Context, p Publish) (event hubapi.Event, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		event, err = c.recordOnce(ctx, tx, "publish:"+p.Key, func() (hubapi.Event, error) {
			return c.finishPublish(ctx, tx, p)
		})
		return err
	})
	if err != nil {
		return hubapi.Event{}, fmt.Errorf("record publish %s of %s: %w", p.Key, p.Repo, err)
	}
	c.events.send()
	c.jobs.send()
	return event, nil
}

func (c *Catalog) finishPublish(ctx context.Context, tx *sqldb.Tx, p Publish) (hubapi.Event, error) {
	event := hubapi.Event{
		Kind: hubapi.EventPublish, Repo: p.Repo, Base: p.Base, Changed: p.Changed, Refs: map[string]string{}, Publish: p.Number,
	}
	maps.Copy(event.Refs, p.Refs)
	jobs := make([]*Job, len(p.Jobs))
	for i, published := range p.Jobs {
		job, err := c.claimed(ctx, tx, published.Claim)
		if err != nil {
			return event, fmt.Errorf("job %d: %w", published.Claim.Job, err)
		}
		if job.Status == hubapi.JobEnded {
			return event, fmt.Errorf("job %d: %w", job.ID, ErrClaimLost)
		}
		jobs[i] = job
		maps.Copy(event.Refs, published.Refs)
	}
	for _, ref := range p.Removed {
		event.Refs[ref] = ""
	}
	if len(jobs) == 1 {
		event.Build = jobs[0].Build
	}
	if err := setRefs(ctx, tx, p.Repo, p.Infos, p.Removed); err != nil {
		return event, err
	}
	if len(p.Changed) > 0 || len(event.Refs) > 0 {
		var err error
		if event, err = c.appendEvent(ctx, tx, event); err != nil {
			return event, err
		}
	}
	if err := c.recordHistory(ctx, tx, p, event, jobs); err != nil {
		return event, err
	}
	if err := c.carryDeltas(ctx, tx, p.Repo, p.Deltas); err != nil {
		return event, err
	}
	for i, job := range jobs {
		if job.Build != 0 && job.Kind == hubapi.JobPublish {
			if err := setPublishedState(ctx, tx, job.Build, hubapi.Published, ""); err != nil {
				return event, err
			}
			if err := c.audit(ctx, tx, "build.published", buildName(job.Build), fmt.Sprintf("event/%d", event.Serial)); err != nil {
				return event, err
			}
		}
		// The publish job updates the summaries itself, so it is the job that
		// a client follows to know when users see the build.
		results := hubapi.PublishResults{Refs: p.Jobs[i].Refs, UpdateRepoJob: job.ID, Serial: event.Serial}
		if results.Refs == nil {
			results.Refs = map[string]string{}
		}
		if err := c.end(ctx, tx, job, results); err != nil {
			return event, err
		}
	}
	return event, nil
}

// Refs iterates over the published refs of a repository by name, in one
// snapshot. An error ends the iteration. Info is the caller's to keep.
func (c *Catalog) Refs(ctx context.Context, repo string) iter.Seq2[RefInfo, error] {
	return func(yield func(RefInfo, error) bool) {
		stopped := false
		err := c.db.Read(ctx, func(tx *sqldb.Tx) error {
			rows, err := tx.Query(ctx, `SELECT ref_name, checksum, info FROM published_refs WHERE repo = ? ORDER BY ref_name`, repo)
			if err != nil {
				return err
			}
			defer rows.Close() //nolint:errcheck // rows.Err tells more
			for rows.Next() {
				var r RefInfo
				if err := rows.Scan(&r.Ref, &r.Commit, &r.Info); err != nil {
					return err
				}
				if stopped = !yield(r, nil); stopped {
					return nil
				}
			}
			return rows.Err()
		})
		if err != nil && !stopped {
			yield(RefInfo{}, fmt.Errorf("read refs of %s: %w", repo, err))
		}
	}
}

// RefInfos returns what is remembered of the refs of a repository that have one of the
// names; those that are not published are left out.
func (c *Catalog) RefInfos(ctx context.Context, repo string, names []string) (infos []RefInfo, err error) {
	const atOnce = 500
	for some := range slices.Chunk(names, atOnce) {
		args := []any{repo}
		for _, name := range some {
			args = append(args, name)
		}
		err := c.db.Read(ctx, func(tx *sqldb.Tx) error {
			rows, err := tx.Query(ctx, `SELECT ref_name, checksum, info FROM published_refs
				WHERE repo = ? AND ref_name IN (`+placeholders(len(some))+`) ORDER BY ref_name`, args...)
			found, err := collect(rows, err, func(rows *sql.Rows) (r RefInfo, err error) {
				return r, rows.Scan(&r.Ref, &r.Commit, &r.Info)
			})
			infos = append(infos, found...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read refs of %s: %w", repo, err)
		}
	}
	return infos, nil
}

// SetRefs changes what is remembered of published refs without telling anybody:
// for refs found on disk that the catalog did not know, or knew wrongly.
func (c *Catalog) SetRefs(ctx context.Context, repo string, infos []RefInfo, removed []string) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		return setRefs(ctx, tx, repo, infos, removed)
	})
	if err != nil {
		return fmt.Errorf("set refs of %s: %w", repo, err)
	}
	return nil
}

func setRefs(ctx context.Context, tx *sqldb.Tx, repo string, infos []RefInfo, removed []string) error {
	for _, ref := range removed {
		if _, err := tx.Exec(ctx, `DELETE FROM published_refs WHERE repo = ? AND ref_name = ?`, repo, ref); err != nil {
			return fmt.Errorf("forget ref %s: %w", ref, err)
		}
	}
	for _, r := range infos {
		info := r.Info
		if info == nil {
			info = []byte{}
		}
		_, err := tx.Exec(ctx, `INSERT INTO published_refs (repo, ref_name, checksum, info) VALUES (?, ?, ?, ?)
			ON CONFLICT (repo, ref_name) DO UPDATE SET checksum = excluded.checksum, info = excluded.info`,
			repo, r.Ref, r.Commit, info)
		if err != nil {
			return fmt.Errorf("remember ref %s: %w", r.Ref, err)
		}
	}
	return nil
}

// Expire forgets what nobody asks for any more and what ended before a time:
// logs of jobs, entries of the audit log, keys of what was recorded, and tokens
// that expired. Builds, jobs, events and revocations stay: a revoked id may be
// that of a token with a longer life that was never seen.
func (c *Catalog) Expire(ctx context.Context, before time.Time) error {
	statements := []string{
		`DELETE FROM job_logs WHERE job_id IN (SELECT id FROM jobs WHERE ended > 0 AND ended < ?)`,
		`DELETE FROM audit WHERE created < ?`,
		`DELETE FROM recorded WHERE created < ?`,
		`DELETE FROM nodes WHERE seen < ?`,
		`DELETE FROM node_steps WHERE passed < ? AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.name = node_steps.name AND nodes.site = node_steps.site)`,
		`DELETE FROM tokens WHERE revoked = 0 AND expires < ?`,
	}
	for _, statement := range statements {
		err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, statement, before.UnixMicro())
			return err
		})
		if err != nil {
			return fmt.Errorf("expire what is older than %s: %w", before.Format(time.DateTime), err)
		}
	}
	return nil
}
