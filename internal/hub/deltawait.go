package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/flatpak"
	"freshet/internal/glob"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/deltas"
	"freshet/internal/hub/repository"
	"freshet/internal/ostree"
)

// A publish that waits for its deltas depends on a job which makes them, of the
// commits of the build. The publish makes commits of the same trees, and takes the
// deltas along to them.

// deltasFirst is the job for which the publish of a build waits; none when no rule
// says that it should.
func (s *server) deltasFirst(ctx context.Context, build hubapi.Build) ([]catalog.NewJob, error) {
	m := s.makers[build.Repo]
	if m == nil || len(m.waitFor) == 0 {
		return nil, nil
	}
	refs, err := s.catalog.BuildRefs(ctx, build.ID)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		if m.waits(ref.RefName) {
			return []catalog.NewJob{{Kind: hubapi.JobBuildDeltas, Repo: build.Repo, Build: build.ID, Contents: publishContents{build.ID}}}, nil
		}
	}
	return nil, nil
}

// waits tells whether the publishes of a ref wait for its deltas.
func (m *deltaMaker) waits(ref string) bool {
	parsed, err := flatpak.ParseRef(ref)
	return err == nil && m.rules.Depth(ref) > 0 &&
		glob.MatchAny(m.waitFor, parsed.ID)
}

// makeBuildDeltas makes the deltas for which the publish of a build waits. When some
// are not made in time, or cannot be made, the publish goes on without them.
func (s *server) makeBuildDeltas(ctx context.Context, job *catalog.Job) (err error) {
	ended := s.metrics.begin(job.Kind, job.Repo)
	jobLog := s.logOf(job)
	defer s.alive(ctx, job)()
	defer func() {
		jobLog.end(context.WithoutCancel(ctx))
		ended(s.statusOfJob(job, err))
	}()
	results := hubapi.DeltaResults{Deltas: []hubapi.MadeDelta{}, Failed: map[string]string{}}
	if m := s.makers[job.Repo]; m != nil { // the rules may have changed since
		run := buildDeltas{deltaMaker: m, job: job, jobLog: jobLog, results: &results}
		if err := run.all(ctx); err != nil {
			if ctx.Err() != nil {
				return err
			}
			_, _ = fmt.Fprintf(jobLog, "The publish goes on without more deltas: %v\n", err)
			s.log.WarnContext(ctx, "a publish goes on without its deltas", slog.Int64("build", job.Build), slog.Any("error", err))
		}
	}
	jobLog.end(ctx)
	ctx = context.WithoutCancel(ctx)
	return s.insist(ctx, job, func() error { return s.catalog.FinishJob(ctx, job.Claim(), results) })
}

// buildDeltas is one run of a job.
type buildDeltas struct {
	*deltaMaker
	job     *catalog.Job
	jobLog  *jobLog
	results *hubapi.DeltaResults
	build   *repository.Build
}

// errTooLate says that a publish has waited for long enough.
var errTooLate = errors.New("they are not made in the time that a publish waits")

func (r *buildDeltas) all(ctx context.Context) error {
	var err error
	if r.build, err = r.repos[r.repo].Build(r.job.Build); err != nil {
		return err
	}
	wanted, err := r.wanted(ctx)
	if err != nil {
		return err
	}
	// From the request on, however often the hub was restarted since.
	left := time.Until(r.job.Created.Add(r.waitMost))
	ctx, cancel := context.WithTimeoutCause(ctx, left, errTooLate)
	defer cancel()
	_, _ = fmt.Fprintf(r.jobLog, "The publish waits for %d static deltas, for %s at most\n", len(wanted), left.Round(time.Second))
	outcomes := make(chan deltas.Outcome)
	for _, d := range wanted {
		task := r.task(d)
		task.Build, task.Stale = r.job.Build, nil
		r.deltas.Submit(ctx, task, func(o deltas.Outcome) {
			select {
			case outcomes <- o:
			case <-ctx.Done():
				_ = os.RemoveAll(o.Made.Dir) // else at the next start
			}
		})
	}
	for range wanted {
		select {
		case o := <-outcomes:
			if err := r.take(ctx, o); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// wanted are the deltas to the commits of the build that are not made yet, in the
// order of urgency.
func (r *buildDeltas) wanted(ctx context.Context) ([]deltas.Delta, error) {
	build, err := r.catalog.Build(ctx, r.job.Build)
	if err != nil {
		return nil, err
	}
	if build.CommitJobID == nil {
		return nil, errors.New("the build is not committed")
	}
	commit, err := r.catalog.Job(ctx, *build.CommitJobID)
	if err != nil {
		return nil, err
	}
	refs, err := commitsOf(commit)
	if err != nil {
		return nil, err
	}
	heads := map[string]ostree.Checksum{}
	published := r.repos[r.repo].Snapshot()
	lines := buildLines{Commits: r.build.Objects(), after: map[ostree.Checksum]ostree.Checksum{}}
	for ref, text := range refs {
		if !r.waits(ref) {
			continue
		}
		sum, err := ostree.ParseChecksum(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		heads[ref] = sum
		if head, ok := published.Get(ref); ok {
			lines.after[sum] = head.Checksum
		}
	}
	all, err := deltas.Wanted(lines, heads, r.rules)
	return slices.DeleteFunc(all, func(d deltas.Delta) bool { return r.build.HasDelta(d.Name) }), err
}

// buildLines reads commits as they will follow one another when a build is
// published: its own after those that the refs have now.
type buildLines struct {
	deltas.Commits
	after map[ostree.Checksum]ostree.Checksum
}

// Commit implements [deltas.Commits].
func (l buildLines) Commit(c ostree.Checksum) (*ostree.Commit, error) {
	commit, err := l.Commits.Commit(c)
	if err != nil {
		return nil, err
	}
	before, ours := l.after[c]
	if !ours && commit.Parent.IsZero() {
		return commit, nil
	}
	copied := *commit
	if ours {
		copied.Parent = before
	}
	return &copied, nil
}

// take puts a delta beside the commits of the build.
func (r *buildDeltas) take(ctx context.Context, o deltas.Outcome) error {
	d := o.Task.Delta
	err := o.Err
	if err == nil {
		err = r.build.AddDelta(ctx, repository.NewDelta{Name: d.Name, Dir: o.Made.Dir})
	}
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.results.Failed[d.Name.Hex()] = reason(err)
		_, _ = fmt.Fprintf(r.jobLog, "  %s: static delta %s: %v\n", d.Ref, d.Name.Hex(), err)
		return nil
	}
	made := r.madeOf(o)
	_, _ = fmt.Fprintln(r.jobLog, madeLine(d, made))
	r.results.Deltas = append(r.results.Deltas, made)
	r.metrics.delta(r.repo, made)
	return nil
}

// madeLine tells people of a delta that is made.
func madeLine(d deltas.Delta, made hubapi.MadeDelta) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s %s: %s instead of %s, in %.1f s", d.Ref, describe(d), sizeOf(made.Size), sizeOf(made.Instead), made.Seconds)
	if made.Worker != "" {
		b.WriteString(" by " + made.Worker)
	}
	return b.String()
}
