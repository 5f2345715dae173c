package flatmanagertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// Outcome is what a run has seen.
type Outcome struct {
	// Build is the id of the build.
	Build int64
	// Uploaded is the number of objects sent, without static deltas.
	Uploaded int
	// Refs are the commits pushed; Committed and Published those the hub made of
	// them, by ref.
	Refs, Committed, Published map[string]string
	// Log is what the client has printed of the jobs' logs.
	Log string
	// Retries is how often the client had to repeat a request.
	Retries int
}

// PythonPush plays "create", "push --commit --publish" and "purge" of the
// Python client for the repository in repoDir.
func PythonPush(ctx context.Context, baseURL, token, repoDir string, opts Options) (Outcome, error) {
	return run(ctx, Python, baseURL, token, repoDir, opts)
}

// RustPush is [PythonPush] with the Rust client.
func RustPush(ctx context.Context, baseURL, token, repoDir string, opts Options) (Outcome, error) {
	return run(ctx, Rust, baseURL, token, repoDir, opts)
}

// Upload plays "create" and "push" without a commit, and leaves the build
// uploading.
func Upload(ctx context.Context, d Dialect, baseURL, token, repoDir string, opts Options) (Outcome, error) {
	s, err := newSession(d, baseURL, token, opts)
	if err != nil {
		return Outcome{}, err
	}
	defer s.close()
	return s.uploadRepo(ctx, repoDir)
}

// Purge plays "purge" for a build of any state. That the build is in use, or
// gone, is no error for the clients; the answer must then have the exact form
// they know.
func Purge(ctx context.Context, d Dialect, baseURL, token string, build int64, opts Options) (inUse bool, err error) {
	s, err := newSession(d, baseURL, token, opts)
	if err != nil {
		return false, err
	}
	defer s.close()
	return s.purge(ctx, build)
}

func run(ctx context.Context, d Dialect, baseURL, token, repoDir string, opts Options) (Outcome, error) {
	s, err := newSession(d, baseURL, token, opts)
	if err != nil {
		return Outcome{}, err
	}
	defer s.close()
	out, err := s.uploadRepo(ctx, repoDir)
	if err != nil {
		return out, err
	}
	err = s.finish(ctx, &out)
	out.Retries = s.retries
	if err != nil {
		return out, fmt.Errorf("%s client, build %d: %w", d, out.Build, err)
	}
	return out, nil
}

func (s *session) uploadRepo(ctx context.Context, repoDir string) (Outcome, error) {
	var out Outcome
	l, err := readLocal(ctx, repoDir, !s.opts.NoDeltas)
	if err != nil {
		return out, err
	}
	defer func() { _ = l.root.Close() }()
	out.Refs = l.refs
	b, err := s.create(ctx)
	out.Build = b.ID
	if err == nil {
		out.Uploaded, err = s.push(ctx, b.ID, l)
	}
	out.Retries = s.retries
	if err != nil {
		return out, fmt.Errorf("%s client, build %d: %w", s.dialect, b.ID, err)
	}
	return out, nil
}

// finish commits, publishes and purges.
func (s *session) finish(ctx context.Context, out *Outcome) error {
	if err := s.commit(ctx, out); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := s.publish(ctx, out); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if inUse, err := s.purge(ctx, out.Build); err != nil || inUse {
		return fmt.Errorf("purge: in use %v: %w", inUse, err)
	}
	return nil
}

func (s *session) commit(ctx context.Context, out *Outcome) error {
	body := map[string]any{"endoflife": nil, "endoflife_rebase": nil, "token_type": nil}
	if s.opts.EndOfLife != "" {
		body["endoflife"] = s.opts.EndOfLife
	}
	if s.opts.EndOfLifeRebase != "" {
		body["endoflife_rebase"] = s.opts.EndOfLifeRebase
	}
	if s.opts.TokenType != nil {
		body["token_type"] = *s.opts.TokenType
	}
	a, err := s.sendJSON(ctx, http.MethodPost, buildPath(out.Build, "commit"), "", body)
	if err != nil {
		return err
	}
	started, err := a.job()
	if err != nil {
		return err
	}
	if started.Kind != 0 {
		return fmt.Errorf("job of kind %d", started.Kind)
	}
	path, err := s.location(a, buildPath(out.Build, "commit"))
	if err != nil {
		return err
	}
	if err := s.waitCommitted(ctx, out); err != nil {
		return err
	}
	ended, log, err := s.waitJob(ctx, path)
	if err != nil {
		return err
	}
	if ended.ID != started.ID {
		return fmt.Errorf("job %d was started, %d is at %s", started.ID, ended.ID, path)
	}
	out.Log += log
	var results struct {
		Refs map[string]string `json:"refs"`
	}
	if err := json.Unmarshal([]byte(ended.Results), &results); err != nil {
		return fmt.Errorf("results %q: %w", ended.Results, err)
	}
	out.Committed = results.Refs
	if err := sameRefs(out.Refs, results.Refs); err != nil {
		return err
	}
	// Once committed, a build cannot be committed again.
	a, err = s.sendJSON(ctx, http.MethodPost, buildPath(out.Build, "commit"), "", body)
	if err != nil {
		return err
	}
	if f, ok := errors.AsType[*Failure](a.problem()); a.status == 200 || !ok || f.Type != "wrong-repo-state" {
		return fmt.Errorf("second commit: %d %s", a.status, a.body)
	}
	return nil
}

func sameRefs(want, got map[string]string) error {
	for ref := range want {
		if len(got[ref]) != 64 {
			return fmt.Errorf("results have %q for %s", got[ref], ref)
		}
	}
	return nil
}

// waitCommitted waits until the build is neither committing nor validating,
// and its checks have passed.
func (s *session) waitCommitted(ctx context.Context, out *Outcome) error {
	path := buildPath(out.Build, "extended")
	for n := 0; ; n++ {
		a, err := s.do(ctx, request{method: http.MethodGet, path: path})
		if err != nil {
			return err
		}
		state, err := s.extended(a, out)
		if err != nil {
			return err
		}
		switch state.RepoState {
		case 1, 6: // committing, validating
		case 2: // ready
			return nil
		case 3: // the job tells why
			return nil
		default:
			return fmt.Errorf("build in state %d after the commit", state.RepoState)
		}
		if err := s.idle(ctx, n); err != nil {
			return err
		}
	}
}

// extended checks the answer with a build and what belongs to it.
func (s *session) extended(a reply, out *Outcome) (build, error) {
	var e struct {
		Build  json.RawMessage   `json:"build"`
		Refs   []json.RawMessage `json:"build_refs"`
		Checks []json.RawMessage `json:"checks"`
	}
	if err := a.success(&e); err != nil {
		return build{}, err
	}
	if err := fits(a.body, extendedShape); err != nil {
		return build{}, fmt.Errorf("extended: %w", err)
	}
	for _, ref := range e.Refs {
		if err := fits(ref, refShape); err != nil {
			return build{}, fmt.Errorf("extended: %w", err)
		}
	}
	if len(e.Refs) != len(out.Refs) {
		return build{}, fmt.Errorf("extended: %d refs, %d were pushed", len(e.Refs), len(out.Refs))
	}
	for _, check := range e.Checks {
		if err := fits(check, checkShape); err != nil {
			return build{}, fmt.Errorf("extended: %w", err)
		}
		var c struct {
			Name   string `json:"check_name"`
			Status int    `json:"status"`
		}
		if err := json.Unmarshal(check, &c); err != nil {
			return build{}, err
		}
		if c.Status == 3 {
			return build{}, fmt.Errorf("check %s failed", c.Name)
		}
	}
	return reply{status: a.status, header: a.header, body: e.Build}.build()
}

// idle sleeps as the clients do, longer the more often nothing had changed.
func (s *session) idle(ctx context.Context, n int) error {
	sleeps := []int{1, 1, 1, 3, 3, 3, 5, 5, 5, 10, 10, 10, 10, 10, 60}
	return s.sleep(ctx, sleeps[min(n, len(sleeps)-1)])
}

// maxPollErrors is how many error answers a client bears while it polls.
const maxPollErrors = 5

// waitJob polls a job to its end and returns its whole log, as printed. A job
// that broke is an error.
func (s *session) waitJob(ctx context.Context, path string) (job, string, error) {
	log := ""
	failures := 0
	for idle := 0; ; {
		j, err := s.readJob(ctx, path, len(log))
		if f, ok := errors.AsType[*Failure](err); ok {
			if failures++; failures > maxPollErrors {
				return j, log, fmt.Errorf("more than %d errors while polling: %w", maxPollErrors, f)
			}
		} else if err != nil {
			return j, log, err
		}
		if err == nil {
			if idle++; j.Log != "" {
				idle = 0
			}
			log += j.Log
			switch j.Status {
			case 2, 3:
				return s.jobEnded(ctx, path, j, log)
			}
		}
		if err := s.idle(ctx, idle); err != nil {
			return j, log, err
		}
	}
}

func (s *session) readJob(ctx context.Context, path string, offset int) (job, error) {
	a, err := s.sendJSON(ctx, http.MethodGet, path, "", map[string]any{"log-offset": offset})
	if err != nil {
		return job{}, err
	}
	return a.job()
}

// jobEnded checks that the log, read in pieces, is the log, and the ways in
// which a job may be asked for.
func (s *session) jobEnded(ctx context.Context, path string, ended job, log string) (job, string, error) {
	whole, err := s.readJob(ctx, path, 0)
	if err != nil {
		return ended, log, err
	}
	if whole.Log != log {
		return ended, log, fmt.Errorf("log read in pieces %q, as a whole %q", log, whole.Log)
	}
	if beyond, err := s.readJob(ctx, path, len(log)+100); err != nil || beyond.Log != "" {
		return ended, log, fmt.Errorf("log beyond its end %q: %w", beyond.Log, err)
	}
	a, err := s.do(ctx, request{method: http.MethodGet, path: path}) // without a body
	if err != nil {
		return ended, log, err
	}
	if plain, err := a.job(); err != nil || plain.Log != log {
		return ended, log, fmt.Errorf("asked without a body: log %q, error %w", plain.Log, err)
	}
	// Some clients send log_offset, which means nothing.
	a, err = s.sendJSON(ctx, http.MethodGet, path, "", map[string]any{"log_offset": 5})
	if err != nil {
		return ended, log, err
	}
	if ignored, err := a.job(); err != nil || ignored.Log != log {
		return ended, log, fmt.Errorf("asked with an unknown key: log %q, error %w", ignored.Log, err)
	}
	if ended.Status == 3 {
		var reason struct {
			Message string `json:"error-message"`
		}
		if err := json.Unmarshal([]byte(ended.Results), &reason); err != nil || reason.Message == "" {
			return ended, log, fmt.Errorf("job %d broke with the results %q", ended.ID, ended.Results)
		}
		return ended, log, &JobError{Job: ended.ID, Reason: reason.Message, Log: log}
	}
	return ended, log, nil
}

// JobError is a job that broke.
type JobError struct {
	Job    int64
	Reason string
	Log    string
}

func (e *JobError) Error() string { return fmt.Sprintf("job %d broke: %s", e.Job, e.Reason) }

func (s *session) publish(ctx context.Context, out *Outcome) error {
	path := buildPath(out.Build, "publish")
	a, err := s.sendJSON(ctx, http.MethodPost, path, "", map[string]any{})
	if err != nil {
		return err
	}
	started, err := a.job()
	if err != nil {
		return err
	}
	if started.Kind != 1 {
		return fmt.Errorf("job of kind %d", started.Kind)
	}
	if _, err := s.location(a, path); err != nil {
		return err
	}
	ended, log, err := s.waitJob(ctx, path)
	if err != nil {
		return err
	}
	out.Log += log
	var results struct {
		Refs   map[string]string `json:"refs"`
		Update int64             `json:"update-repo-job"`
	}
	if err := json.Unmarshal([]byte(ended.Results), &results); err != nil {
		return fmt.Errorf("results %q: %w", ended.Results, err)
	}
	out.Published = results.Refs
	if err := sameRefs(out.Refs, results.Refs); err != nil {
		return err
	}
	if results.Update <= 0 {
		return fmt.Errorf("results %q name no job that updates the repository", ended.Results)
	}
	if s.opts.WaitUpdate {
		if _, _, err := s.waitJob(ctx, fmt.Sprintf("/api/v1/job/%d", results.Update)); err != nil {
			return fmt.Errorf("update: %w", err)
		}
	}
	return s.publishAgain(ctx, out.Build)
}

// publishAgain repeats a publish, which the clients take for a success if the
// answer tells that it was done.
func (s *session) publishAgain(ctx context.Context, id int64) error {
	a, err := s.sendJSON(ctx, http.MethodPost, buildPath(id, "publish"), "", map[string]any{})
	if err != nil {
		return err
	}
	f, ok := errors.AsType[*Failure](a.problem())
	if a.status != 400 || !ok || !slices.Contains([]string{"published", "publishing"}, f.CurrentState) {
		return fmt.Errorf("second publish: %d %s", a.status, a.body)
	}
	return nil
}

// pruneInUse is the text that the clients compare with.
const pruneInUse = "Can't prune build while in use"

func (s *session) purge(ctx context.Context, id int64) (inUse bool, err error) {
	a, err := s.sendJSON(ctx, http.MethodPost, buildPath(id, "purge"), "", map[string]any{})
	if err != nil {
		return false, err
	}
	if a.status == 200 {
		b, err := a.build()
		if err != nil {
			return false, err
		}
		if b.RepoState != 4 && b.RepoState != 5 {
			return false, fmt.Errorf("purged build is in state %d", b.RepoState)
		}
		_, err = s.location(a, buildPath(id, ""))
		return false, err
	}
	f, ok := errors.AsType[*Failure](a.problem())
	switch {
	case ok && f.Status == 404:
		return false, nil
	case ok && f.Status == 400 && f.Message == pruneInUse:
		return true, nil
	}
	return false, a.problem()
}
