package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// NewCheck is a check that a build has to pass.
type NewCheck struct {
	// Name is unique among those of the build.
	Name string
	// Contents is written in JSON for its job.
	Contents any
}

// addChecks gives a build its checks, each with a job.
func (c *Catalog) addChecks(ctx context.Context, tx *sqldb.Tx, b hubapi.Build, checks []NewCheck) error {
	for _, check := range checks {
		job, err := c.enqueue(ctx, tx, NewJob{Kind: hubapi.JobCheck, Repo: b.Repo, Build: b.ID, Contents: check.Contents})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO checks (build_id, check_name, job_id, status) VALUES (?, ?, ?, ?)`,
			b.ID, check.Name, job.ID, hubapi.CheckPending)
		if err != nil {
			return fmt.Errorf("add check %s: %w", check.Name, err)
		}
	}
	return nil
}

// ErrReviewed says that a check has an outcome, which only a reviewer can put aside.
var ErrReviewed = errors.New("it has an outcome, and doing it once more is for a reviewer")

// isReviewed tells whether a review has set the outcome of one of some checks.
func isReviewed(ctx context.Context, tx *sqldb.Tx, where string, args ...any) (bool, error) {
	var one int
	err := tx.QueryRow(ctx, `SELECT 1 FROM checks WHERE reviewed = 1 AND `+where+` LIMIT 1`, args...).Scan(&one)
	if sqldb.NoRows(err) {
		return false, nil
	}
	return err == nil, err
}

// dropChecks forgets the checks of a build that is committed anew. What a review has
// failed stays so, but for a reviewer: the error is [ErrReviewed].
func (c *Catalog) dropChecks(ctx context.Context, tx *sqldb.Tx, build int64) error {
	rejected, err := isReviewed(ctx, tx, `build_id = ? AND status = ?`, build, hubapi.CheckFailed)
	if err != nil {
		return err
	}
	if rejected && !c.reviewer {
		return fmt.Errorf("a check has failed in a review: %w", ErrReviewed)
	}
	_, err = tx.Exec(ctx, `DELETE FROM checks WHERE build_id = ?`, build)
	return err
}

// FinishCheck ends a check job whose command ran, and sets the outcome of the
// check. A check that passes keeps the status that a review has set meanwhile.
// When it was the last, the build becomes Ready, or Failed.
func (c *Catalog) FinishCheck(ctx context.Context, claim Claim, verdict hubapi.CheckVerdict) error {
	return c.finish(ctx, claim, func(tx *sqldb.Tx, job *Job) error {
		if err := c.end(ctx, tx, job, struct{}{}); err != nil {
			return err
		}
		return c.settleCheck(ctx, tx, job, verdict)
	})
}

// settleCheck sets the outcome of the check that a job was for, unless the
// build has other checks by now.
func (c *Catalog) settleCheck(ctx context.Context, tx *sqldb.Tx, job *Job, verdict hubapi.CheckVerdict) error {
	checks, err := queryChecks(ctx, tx, `job_id = ?`, job.ID)
	if err != nil || len(checks) == 0 {
		return err
	}
	if verdict.Status != hubapi.CheckPassed || checks[0].Status == hubapi.CheckPending {
		if err := setCheck(ctx, tx, job.ID, verdict); err != nil {
			return err
		}
	}
	return c.concludeChecks(ctx, tx, job.Build)
}

// ReviewCheck sets the outcome of the check with this job, and its results
// unless they are nil: for people who review it, and for the command of the
// check itself. The build becomes Validating, Ready or Failed by what its
// checks say now. Unless it is one of these and not published the error is a
// [*WrongStateError].
func (c *Catalog) ReviewCheck(ctx context.Context, job int64, verdict hubapi.CheckVerdict, results *string) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		check, err := checkOfJob(ctx, tx, job)
		if err != nil {
			return err
		}
		if err := requireChecked(ctx, tx, check.BuildID); err != nil {
			return err
		}
		if err := setCheck(ctx, tx, job, verdict); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE checks SET reviewed = 1 WHERE job_id = ?`, job); err != nil {
			return err
		}
		if results != nil {
			if _, err := tx.Exec(ctx, `UPDATE checks SET results = ? WHERE job_id = ?`, clean(*results), job); err != nil {
				return err
			}
		}
		detail := check.CheckName + ": " + verdict.Status.String() + " " + verdict.Reason
		if err := c.audit(ctx, tx, "check.review", buildName(check.BuildID), strings.TrimSpace(detail)); err != nil {
			return err
		}
		if err := touchJobs(ctx, tx); err != nil {
			return err
		}
		return c.concludeChecks(ctx, tx, check.BuildID)
	})
	if err != nil {
		return fmt.Errorf("review check of job %d: %w", job, err)
	}
	c.jobs.send()
	return nil
}

// RetryCheck runs a check of a build once more, with what its job was told the
// first time. The build becomes Validating. One that runs or waits already is
// left alone, and its job returned. One that has an outcome, by its command or by a
// review, needs a reviewer, or the error is [ErrReviewed]; one that broke does not.
// Other errors are those of [Catalog.ReviewCheck].
func (c *Catalog) RetryCheck(ctx context.Context, build int64, name string) (job *Job, err error) {
	return c.start(ctx, build, "check", func(tx *sqldb.Tx, b hubapi.Build) (*Job, error) {
		if err := requireChecked(ctx, tx, build); err != nil {
			return nil, err
		}
		checks, err := queryChecks(ctx, tx, `build_id = ? AND check_name = ?`, build, name)
		if err != nil {
			return nil, err
		}
		if len(checks) == 0 {
			return nil, notFound(fmt.Sprintf("check of build %d:", build), name)
		}
		before, err := readJob(ctx, tx, checks[0].JobID)
		if err != nil || before.Status == hubapi.JobNew || before.Status == hubapi.JobStarted {
			return before, err
		}
		if reviewed, err := isReviewed(ctx, tx, `job_id = ?`, before.ID); err != nil {
			return nil, err
		} else if (reviewed || before.Status != hubapi.JobBroken) && !c.reviewer {
			return nil, fmt.Errorf("check %s: %w", name, ErrReviewed)
		}
		job, err := c.enqueue(ctx, tx, NewJob{Kind: hubapi.JobCheck, Repo: b.Repo, Build: build, Contents: rawJSON(before.Contents)})
		if err != nil {
			return nil, err
		}
		_, err = tx.Exec(ctx, `UPDATE checks SET job_id = ?, status = ?, status_reason = NULL, results = NULL, reviewed = 0 WHERE build_id = ? AND check_name = ?`,
			job.ID, hubapi.CheckPending, build, name)
		if err != nil {
			return nil, err
		}
		return job, c.concludeChecks(ctx, tx, build)
	})
}

// CheckOfJob returns the build and the check that a job is the newest of.
func (c *Catalog) CheckOfJob(ctx context.Context, job int64) (check hubapi.Check, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		check, err = checkOfJob(ctx, tx, job)
		return err
	})
	return check, err
}

func checkOfJob(ctx context.Context, tx *sqldb.Tx, job int64) (hubapi.Check, error) {
	checks, err := queryChecks(ctx, tx, `job_id = ?`, job)
	if err != nil {
		return hubapi.Check{}, err
	}
	if len(checks) == 0 {
		return hubapi.Check{}, notFound("check of job", job)
	}
	return checks[0], nil
}

// requireChecked returns an error unless the build is one whose checks may have
// another outcome.
func requireChecked(ctx context.Context, tx *sqldb.Tx, build int64) error {
	b, err := readBuild(ctx, tx, build)
	if err != nil {
		return err
	}
	if b.PublishedState != hubapi.Unpublished && b.PublishedState != hubapi.PublishFailed {
		return wrongPublishedState("Build is already published", b.PublishedState, hubapi.Unpublished)
	}
	switch b.RepoState {
	case hubapi.RepoValidating, hubapi.RepoReady, hubapi.RepoFailed:
		return nil
	case hubapi.RepoUploading, hubapi.RepoCommitting, hubapi.RepoPurging, hubapi.RepoPurged:
	}
	return wrongRepoState("Build is not being validated", b.RepoState, hubapi.RepoValidating)
}

func setCheck(ctx context.Context, tx *sqldb.Tx, job int64, verdict hubapi.CheckVerdict) error {
	_, err := tx.Exec(ctx, `UPDATE checks SET status = ?, status_reason = ? WHERE job_id = ?`, verdict.Status, orNull(verdict.Reason), job)
	return err
}

// concludeChecks gives a build the state that its checks leave it in.
func (c *Catalog) concludeChecks(ctx context.Context, tx *sqldb.Tx, build int64) error {
	checks, err := queryChecks(ctx, tx, `build_id = ?`, build)
	if err != nil {
		return err
	}
	var failed []string
	for _, check := range checks {
		job, err := readJob(ctx, tx, check.JobID)
		if err != nil {
			return err
		}
		// A command that has set its own status may still think better of it.
		if running := job.Status == hubapi.JobNew || job.Status == hubapi.JobStarted; running || !check.Status.Finished() {
			return setRepoState(ctx, tx, build, hubapi.RepoValidating, "")
		}
		if check.Status == hubapi.CheckFailed {
			failed = append(failed, check.CheckName)
		}
	}
	if len(failed) == 0 {
		return setRepoState(ctx, tx, build, hubapi.RepoReady, "")
	}
	return setRepoState(ctx, tx, build, hubapi.RepoFailed,
		fmt.Sprintf("%d out of %d checks failed (%s)", len(failed), len(checks), strings.Join(failed, ", ")))
}

func queryChecks(ctx context.Context, tx *sqldb.Tx, where string, args ...any) ([]hubapi.Check, error) {
	rows, err := tx.Query(ctx, `SELECT check_name, build_id, job_id, status, status_reason, results
		FROM checks WHERE `+where+` ORDER BY check_name`, args...)
	return collect(rows, err, func(rows *sql.Rows) (k hubapi.Check, err error) {
		return k, rows.Scan(&k.CheckName, &k.BuildID, &k.JobID, &k.Status, &k.StatusReason, &k.Results)
	})
}

// rawJSON is text that is JSON already.
type rawJSON string

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }
