package catalog

import (
	"context"
	"slices"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// pending is a condition on jobs: they wait for the end of others.
const pending = `EXISTS (SELECT 1 FROM job_dependencies d JOIN jobs p ON p.id = d.depends_on
	WHERE d.job_id = jobs.id AND p.status IN (?, ?))`

// waitingBefore are the jobs which a new one must not overtake: those that move refs
// of the same repository and of the same application, and wait for other jobs.
func (c *Catalog) waitingBefore(ctx context.Context, tx *sqldb.Tx, kind hubapi.JobKind, repo string, build int64, contents string, id int64) ([]int64, error) {
	if !Serial(kind) {
		return nil, nil
	}
	waiting, err := queryJobs(ctx, tx, `status = ? AND repo = ? AND id <> ? AND kind IN (`+placeholders(len(SerialKinds()))+`) AND `+pending,
		append(append([]any{hubapi.JobNew, repo, id}, kindArgs(SerialKinds())...), hubapi.JobNew, hubapi.JobStarted)...)
	if err != nil || len(waiting) == 0 {
		return nil, err
	}
	ids, err := jobIDs(ctx, tx, build, contents)
	if err != nil {
		return nil, err
	}
	var earlier []int64
	for _, job := range waiting {
		theirs, err := jobIDs(ctx, tx, job.Build, job.Contents)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(theirs, func(id string) bool {
			return id != "" && holdsAny(hubapi.Hold{App: id}, ids)
		}) || slices.ContainsFunc(ids, func(id string) bool {
			return id != "" && holdsAny(hubapi.Hold{App: id}, theirs)
		}) {
			earlier = append(earlier, job.ID)
		}
	}
	return earlier, nil
}

// WaitsFor returns the oldest job for whose end another one waits; nil for none.
func (c *Catalog) WaitsFor(ctx context.Context, job int64) (earlier *Job, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		jobs, err := queryJobs(ctx, tx, `status IN (?, ?) AND id IN (SELECT depends_on FROM job_dependencies WHERE job_id = ?)`,
			hubapi.JobNew, hubapi.JobStarted, job)
		if len(jobs) > 0 {
			earlier = jobs[0]
		}
		return err
	})
	return earlier, err
}
