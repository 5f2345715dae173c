package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/deltas"
	"freshet/internal/hub/rights"
	"freshet/internal/ostree"
	"freshet/internal/role"
)

const (
	// deltaLease is how long a worker is waited for.
	deltaLease = time.Minute
	// maxStep bounds what a worker says of itself, in bytes.
	maxStep = 200
	// verifiersAtOnce bounds how many uploaded deltas are verified at the same time,
	// each of which takes up to a processor and the memory of a part.
	verifiersAtOnce = 1
)

// Results of a lease, as metrics name them.
const (
	leaseAccepted = "accepted"
	leaseRefused  = "refused"  // what was uploaded is not the delta
	leaseFailed   = "failed"   // the worker could not make it
	leaseReleased = "released" // the worker ended
	leaseLost     = "lost"     // it expired, or nobody wanted the delta any more
)

// deltaGrant is what a token of a worker must have.
func deltaGrant() grant { return grant{sub: "delta", scopes: []auth.Scope{auth.ScopeGenerate}} }

// leaseDelta gives a worker the next delta to make. When there is none it waits as
// long as the worker wants, and answers with an empty lease.
func (s *server) leaseDelta(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
	var request hubapi.DeltaLeaseRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	if len(request.Worker) > hubapi.MaxNodeName {
		return problem(hubapi.ErrGeneric, "the name of the worker has more than %d bytes", hubapi.MaxNodeName)
	}
	if len(request.Engines) == 0 {
		request.Engines = []string{deltas.EngineNative}
	}
	wait := min(max(0, time.Duration(request.Wait)*time.Second), maxWait)
	leave, ok := s.pollers.enter(pollerKey(r.RemoteAddr))
	if !ok {
		w.Header().Set("Retry-After", pollPause)
		return problem(hubapi.ErrUnavailable, "too many wait already")
	}
	defer leave()
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)() //nolint:contextcheck // it ends with the hub, too
	worker := s.remoteWorker(claims, workerName(claims, request.Worker), func(t deltas.Task) bool {
		return slices.Contains(request.Engines, t.Engine)
	})
	if request.ID != "" {
		worker.ID, worker.Run = bearer(claims)+"/"+request.ID, request.Run
	}
	lease, err := s.deltas.Take(ctx, worker)
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		writeJSON(w, http.StatusOK, hubapi.DeltaLease{})
		return nil
	}
	if _, err := s.makers[lease.Task.Repo].folder(lease); err != nil {
		return errors.Join(err, lease.Fail(err, true))
	}
	writeJSON(w, http.StatusOK, hubapi.DeltaLease{
		Lease: lease.ID, Expires: int(deltaLease.Seconds()), Repo: lease.Task.Repo, Ref: lease.Task.Ref,
		From: hexOf(lease.Task.Name.From), To: lease.Task.Name.To.String(), Engine: lease.Task.Engine, Attempt: lease.Attempt,
		Path: sourcePath(lease.Task),
	})
	return nil
}

// workerName is how a worker is called, so that it says who has its token.
func workerName(claims *auth.Claims, name string) string {
	if name == "" {
		return bearer(claims)
	}
	return bearer(claims) + "/" + strings.ToValidUTF8(name, "\uFFFD")
}

// sourcePath is where the hub serves the commits of a task.
func sourcePath(t deltas.Task) string {
	if t.Build != 0 {
		return hubapi.BuildRepoPath(t.Build)
	}
	return hubapi.RepoPath(t.Repo)
}

// remoteWorker is a worker on another machine, with what its token grants.
func (s *server) remoteWorker(claims *auth.Claims, name string, accepts func(deltas.Task) bool) deltas.Worker {
	return deltas.Worker{
		Name: name, Owner: bearer(claims), TTL: deltaLease,
		Accepts: func(t deltas.Task) bool { return claims.AllowRepo(t.Repo) == nil && accepts(t) },
		Lost: func(l *deltas.Lease, why error) {
			s.log.Info("a worker lost the lease of a static delta", slog.String("worker", l.Worker), slog.String("repo", l.Task.Repo),
				slog.String("delta", l.Task.Name.Hex()), slog.Any("error", why))
			s.leaseEnded(l, leaseLost)
		},
	}
}

// leaseEnded counts the end of a worker's lease, and removes what came by it unless
// that is to be published.
func (s *server) leaseEnded(l *deltas.Lease, result string) {
	s.metrics.deltaLeases.WithLabelValues(l.Task.Repo, result).Inc()
	if result == leaseAccepted {
		return
	}
	if err := os.RemoveAll(s.makers[l.Task.Repo].folderOf(l)); err != nil {
		s.log.Warn("files of a static delta remain until the next start", slog.Any("error", err))
	}
}

// withLease lets a request through to next when its token may make deltas, and the
// lease of the path is still one, of a repository that the token grants.
func (s *server) withLease(next func(w http.ResponseWriter, r *http.Request, lease *deltas.Lease) error) handler {
	return s.with(deltaGrant(), func(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
		w.Header().Set("Cache-Control", "no-store")
		lease, err := s.deltas.Lease(r.PathValue("lease"))
		if err == nil {
			err = claims.AllowRepo(lease.Task.Repo)
		}
		if err != nil {
			return leaseProblem(err)
		}
		return leaseProblem(next(w, r, lease))
	})
}

// leaseProblem is what a worker is told of an error.
func leaseProblem(err error) error {
	if errors.Is(err, deltas.ErrLeaseLost) {
		return problem(hubapi.ErrNotFound, "the lease is over: it was not extended in time, the hub was restarted, or nobody wants the delta any more; ask for another one")
	}
	return tokenProblem(err)
}

// extendDelta extends a lease.
func (s *server) extendDelta(w http.ResponseWriter, r *http.Request, lease *deltas.Lease) error {
	var progress hubapi.DeltaProgress
	if err := readJSON(w, r, &progress, jsonBody); err != nil {
		return err
	}
	if err := lease.Extend(strings.ToValidUTF8(progress.Step[:min(len(progress.Step), maxStep)], "\uFFFD")); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, hubapi.DeltaExtended{Expires: int(deltaLease.Seconds())})
	return nil
}

// giveBackDelta ends a lease without a delta.
func (s *server) giveBackDelta(w http.ResponseWriter, r *http.Request, lease *deltas.Lease) error {
	var why hubapi.DeltaGivenBack
	if err := readJSON(w, r, &why, jsonBody); err != nil {
		return err
	}
	if err := s.giveBack(lease, why.Error); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

// giveBack ends a lease because the worker could not make the delta, or, without a
// cause, because it ends.
func (s *server) giveBack(lease *deltas.Lease, cause string) error {
	if lease.Judged() {
		return problem(hubapi.ErrConflict, "the delta was handed in")
	}
	var err error
	result := leaseReleased
	if cause == "" {
		err = lease.Release()
	} else {
		result = leaseFailed
		s.log.Warn("a worker cannot make a static delta", slog.String("worker", lease.Worker), slog.String("repo", lease.Task.Repo),
			slog.String("delta", lease.Task.Name.Hex()), slog.Int("attempt", lease.Attempt), slog.String("error", cause))
		err = lease.Fail(fmt.Errorf("%s: %s", lease.Worker, reason(errors.New(cause))), true)
	}
	if err == nil {
		s.leaseEnded(lease, result)
	}
	return err
}

// uploadDelta stores files of a delta.
func (s *server) uploadDelta(w http.ResponseWriter, r *http.Request, lease *deltas.Lease) error {
	sizes, err := s.receiveDelta(w, r, func(name ostree.DeltaName) (*deltas.Lease, error) {
		if name != lease.Task.Name {
			return nil, refuse("it is not of delta %s", lease.Task.Name)
		}
		return lease, nil
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, sizes)
	return nil
}

// receiveDelta stores the parts of a request, each in the folder of the lease that
// leaseOf finds.
func (s *server) receiveDelta(w http.ResponseWriter, r *http.Request, leaseOf func(ostree.DeltaName) (*deltas.Lease, error)) ([]int64, error) {
	return s.receive(w, r, func(_ context.Context, name string, content *partContent) (int64, error) {
		upload, err := ostree.ParseUploadName(name)
		if err != nil || upload.Delta == nil {
			return 0, refuse("is no name of a file of a delta")
		}
		lease, err := leaseOf(upload.Delta.Delta)
		if err != nil {
			return 0, err
		}
		if lease.Judged() {
			return 0, refuse("the delta was handed in")
		}
		return s.storeDeltaFile(lease, *upload.Delta, content)
	})
}

// storeDeltaFile stores a file of a delta in the folder of a lease. When the lease
// ends, the folder is removed, and that fails.
func (s *server) storeDeltaFile(lease *deltas.Lease, file ostree.DeltaFile, content io.Reader) (n int64, err error) {
	if err := lease.Extend("uploading"); err != nil {
		return 0, err
	}
	if err := s.takeRoom(lease, 0, 1); err != nil {
		return 0, err
	}
	dir := s.makers[lease.Task.Repo].folderOf(lease)
	name := "superblock"
	if file.Part >= 0 {
		name = strconv.Itoa(file.Part)
	}
	// Nothing gets into the folder while it is judged: what is published is what was
	// verified.
	var temp *os.File
	err = lease.Put(func() (err error) {
		temp, err = os.CreateTemp(dir, "upload-")
		return err
	})
	if err != nil {
		return 0, errors.Join(putError(err), s.takeRoom(lease, 0, -1))
	}
	counted := &roomy{lease: lease, take: s.takeRoom, r: &extending{content, lease, time.Now()}}
	n, err = io.Copy(temp, counted)
	if err = errors.Join(err, temp.Chmod(0o644), temp.Close()); err == nil {
		err = lease.Put(func() error { return s.settleDeltaFile(lease, temp.Name(), filepath.Join(dir, name)) })
	}
	if err != nil {
		_ = os.Remove(temp.Name()) // and else with the folder
		_ = s.takeRoom(lease, -counted.taken, -1)
	}
	return n, putError(err)
}

// settleDeltaFile gives a file its name, and the room of the one that had it back.
func (s *server) settleDeltaFile(lease *deltas.Lease, temp, path string) error {
	before, statErr := os.Stat(path)
	if err := os.Rename(temp, path); err != nil || statErr != nil {
		return err
	}
	return s.takeRoom(lease, -before.Size(), -1)
}

// putError is what the worker is told when a file is not taken.
func putError(err error) error {
	switch {
	case errors.Is(err, deltas.ErrJudged):
		return refuse("the delta was handed in")
	case errors.Is(err, fs.ErrNotExist):
		return deltas.ErrLeaseLost
	}
	return err
}

// extending extends a lease while something is read.
type extending struct {
	r     io.Reader
	lease *deltas.Lease
	last  time.Time
}

func (e *extending) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(e.last) > deltaLease/4 {
		e.last = now
		if err := e.lease.Extend("uploading"); err != nil {
			return 0, err
		}
	}
	return e.r.Read(p)
}

// takeRoom reserves room for more of a delta, which may have no more bytes than one
// upload.
func (s *server) takeRoom(lease *deltas.Lease, bytes int64, files int) error {
	err := lease.Room.Take(bytes, files, int64(s.cfg.Limits.UploadBody), ostree.MaxDeltaParts+1)
	if err != nil {
		return problem(hubapi.ErrTooLarge, "%s", err)
	}
	return nil
}

// roomy takes room for what is read, before anybody has it.
type roomy struct {
	r     io.Reader
	lease *deltas.Lease
	take  func(lease *deltas.Lease, bytes int64, files int) error
	taken int64
}

func (r *roomy) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		if err := r.take(r.lease, int64(n), 0); err != nil {
			return 0, err
		}
		r.taken += int64(n)
	}
	return n, err
}

// finishDelta verifies a delta that is uploaded, and queues it to be published.
// Whoever did not get the answer can ask again.
func (s *server) finishDelta(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
	var finished hubapi.DeltaFinished
	if err := readJSON(w, r, &finished, jsonBody); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	lease, err := s.deltas.Lease(r.PathValue("lease"))
	if err == nil {
		if err := claims.AllowRepo(lease.Task.Repo); err != nil {
			return tokenProblem(err)
		}
		err = s.judge(lease, finished.Seconds)
	} else if verdict, known := s.deltas.Verdict(r.PathValue("lease")); known {
		err = verdict
	}
	if err != nil {
		return leaseProblem(verdictProblem(err))
	}
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

// verdictProblem is what a worker is told of a delta that was not accepted.
func verdictProblem(err error) error {
	if deltas.Refused(err) {
		return problem(hubapi.ErrGeneric, "the delta was refused: %s", reason(err))
	}
	return err
}

// judge verifies what was uploaded, and ends the lease. Of several calls one judges,
// and counts the end when it is that of the lease.
func (s *server) judge(lease *deltas.Lease, seconds float64) error {
	result := ""
	err := lease.Judge(func(ctx context.Context) (deltas.Made, error) {
		made, err := s.verifyDelta(ctx, lease)
		made.Seconds = min(max(0, seconds), time.Since(lease.Since).Seconds())
		switch {
		case err == nil:
			result = leaseAccepted
		case deltas.Refused(err):
			result = leaseRefused
		default:
			result = leaseFailed
		}
		return made, err
	})
	if result != "" && !errors.Is(err, deltas.ErrLeaseLost) {
		s.leaseEnded(lease, result)
	}
	return err
}

// verifyDelta verifies what was uploaded.
func (s *server) verifyDelta(ctx context.Context, lease *deltas.Lease) (made deltas.Made, err error) {
	if err := s.verifiers.Acquire(ctx, 1); err != nil {
		return made, err
	}
	defer s.verifiers.Release(1)
	m := s.makers[lease.Task.Repo]
	source, err := m.sourceOf(lease.Task)
	if err != nil {
		return made, err
	}
	made.Dir = m.folderOf(lease)
	made.Report, err = deltas.Accept(ctx, source.Objects, lease.Task.Name, made.Dir)
	if err != nil {
		s.log.WarnContext(ctx, "a static delta of a worker is not accepted", slog.String("worker", lease.Worker), slog.String("repo", m.repo),
			slog.String("delta", lease.Task.Name.Hex()), slog.Any("error", err))
	}
	return made, err
}

// makesDeltas tells whether a request is that of a worker which makes a delta of a
// build, or with 0 of the repository: it may read what others need a token for.
func (s *server) makesDeltas(r *http.Request, repo string, build int64) bool {
	claims, err := s.authority.Authenticate(r.Context(), r.Header.Get("Authorization"))
	if err != nil || allow(claims, deltaGrant().sub, deltaGrant().scopes) != nil || claims.AllowRepo(repo) != nil {
		return false
	}
	role.Annotate(r, tokenAttr(claims))
	return slices.ContainsFunc(s.deltas.Status(), func(one deltas.Status) bool {
		return one.Making && one.Owner == bearer(claims) && one.Task.Repo == repo && one.Task.Build == build
	})
}

// listDeltaQueue answers with the deltas to make.
func (s *server) listDeltaQueue(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
	limit := listPage
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return problem(hubapi.ErrGeneric, "limit: %.40q makes no sense", text)
		}
		limit = min(n, maxListPage)
	}
	answer := hubapi.DeltaQueue{Deltas: []hubapi.QueuedDelta{}}
	for _, one := range s.deltas.Status() {
		if len(answer.Deltas) == limit {
			break
		}
		if claims.AllowRepo(one.Task.Repo) != nil || rights.Refused(rights.Refs(claims, one.Task.Ref)) {
			continue
		}
		answer.Deltas = append(answer.Deltas, hubapi.QueuedDelta{
			Repo: one.Task.Repo, Ref: one.Task.Ref, From: hexOf(one.Task.Name.From), To: one.Task.Name.To.String(), Build: one.Task.Build,
			Making: one.Making, Worker: one.Worker, Since: one.Since, Step: one.Step, Attempt: one.Attempt,
		})
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, answer)
	return nil
}
