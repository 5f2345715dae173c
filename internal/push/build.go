package push

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/api/hubapi"
	"freshet/internal/ostree"
)

// buildPush is the push of one OSTree repository.
type buildPush struct {
	cfg    Config
	result *Result
	repo   *localRepo

	stateFile string // "" if not kept
	commits   map[string]ostree.Checksum
}

// buildState is an unfinished push, so that a repetition goes on with it.
type buildState struct {
	Hub   string `json:"hub"`
	Repo  string `json:"repo"`
	AppID string `json:"app-id,omitempty"`
	Build int64  `json:"build"`
}

func (p *buildPush) run(ctx context.Context) error {
	if p.cfg.StateFile == "" {
		p.stateFile = filepath.Clean(p.cfg.Dir) + ".push.json"
	} else if p.cfg.StateFile != "-" {
		p.stateFile = p.cfg.StateFile
	}
	var err error
	if p.repo, err = openRepo(p.cfg.Dir); err != nil {
		return err
	}
	defer p.repo.close()
	if p.commits, err = p.repo.refs(p.cfg.Refs); err != nil {
		return err
	}
	p.result.Refs = make(map[string]string, len(p.commits))
	for ref, sum := range p.commits {
		p.result.Refs[ref] = sum.String()
	}
	if p.cfg.DryRun {
		return p.dryRun(ctx)
	}
	build, _, err := p.find(ctx)
	if err != nil {
		return err
	}
	p.result.Build = build
	if build.RepoState == hubapi.RepoUploading {
		if err := p.upload(ctx, build); err != nil {
			return err
		}
	}
	if p.cfg.Until == Uploaded {
		return nil
	}
	if err := p.commit(ctx); err != nil {
		return err
	}
	if p.cfg.Until == Committed {
		return nil
	}
	if err := p.publish(ctx); err != nil {
		return err
	}
	if p.stateFile != "" {
		if err := removeState(p.stateFile); err != nil {
			p.cfg.Progress.Line(err.Error())
		}
	}
	return nil
}

// purgeFor is how long a dry run tries to take its build away again.
const purgeFor = 10 * time.Second

// dryRun counts what would be sent. The hub tells only builds what it lacks, so
// without an unfinished one to ask about, one is created and purged again.
func (p *buildPush) dryRun(ctx context.Context) (err error) {
	build, created, err := p.find(ctx)
	if err != nil {
		return err
	}
	if created {
		defer func() {
			// Also when the push is being stopped.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), purgeFor)
			defer cancel()
			_, purged := p.cfg.Client.Purge(ctx, build.ID)
			err = errors.Join(err, purged)
		}()
	} else {
		p.result.Build = build
	}
	if err := p.count(ctx, build); err != nil {
		return err
	}
	p.cfg.Progress.Line(fmt.Sprintf("%s, objects: %s, of which %s would be sent", count(len(p.commits), "ref"), p.result.Total, p.result.Sent))
	if p.cfg.NoDeltas || build.RepoState != hubapi.RepoUploading {
		return nil
	}
	d, err := p.repo.deltasTo(p.commits)
	if err != nil {
		return err
	}
	if a := amountOf(append(d.parts, d.superblocks...)); a.Files > 0 {
		p.cfg.Progress.Line(fmt.Sprintf("static deltas: %s", a))
		p.result.Total.Files += a.Files
		p.result.Total.Bytes += a.Bytes
		p.result.Sent.Files += a.Files
		p.result.Sent.Bytes += a.Bytes
	}
	return nil
}

// count counts the objects, and those that the build still takes and lacks.
func (p *buildPush) count(ctx context.Context, build hubapi.Build) error {
	missing, err := p.missing(ctx, build)
	p.result.Sent = amountOf(slices.Concat(missing.files, missing.metadata))
	return err
}

// missing lists all objects, counts them, and returns those that the build still takes
// and lacks: while the hub looks for them, so do we.
func (p *buildPush) missing(ctx context.Context, build hubapi.Build) (objects, error) {
	names, err := p.repo.reachable(ctx, p.commits)
	if err != nil {
		return objects{}, err
	}
	var found objects
	var lacks []string
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		found, err = p.repo.objects(inner, names)
		return err
	})
	if build.RepoState == hubapi.RepoUploading {
		group.Go(func() (err error) {
			asked := make([]string, 0, len(names.files)+len(names.metadata))
			for _, name := range slices.Concat(names.files, names.metadata) {
				asked = append(asked, name.String())
			}
			lacks, err = p.cfg.Client.MissingObjects(inner, build.ID, asked)
			return err
		})
	}
	err = group.Wait()
	p.result.Total = amountOf(slices.Concat(found.files, found.metadata))
	return found.lacking(lacks), err
}

// find returns the build to push into: the one given, the one an interrupted
// push has left, or a new one. These are the first calls to the hub.
func (p *buildPush) find(ctx context.Context) (build hubapi.Build, created bool, err error) {
	client := p.cfg.firstClient()
	if p.cfg.Build != 0 {
		b, err := client.Extended(ctx, p.cfg.Build)
		if err != nil {
			return b.Build, false, err
		}
		if reason := p.unusable(b); reason != "" {
			return b.Build, false, fmt.Errorf("build %d: %s", p.cfg.Build, reason)
		}
		return b.Build, false, nil
	}
	want := buildState{Hub: p.cfg.Client.Base, Repo: p.cfg.Name, AppID: p.cfg.AppID}
	var state buildState
	if p.stateFile != "" && readState(p.stateFile, 1<<16, &state) && state.Build != 0 {
		want.Build = state.Build
		if state == want {
			b, err := client.Extended(ctx, state.Build)
			if _, unanswered := errors.AsType[*hubapi.ConnError](err); unanswered || hubapi.Retryable(err) || ctx.Err() != nil {
				return b.Build, false, err
			}
			if err == nil && p.unusable(b) == "" {
				p.cfg.Progress.Line(fmt.Sprintf("going on with build %d", b.Build.ID))
				return b.Build, false, nil
			}
		}
	}
	req := hubapi.CreateBuildRequest{Repo: p.cfg.Name, PublicDownload: p.cfg.PublicDownload}
	if p.cfg.AppID != "" {
		req.AppID = &p.cfg.AppID
	}
	if p.cfg.BuildLogURL != "" {
		req.BuildLogURL = &p.cfg.BuildLogURL
	}
	if build, err = client.CreateBuild(ctx, req); err != nil || p.cfg.DryRun {
		return build, err == nil, err
	}
	p.cfg.Progress.Line(fmt.Sprintf("build %d of repository %s", build.ID, build.Repo))
	if p.stateFile != "" {
		want.Build = build.ID
		if err := writeState(p.stateFile, want); err != nil {
			p.cfg.Progress.Line(fmt.Sprintf("the push cannot be resumed: %v", err))
		}
	}
	return build, true, nil
}

// unusable says why a build cannot take this push; "" if it can. A build whose
// upload is over must have exactly our refs.
func (p *buildPush) unusable(b hubapi.BuildExtended) string {
	held := make(map[string]string, len(b.BuildRefs))
	for _, ref := range b.BuildRefs {
		held[ref.RefName] = ref.Commit
	}
	switch state := b.Build.RepoState; {
	case b.Build.Repo != p.cfg.Name:
		return fmt.Sprintf("it is of repository %s, not %s", b.Build.Repo, p.cfg.Name)
	case state == hubapi.RepoUploading:
		if p.cfg.Build == 0 { // left by us: what else it holds is of an older state
			for ref := range held {
				if p.result.Refs[ref] == "" {
					return "it has the ref " + ref
				}
			}
		}
		return ""
	case state != hubapi.RepoCommitting && state != hubapi.RepoValidating && state != hubapi.RepoReady:
		return "it is " + state.String()
	case !maps.Equal(held, p.result.Refs):
		return "it is " + state.String() + " with other refs or commits"
	}
	return ""
}

// upload brings everything that belongs to the build to the hub.
func (p *buildPush) upload(ctx context.Context, build hubapi.Build) error {
	p.cfg.Progress.Line("looking at " + count(len(p.commits), "ref"))
	// A dirtree at the hub does not prove that the files it names are there
	// too, so everything is asked for, and files go first.
	missing, err := p.missing(ctx, build)
	if err != nil {
		return err
	}
	todo := amountOf(slices.Concat(missing.files, missing.metadata))
	p.cfg.Progress.Line(fmt.Sprintf("%s, objects: %s, of which %s to be sent", count(len(p.commits), "ref"), p.result.Total, todo))
	u := uploader{
		batchBytes: p.cfg.BatchBytes, parallel: p.cfg.Parallel, progress: p.cfg.Progress, sent: &p.result.Sent,
		send: func(ctx context.Context, parts []hubapi.Part) ([]int64, error) {
			return p.cfg.Client.Upload(ctx, build.ID, parts)
		},
		missing: func(ctx context.Context, names []string) ([]string, error) {
			return p.cfg.Client.MissingObjects(ctx, build.ID, names)
		},
	}
	if err := u.upload(ctx, "uploading files", missing.files); err != nil {
		return err
	}
	if err := u.upload(ctx, "uploading metadata", missing.metadata); err != nil {
		return err
	}
	if err := p.uploadDeltas(ctx, build.ID); err != nil {
		return err
	}
	for _, ref := range slices.Sorted(maps.Keys(p.result.Refs)) {
		req := hubapi.CreateBuildRefRequest{Ref: ref, Commit: p.result.Refs[ref]}
		if p.cfg.BuildLogURL != "" {
			req.BuildLogURL = &p.cfg.BuildLogURL
		}
		if _, err := p.cfg.Client.CreateBuildRef(ctx, build.ID, req); err != nil {
			return err
		}
	}
	if len(p.cfg.ExtraIDs) > 0 {
		if _, err := p.cfg.Client.AddExtraIDs(ctx, build.ID, p.cfg.ExtraIDs); err != nil {
			return err
		}
	}
	return nil
}

// errDropped says that the hub answered for fewer parts than it was sent.
var errDropped = errors.New("the hub has not stored all parts of an upload")

// uploadDeltas sends the static deltas. The hub cannot be asked which of them it
// lacks, so its counts must do.
func (p *buildPush) uploadDeltas(ctx context.Context, build int64) error {
	if p.cfg.NoDeltas {
		return nil
	}
	d, err := p.repo.deltasTo(p.commits)
	if err != nil || len(d.superblocks) == 0 {
		return err
	}
	all := amountOf(append(slices.Clone(d.parts), d.superblocks...))
	p.result.Total.Files += all.Files
	p.result.Total.Bytes += all.Bytes
	u := uploader{
		batchBytes: p.cfg.BatchBytes, parallel: p.cfg.Parallel, progress: p.cfg.Progress, sent: &p.result.Sent,
		send: func(ctx context.Context, parts []hubapi.Part) ([]int64, error) {
			for range uploadRounds {
				stored, err := p.cfg.Client.Upload(ctx, build, parts)
				if err != nil || len(stored) == len(parts) {
					return stored, err
				}
			}
			return nil, errDropped
		},
	}
	for _, parts := range [][]hubapi.Part{d.parts, d.superblocks} {
		if len(parts) == 0 {
			continue
		}
		refused, err := u.round(ctx, "uploading static deltas", parts)
		if err != nil {
			return err
		}
		if len(refused) > 0 {
			return &refusedError{refused}
		}
	}
	return nil
}

// commit lets the hub verify and commit the build, unless it does or did so
// already, and waits for it.
func (p *buildPush) commit(ctx context.Context) error {
	build := &p.result.Build
	if build.RepoState == hubapi.RepoUploading {
		_, err := p.cfg.Client.Commit(ctx, build.ID, p.cfg.Commit)
		// A repetition of a request whose answer was lost is refused so.
		if e, ok := errors.AsType[*hubapi.Error](err); !ok || e.Kind != hubapi.ErrWrongRepoState ||
			!slices.Contains([]string{"committing", "validating", "ready"}, e.CurrentState) {
			if err != nil {
				return err
			}
		}
		build.RepoState = hubapi.RepoCommitting
	}
	if build.RepoState == hubapi.RepoCommitting {
		p.cfg.Progress.Line(fmt.Sprintf("committing build %d", build.ID))
		_, err := WaitJob(ctx, p.cfg.Progress, func(ctx context.Context, req hubapi.JobRequest) (hubapi.Job, error) {
			return p.cfg.Client.CommitJob(ctx, build.ID, req)
		})
		if err != nil {
			return err
		}
	}
	return p.waitReady(ctx)
}

// waitReady waits for the build's checks.
func (p *buildPush) waitReady(ctx context.Context) error {
	told := false
	return poll(ctx, func() (done, moved bool, err error) {
		b, err := p.cfg.Client.Extended(ctx, p.result.Build.ID)
		if err != nil {
			return false, false, err
		}
		p.result.Build = b.Build
		switch b.Build.RepoState {
		case hubapi.RepoReady:
			return true, false, nil
		case hubapi.RepoCommitting, hubapi.RepoValidating:
			if !told && b.Build.RepoState == hubapi.RepoValidating {
				p.cfg.Progress.Line("waiting for " + count(len(b.Checks), "check"))
				told = true
			}
			return false, false, nil
		case hubapi.RepoUploading, hubapi.RepoFailed, hubapi.RepoPurging, hubapi.RepoPurged:
		}
		return false, false, fmt.Errorf("build %d is %s%s", b.Build.ID, b.Build.RepoState, because(b.Build.RepoStateReason))
	})
}

func because(reason *string) string {
	if reason == nil || *reason == "" {
		return ""
	}
	return ": " + printable(*reason)
}

// publish lets the hub publish the build, unless it does or did so already,
// and waits for it.
func (p *buildPush) publish(ctx context.Context) error {
	build := &p.result.Build
	if state := build.PublishedState; state == hubapi.Unpublished || state == hubapi.PublishFailed {
		_, err := p.cfg.Client.Publish(ctx, build.ID)
		if e, ok := errors.AsType[*hubapi.Error](err); !ok || e.Kind != hubapi.ErrWrongPublishedState ||
			!slices.Contains([]string{"publishing", "published"}, e.CurrentState) {
			if err != nil {
				return err
			}
		}
	}
	p.cfg.Progress.Line(fmt.Sprintf("publishing build %d", build.ID))
	started := time.Now()
	job, err := WaitJob(ctx, p.cfg.Progress, func(ctx context.Context, req hubapi.JobRequest) (hubapi.Job, error) {
		return p.cfg.Client.PublishJob(ctx, build.ID, req)
	})
	if err != nil {
		return err
	}
	var published hubapi.PublishResults
	if err := results(job, &published); err != nil {
		return err
	}
	p.result.Published, p.result.Serial = published.Refs, published.Serial
	p.result.Unchanged = p.unchanged(ctx, job, published)
	if update := published.UpdateRepoJob; update != 0 && update != job.ID {
		if err := p.waitUpdate(ctx, update); err != nil {
			return err
		}
	}
	p.cfg.Progress.Line(fmt.Sprintf("published in %s", time.Since(started).Round(10*time.Millisecond)))
	if p.result.Build, err = p.cfg.Client.Build(ctx, build.ID); err != nil {
		return err
	}
	return nil
}

// unchanged reports whether a publish changed nothing: the hub keeps a commit
// that a new one would only repeat. Then its event, if there is one at all, has
// no changed file. A hub whose summaries are the work of another job is
// flat-manager, which knows no events.
func (p *buildPush) unchanged(ctx context.Context, job hubapi.Job, published hubapi.PublishResults) bool {
	if published.Serial == 0 {
		return published.UpdateRepoJob == job.ID
	}
	client := *p.cfg.Client
	client.RetryFor = -1 // it is only for the words in the end
	page, err := client.Events(ctx, published.Serial-1, 1, 0)
	return err == nil && len(page.Events) == 1 && page.Events[0].Serial == published.Serial && len(page.Events[0].Changed) == 0
}

// waitUpdate waits for a job of its own that updates the repository's
// summaries, as flat-manager has it. Reading it needs a scope of its own.
func (p *buildPush) waitUpdate(ctx context.Context, id int64) error {
	_, err := WaitJob(ctx, p.cfg.Progress, func(ctx context.Context, req hubapi.JobRequest) (hubapi.Job, error) {
		return p.cfg.Client.Job(ctx, id, req)
	})
	if e, ok := errors.AsType[*hubapi.Error](err); ok && e.Kind == hubapi.ErrInsufficient {
		p.cfg.Progress.Line(fmt.Sprintf("the token may not read job %d, which updates the summaries", id))
		return nil
	}
	return err
}
