package catalog

import (
	"context"
	"fmt"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// JobFilter says which jobs to take.
type JobFilter struct {
	// Kinds are the kinds of job; empty means all.
	Kinds []hubapi.JobKind
	// Repo is the repository; empty means all.
	Repo string
}

// NextJob claims the oldest queued job that may run now and matches the filter.
// It returns nil when there is none; wait for [Catalog.JobsChanged] then, and
// look again from time to time, because a job may have to wait for its
// StartAfter.
func (c *Catalog) NextJob(ctx context.Context, filter JobFilter) (*Job, error) {
	var id int64
	var job *Job
	// Looking is cheap and disturbs nobody; claiming is a write.
	err := c.db.Read(ctx, func(tx *sqldb.Tx) (err error) {
		id, err = c.candidate(ctx, tx, filter)
		return err
	})
	if err == nil && id != 0 {
		err = c.db.Write(ctx, func(tx *sqldb.Tx) (err error) {
			job = nil
			if id, err = c.candidate(ctx, tx, filter); err != nil || id == 0 {
				return err
			}
			job, err = c.claim(ctx, tx, id)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("claim a job: %w", err)
	}
	if job != nil {
		c.jobs.send()
	}
	return job, nil
}

// candidate returns the id of the job to run next, or 0.
func (c *Catalog) candidate(ctx context.Context, tx *sqldb.Tx, filter JobFilter) (int64, error) {
	now, serial := c.now(), kindArgs(SerialKinds())
	query := `SELECT j.id FROM jobs j WHERE j.status = ? AND (j.start_after <= ? OR j.start_after > ?)`
	args := []any{hubapi.JobNew, now.UnixMicro(), now.Add(maxAhead).UnixMicro()}
	if len(filter.Kinds) > 0 {
		query += ` AND j.kind IN (` + placeholders(len(filter.Kinds)) + `)`
		args = append(args, kindArgs(filter.Kinds)...)
	}
	if filter.Repo != "" {
		query += ` AND j.repo = ?`
		args = append(args, filter.Repo)
	}
	query += ` AND NOT EXISTS (SELECT 1 FROM job_dependencies d JOIN jobs p ON p.id = d.depends_on
			WHERE d.job_id = j.id AND p.status IN (?, ?))
		AND (j.kind NOT IN (` + placeholders(len(serial)) + `) OR NOT EXISTS (SELECT 1 FROM jobs r
			WHERE r.status = ? AND r.repo = j.repo AND r.kind IN (` + placeholders(len(serial)) + `)))
		ORDER BY CASE WHEN j.kind = ? AND j.created > ? THEN 1 ELSE 0 END, j.id`
	args = append(args, hubapi.JobNew, hubapi.JobStarted)
	args = append(args, serial...)
	args = append(args, hubapi.JobStarted)
	args = append(args, serial...)
	args = append(args, hubapi.JobPrune, now.Add(-pruneGrace).UnixMicro())
	return firstFree(ctx, tx, query, args)
}

func (c *Catalog) claim(ctx context.Context, tx *sqldb.Tx, id int64) (*Job, error) {
	_, err := tx.Exec(ctx, `UPDATE jobs SET status = ?, started = ?, attempt = attempt + 1, instance = ?, boot = ?, lease = ? WHERE id = ?`,
		hubapi.JobStarted, c.now().UnixMicro(), c.instance, c.Boot(), c.leaseEnd(), id)
	if err != nil {
		return nil, err
	}
	if err := touchJobs(ctx, tx); err != nil {
		return nil, err
	}
	return readJob(ctx, tx, id)
}

// ClaimAlike claims more queued jobs of the kind and repository of a job that
// the caller has claimed, oldest first, at most limit: publishes that wait are
// done as one. None of them overtakes a serial job of another kind.
func (c *Catalog) ClaimAlike(ctx context.Context, like *Job, limit int) (jobs []*Job, err error) {
	serial := kindArgs(SerialKinds())
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		jobs = nil
		if _, err := c.claimed(ctx, tx, like.Claim()); err != nil {
			return err
		}
		waiting, err := queryJobs(ctx, tx, `status = ? AND kind = ? AND repo = ? AND start_after <= ?
			AND NOT EXISTS (SELECT 1 FROM job_dependencies d JOIN jobs p ON p.id = d.depends_on
				WHERE d.job_id = jobs.id AND p.status IN (?, ?))
			AND NOT EXISTS (SELECT 1 FROM jobs o WHERE o.status = ? AND o.repo = jobs.repo AND o.id < jobs.id
				AND o.kind <> jobs.kind AND o.kind IN (`+placeholders(len(serial))+`))`,
			append([]any{hubapi.JobNew, like.Kind, like.Repo, c.now().UnixMicro(), hubapi.JobNew, hubapi.JobStarted, hubapi.JobNew}, serial...)...)
		if err == nil {
			waiting, err = free(ctx, tx, waiting)
		}
		if err != nil {
			return err
		}
		for _, job := range waiting[:min(limit, len(waiting))] {
			if job, err = c.claim(ctx, tx, job.ID); err != nil {
				return err
			}
			jobs = append(jobs, job)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("claim more jobs like %d: %w", like.ID, err)
	}
	if len(jobs) > 0 {
		c.jobs.send()
	}
	return jobs, nil
}

// claimed returns the job of a claim, or [ErrClaimLost].
func (c *Catalog) claimed(ctx context.Context, tx *sqldb.Tx, claim Claim) (*Job, error) {
	job, err := readJob(ctx, tx, claim.Job)
	if err != nil {
		return nil, err
	}
	if claim.Attempt == 0 {
		return job, nil
	}
	// A job that Recover has queued again is still the claim's until somebody
	// else starts it.
	if job.Attempt != claim.Attempt || job.Status == hubapi.JobEnded || job.Status == hubapi.JobBroken {
		return nil, ErrClaimLost
	}
	return job, nil
}

// Extend is a sign of life from whoever works on the job. Call it more often
// than every [Lease] while the job runs; on [ErrClaimLost], stop.
func (c *Catalog) Extend(ctx context.Context, claim Claim) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := c.claimed(ctx, tx, claim); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE jobs SET lease = ? WHERE id = ?`, c.leaseEnd(), claim.Job)
		return err
	})
	if err != nil {
		return fmt.Errorf("extend claim on job %d: %w", claim.Job, err)
	}
	return nil
}

// ReleaseJob gives a claimed job back to the queue, to be started not before
// after (zero: at once): because the hub stops, or to try again later. It does
// not count as an interruption.
func (c *Catalog) ReleaseJob(ctx context.Context, claim Claim, after time.Time) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := c.claimed(ctx, tx, claim); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE jobs SET status = ?, start_after = ?, boot = '' WHERE id = ?`,
			hubapi.JobNew, micros(after), claim.Job)
		if err != nil {
			return err
		}
		return touchJobs(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("release job %d: %w", claim.Job, err)
	}
	c.jobs.send()
	return nil
}

// FinishJob ends a job well. results is written in JSON. Commit and publish
// jobs have their own verbs.
func (c *Catalog) FinishJob(ctx context.Context, claim Claim, results any) error {
	return c.finish(ctx, claim, func(tx *sqldb.Tx, job *Job) error {
		if made, ok := results.(hubapi.DeltaResults); ok {
			if err := c.recordDeltas(ctx, tx, job.Repo, made.Deltas); err != nil {
				return err
			}
		}
		return c.end(ctx, tx, job, results)
	})
}

// FinishCommit ends a commit job well: the build becomes Ready, or Validating
// when it has checks to pass, and the results hold the commits by ref.
func (c *Catalog) FinishCommit(ctx context.Context, claim Claim, refs map[string]string, checks ...NewCheck) error {
	return c.finish(ctx, claim, func(tx *sqldb.Tx, job *Job) error {
		b, err := readBuild(ctx, tx, job.Build)
		if err != nil {
			return err
		}
		if b.RepoState != hubapi.RepoCommitting {
			return wrongRepoState("Build is not being committed", b.RepoState, hubapi.RepoCommitting)
		}
		if err := c.addChecks(ctx, tx, b, checks); err != nil {
			return err
		}
		if err := c.concludeChecks(ctx, tx, job.Build); err != nil {
			return err
		}
		return c.end(ctx, tx, job, hubapi.CommitResults{Refs: refs})
	})
}

// FailJob ends a job badly: it is broken, and its build, if it has one, becomes
// Failed (commit) or publish-failed with the reason. A check that could not be
// made has failed, and its build becomes Failed with the end of the last one.
func (c *Catalog) FailJob(ctx context.Context, claim Claim, reason string) error {
	return c.finish(ctx, claim, func(tx *sqldb.Tx, job *Job) error {
		return c.fail(ctx, tx, job, reason)
	})
}

func (c *Catalog) finish(ctx context.Context, claim Claim, fn func(*sqldb.Tx, *Job) error) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		job, err := c.claimed(ctx, tx, claim)
		if err != nil {
			return err
		}
		return fn(tx, job)
	})
	if err != nil {
		return fmt.Errorf("end job %d: %w", claim.Job, err)
	}
	c.jobs.send()
	return nil
}

func (c *Catalog) end(ctx context.Context, tx *sqldb.Tx, job *Job, results any) error {
	text, err := toJSON(results)
	if err != nil {
		return err
	}
	return c.setEnd(ctx, tx, job, hubapi.JobEnded, text)
}

func (c *Catalog) fail(ctx context.Context, tx *sqldb.Tx, job *Job, reason string) error {
	text, err := failureResults(clean(reason))
	if err != nil {
		return err
	}
	if job.Build != 0 {
		switch job.Kind {
		case hubapi.JobCommit:
			err = setRepoState(ctx, tx, job.Build, hubapi.RepoFailed, reason)
		case hubapi.JobPublish:
			err = setPublishedState(ctx, tx, job.Build, hubapi.PublishFailed, reason)
		case hubapi.JobUpdateRepo, hubapi.JobRepublish, hubapi.JobCheck, hubapi.JobPrune, hubapi.JobRollback, hubapi.JobUnpublish, hubapi.JobDeltas, hubapi.JobBuildDeltas:
			// A check is settled below, when its job has ended.
		}
		if err != nil {
			return err
		}
	}
	if err := c.setEnd(ctx, tx, job, hubapi.JobBroken, text); err != nil || job.Kind != hubapi.JobCheck {
		return err
	}
	return c.settleCheck(ctx, tx, job, hubapi.CheckVerdict{Status: hubapi.CheckFailed, Reason: reason})
}

func (c *Catalog) setEnd(ctx context.Context, tx *sqldb.Tx, job *Job, status hubapi.JobStatus, results string) error {
	_, err := tx.Exec(ctx, `UPDATE jobs SET status = ?, results = ?, ended = ? WHERE id = ?`,
		status, clean(results), c.now().UnixMicro(), job.ID)
	if err != nil {
		return err
	}
	return touchJobs(ctx, tx)
}

// Recovery is what Recover found.
type Recovery struct {
	// Requeued are the jobs that were interrupted and will run again.
	Requeued []*Job
	// Failed are those interrupted once too often.
	Failed []*Job
	// Purging are the builds whose purge was interrupted; delete their files
	// and call FinishPurge.
	Purging []hubapi.Build
}

// Recover puts right what processes that are gone left behind: earlier runs of
// this instance, and others whose [Lease] is over. Call it at start, before
// NextJob, and from time to time where several processes share the database.
func (c *Catalog) Recover(ctx context.Context) (found Recovery, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		found = Recovery{}
		jobs, err := queryJobs(ctx, tx, `status = ? AND boot <> ? AND (instance = ? OR lease < ?)`,
			hubapi.JobStarted, c.Boot(), c.instance, c.now().UnixMicro())
		if err != nil {
			return err
		}
		if err := c.requeue(ctx, tx, jobs, &found); err != nil {
			return err
		}
		found.Purging, err = queryBuilds(ctx, tx, `repo_state = ?`, hubapi.RepoPurging)
		return err
	})
	if err != nil {
		return Recovery{}, fmt.Errorf("recover interrupted work: %w", err)
	}
	c.jobs.send()
	return found, nil
}

// requeue queues jobs again whose process is gone.
func (c *Catalog) requeue(ctx context.Context, tx *sqldb.Tx, jobs []*Job, found *Recovery) error {
	for _, job := range jobs {
		job.Interrupted++
		if job.Interrupted >= MaxInterruptions {
			reason := fmt.Sprintf("The hub died %d times while it worked on this job", job.Interrupted)
			if err := c.fail(ctx, tx, job, reason); err != nil {
				return err
			}
			found.Failed = append(found.Failed, job)
			continue
		}
		if _, err := tx.Exec(ctx, `UPDATE jobs SET status = ?, boot = '', interrupted = ? WHERE id = ?`, hubapi.JobNew, job.Interrupted, job.ID); err != nil {
			return err
		}
		found.Requeued = append(found.Requeued, job)
	}
	if len(jobs) == 0 {
		return nil
	}
	return touchJobs(ctx, tx)
}
