package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

const (
	// MaxInterruptions is how many deaths of the hub a job survives, less one: a
	// job that brings the hub down must not do so for ever.
	MaxInterruptions = 5
	// Lease is how long after its last sign of life a process is taken to be
	// alive. Claiming, Extend and AppendLog are signs of life.
	Lease = 2 * time.Minute
	// MaxLog is how many bytes of a job's log are kept; what follows is dropped.
	MaxLog = 8 << 20
	// maxAhead bounds how long a job can be put off.
	maxAhead = time.Hour
	// pruneGrace is how long a prune job lets jobs queued after it go first.
	pruneGrace = time.Hour
)

// Job is a piece of work in the queue.
type Job struct {
	ID     int64
	Kind   hubapi.JobKind
	Status hubapi.JobStatus
	// Repo is the repository and Build the build that it is about; "" and 0
	// when it is about none.
	Repo  string
	Build int64
	// Contents says what to do, in JSON. Results is what came of it, in JSON;
	// empty until the job has ended.
	Contents, Results string
	// Actor is who asked for it, see [Catalog.By].
	Actor string
	// Attempt counts how often the job was started, and Interrupted how often
	// the process died that worked on it.
	Attempt, Interrupted int64
	// Created, StartAfter, Started and Ended are zero when they do not apply.
	Created, StartAfter, Started, Ended time.Time
}

// Claim returns the right to work on the job, as it was when the job was read.
func (j *Job) Claim() Claim { return Claim{Job: j.ID, Attempt: j.Attempt} }

// Claim is the right to work on a job and to end it. It is lost when the job is
// started again by somebody else.
type Claim struct {
	Job int64
	// Attempt is that of the job when it was claimed. 0 claims the job whoever
	// works on it: for what was done before a restart and is now confirmed.
	Attempt int64
}

// NewJob describes a job to queue.
type NewJob struct {
	Kind  hubapi.JobKind
	Repo  string
	Build int64
	// Contents is written in JSON.
	Contents any
	// StartAfter is the earliest start; zero means now. What is more than an hour
	// ahead is taken to be of a clock that was set back since, and counts for
	// nothing.
	StartAfter time.Time
	// DependsOn are jobs that must have ended before, well or not.
	DependsOn []int64
	// Detail is for the audit log.
	Detail string
}

// EnqueueJob queues a job. Commits and publishes of builds have their own
// verbs. A republish of what is frozen is a [*FrozenError].
func (c *Catalog) EnqueueJob(ctx context.Context, j NewJob) (job *Job, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if job, err = c.enqueue(ctx, tx, j); err != nil {
			return err
		}
		return c.audit(ctx, tx, "job."+j.Kind.String(), jobName(job.ID), strings.TrimSpace(j.Repo+" "+j.Detail))
	})
	if err != nil {
		return nil, fmt.Errorf("queue %s job: %w", j.Kind, err)
	}
	c.jobs.send()
	return job, nil
}

func (c *Catalog) enqueue(ctx context.Context, tx *sqldb.Tx, j NewJob) (*Job, error) {
	contents, err := toJSON(j.Contents)
	if err != nil {
		return nil, err
	}
	hold, err := heldBy(ctx, tx, j.Kind, j.Repo, j.Build, contents)
	if err != nil {
		return nil, err
	}
	if hold != nil && hold.Kind == hubapi.HoldFreeze {
		return nil, &FrozenError{*hold}
	}
	id, err := next(ctx, tx, "job")
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO jobs (id, kind, status, repo, build_id, contents, created, start_after, actor) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		id, j.Kind, hubapi.JobNew, j.Repo, j.Build, clean(contents), c.now().UnixMicro(), micros(j.StartAfter), clean(c.by()))
	if err != nil {
		return nil, err
	}
	waiting, err := c.waitingBefore(ctx, tx, j.Kind, j.Repo, j.Build, contents, id)
	if err != nil {
		return nil, err
	}
	for _, earlier := range append(waiting, j.DependsOn...) {
		if _, err := tx.Exec(ctx, `INSERT INTO job_dependencies (job_id, depends_on) VALUES (?, ?)`, id, earlier); err != nil {
			return nil, err
		}
	}
	if err := touchJobs(ctx, tx); err != nil {
		return nil, err
	}
	return readJob(ctx, tx, id)
}

// StartCommit ends the upload of a build and queues its commit job: the build
// becomes Committing. It fails with a [*WrongStateError] unless the build is
// Uploading, or Failed without being published: a commit that failed may be
// started again, unless it is for a review to decide ([ErrReviewed]). contents is
// written in JSON for the job.
func (c *Catalog) StartCommit(ctx context.Context, build int64, contents any) (*Job, error) {
	return c.start(ctx, build, "commit", func(tx *sqldb.Tx, b hubapi.Build) (*Job, error) {
		again := b.RepoState == hubapi.RepoFailed && (b.PublishedState == hubapi.Unpublished || b.PublishedState == hubapi.PublishFailed)
		if b.RepoState != hubapi.RepoUploading && !again {
			return nil, wrongRepoState("Build is not in the uploading state", b.RepoState, hubapi.RepoUploading)
		}
		if err := c.dropChecks(ctx, tx, build); err != nil {
			return nil, err
		}
		job, err := c.enqueue(ctx, tx, NewJob{Kind: hubapi.JobCommit, Repo: b.Repo, Build: build, Contents: contents})
		if err != nil {
			return nil, err
		}
		_, err = tx.Exec(ctx, `UPDATE builds SET repo_state = ?, repo_state_reason = NULL, commit_job_id = ? WHERE id = ?`,
			hubapi.RepoCommitting, job.ID, build)
		return job, err
	})
}

// StartPublish queues the publish job of a build: it becomes Publishing. It
// fails with a [*WrongStateError] unless the build is Ready and was not
// published; a publish that failed may be started again. What is frozen is a
// [*FrozenError]. contents is written
// in JSON for the job. It waits for the end of the jobs before, which are queued with
// it.
func (c *Catalog) StartPublish(ctx context.Context, build int64, contents any, before ...NewJob) (*Job, error) {
	return c.start(ctx, build, "publish", func(tx *sqldb.Tx, b hubapi.Build) (*Job, error) {
		// A published build is purged soon after, so its published state is
		// looked at first.
		switch b.PublishedState {
		case hubapi.Unpublished, hubapi.PublishFailed:
		case hubapi.Publishing, hubapi.Published:
			return nil, wrongPublishedState("Build is already published", b.PublishedState, hubapi.Unpublished)
		}
		if b.RepoState != hubapi.RepoReady {
			return nil, wrongRepoState("Build is not in the ready state", b.RepoState, hubapi.RepoReady)
		}
		publish := NewJob{Kind: hubapi.JobPublish, Repo: b.Repo, Build: build, Contents: contents}
		for _, j := range before {
			earlier, err := c.enqueue(ctx, tx, j)
			if err != nil {
				return nil, err
			}
			publish.DependsOn = append(publish.DependsOn, earlier.ID)
		}
		job, err := c.enqueue(ctx, tx, publish)
		if err != nil {
			return nil, err
		}
		_, err = tx.Exec(ctx, `UPDATE builds SET published_state = ?, published_state_reason = NULL, publish_job_id = ? WHERE id = ?`,
			hubapi.Publishing, job.ID, build)
		return job, err
	})
}

func (c *Catalog) start(ctx context.Context, build int64, verb string, fn func(*sqldb.Tx, hubapi.Build) (*Job, error)) (job *Job, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		b, err := readBuild(ctx, tx, build)
		if err != nil {
			return err
		}
		if job, err = fn(tx, b); err != nil {
			return err
		}
		return c.audit(ctx, tx, "build."+verb, buildName(build), jobName(job.ID))
	})
	if err != nil {
		return nil, fmt.Errorf("start %s of build %d: %w", verb, build, err)
	}
	c.jobs.send()
	return job, nil
}

// Job returns a job without its log; the error wraps [ErrNotFound] when there
// is none.
func (c *Catalog) Job(ctx context.Context, id int64) (job *Job, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		job, err = readJob(ctx, tx, id)
		return err
	})
	return job, err
}

// JobWithLog returns a job as the API shows it, with its log from an offset in
// bytes on.
func (c *Catalog) JobWithLog(ctx context.Context, id, offset int64) (hubapi.Job, error) {
	var job *Job
	var log []byte
	err := c.db.Read(ctx, func(tx *sqldb.Tx) error {
		var err error
		if job, err = readJob(ctx, tx, id); err != nil {
			return err
		}
		log, err = readLog(ctx, tx, id, max(offset, 0))
		return err
	})
	if err != nil {
		return hubapi.Job{}, err
	}
	shown := hubapi.Job{
		ID: job.ID, Kind: job.Kind, Status: job.Status, Contents: job.Contents, Results: orNull(job.Results), Log: string(log),
	}
	if !job.StartAfter.IsZero() {
		shown.StartAfter = &hubapi.StartAfter{Seconds: job.StartAfter.Unix(), Nanos: int32(job.StartAfter.Nanosecond())}
	}
	if job.Repo != "" && ofRepo(job.Kind) {
		shown.Repo = &job.Repo
	}
	return shown, nil
}

// readLog returns the log from the offset on. An offset within a character
// moves to the next one.
func readLog(ctx context.Context, tx *sqldb.Tx, id, offset int64) ([]byte, error) {
	rows, err := tx.Query(ctx, `SELECT start, chunk FROM job_logs WHERE job_id = ? AND start >=
		(SELECT COALESCE(MAX(start), 0) FROM job_logs WHERE job_id = ? AND start <= ?) ORDER BY start`, id, id, offset)
	type piece struct {
		start int64
		chunk []byte
	}
	pieces, err := collect(rows, err, func(rows *sql.Rows) (p piece, err error) {
		return p, rows.Scan(&p.start, &p.chunk)
	})
	if err != nil {
		return nil, fmt.Errorf("read log of job %d: %w", id, err)
	}
	var log []byte
	for _, p := range pieces {
		skip := min(max(offset-p.start, 0), int64(len(p.chunk)))
		log = append(log, p.chunk[skip:]...)
	}
	for len(log) > 0 && !utf8.RuneStart(log[0]) {
		log = log[1:]
	}
	return log, nil
}

// AppendLog appends text to the log of a job, and is a sign of life of whoever
// works on it. Invalid UTF-8 is replaced, so hand over whole lines. A log that
// reaches [MaxLog] says so, and takes no more.
func (c *Catalog) AppendLog(ctx context.Context, job int64, text string) error {
	err := c.appendLog(ctx, job, text, touchJobs)
	if err == nil {
		c.jobs.send()
	}
	return err
}

// EndLog is AppendLog for the last words about a job, after which it ends at once.
// Those who wait for the job are woken by its end, and then see both.
func (c *Catalog) EndLog(ctx context.Context, job int64, text string) error {
	return c.appendLog(ctx, job, text, func(context.Context, *sqldb.Tx) error { return nil })
}

func (c *Catalog) appendLog(ctx context.Context, job int64, text string, tell func(context.Context, *sqldb.Tx) error) error {
	const full = "\n[the log is full; what follows was dropped]\n"
	chunk := clean(text)
	if chunk == "" {
		return nil
	}
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		var size int64
		if err := tx.QueryRow(ctx, `SELECT log_size FROM jobs WHERE id = ?`, job).Scan(&size); err != nil {
			if sqldb.NoRows(err) {
				return notFound("job", job)
			}
			return err
		}
		added := chunk
		if size >= MaxLog {
			added = ""
		} else if size+int64(len(added)) > MaxLog {
			// The marker fills the log up, so that it is written once.
			keep := max(MaxLog-size-int64(len(full)), 0)
			added = strings.ToValidUTF8(added[:keep], "") + full
			added += strings.Repeat("\n", int(max(MaxLog-size-int64(len(added)), 0)))
		}
		if added != "" {
			if _, err := tx.Exec(ctx, `INSERT INTO job_logs (job_id, start, chunk) VALUES (?, ?, ?)`, job, size, []byte(added)); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `UPDATE jobs SET log_size = ?, lease = CASE WHEN boot = ? THEN ? ELSE lease END WHERE id = ?`,
			size+int64(len(added)), c.Boot(), c.leaseEnd(), job)
		if err != nil {
			return err
		}
		return tell(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("append to log of job %d: %w", job, err)
	}
	return nil
}

// JobCount counts the jobs of a kind in a repository that are queued or
// running.
type JobCount struct {
	Kind   hubapi.JobKind
	Repo   string
	Status hubapi.JobStatus
	Count  int64
}

// JobCounts counts the queue, for metrics and people.
func (c *Catalog) JobCounts(ctx context.Context) (counts []JobCount, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Query(ctx, `SELECT kind, repo, status, COUNT(*) FROM jobs WHERE status IN (?, ?)
			GROUP BY kind, repo, status ORDER BY kind, repo, status`, hubapi.JobNew, hubapi.JobStarted)
		counts, err = collect(rows, err, func(rows *sql.Rows) (n JobCount, err error) {
			return n, rows.Scan(&n.Kind, &n.Repo, &n.Status, &n.Count)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count jobs: %w", err)
	}
	return counts, nil
}

// SerialKinds returns the kinds of job that change what a ref points at, of
// which a repository does one after the other, in the order in which they were
// asked for.
func SerialKinds() []hubapi.JobKind {
	return []hubapi.JobKind{hubapi.JobPublish, hubapi.JobUpdateRepo, hubapi.JobRepublish, hubapi.JobRollback, hubapi.JobUnpublish}
}

// Serial tells whether a kind is one of SerialKinds.
func Serial(kind hubapi.JobKind) bool { return slices.Contains(SerialKinds(), kind) }

// ofRepo tells whether clients are shown the repository of jobs of the kind;
// flat-manager keeps none for the others.
func ofRepo(kind hubapi.JobKind) bool {
	return kind != hubapi.JobCommit && kind != hubapi.JobCheck
}

// kindArgs are kinds as arguments of a query.
func kindArgs(kinds []hubapi.JobKind) []any {
	args := make([]any, len(kinds))
	for i, kind := range kinds {
		args[i] = kind
	}
	return args
}

func (c *Catalog) leaseEnd() int64 { return c.now().Add(Lease).UnixMicro() }

func jobName(id int64) string { return fmt.Sprintf("job/%d", id) }

func readJob(ctx context.Context, tx *sqldb.Tx, id int64) (*Job, error) {
	jobs, err := queryJobs(ctx, tx, `id = ?`, id)
	if err != nil {
		return nil, fmt.Errorf("read job %d: %w", id, err)
	}
	if len(jobs) == 0 {
		return nil, notFound("job", id)
	}
	return jobs[0], nil
}

func queryJobs(ctx context.Context, tx *sqldb.Tx, where string, args ...any) ([]*Job, error) {
	rows, err := tx.Query(ctx, `SELECT id, kind, status, repo, build_id, contents, COALESCE(results, ''), attempt, interrupted, actor,
		created, start_after, started, ended FROM jobs WHERE `+where+` ORDER BY id`, args...)
	return collect(rows, err, func(rows *sql.Rows) (*Job, error) {
		var j Job
		var created, startAfter, started, ended int64
		err := rows.Scan(&j.ID, &j.Kind, &j.Status, &j.Repo, &j.Build, &j.Contents, &j.Results, &j.Attempt, &j.Interrupted, &j.Actor,
			&created, &startAfter, &started, &ended)
		j.Created, j.StartAfter, j.Started, j.Ended = timeOf(created), timeOf(startAfter), timeOf(started), timeOf(ended)
		return &j, err
	})
}

// failureResults is what a job that failed leaves.
func failureResults(reason string) (string, error) {
	text, err := json.Marshal(hubapi.FailureResults{ErrorMessage: reason})
	return string(text), err
}
