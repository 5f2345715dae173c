package deltaworker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
	"freshet/internal/pause"
)

const (
	// uploadBatch is about how many bytes one upload request has.
	uploadBatch = 64 << 20
	// goodbye bounds how long giving back takes when the worker ends.
	goodbye = 5 * time.Second
)

// errLost says that the hub no longer waits for the delta.
var errLost = errors.New("the lease is over")

// task is a delta under way.
type task struct {
	*worker
	lease *hubapi.DeltaLease
	name  ostree.DeltaName
	step  atomic.Pointer[string]
	log   *slog.Logger
}

// serve makes the delta of a lease and hands it in, or gives it back.
func (w *worker) serve(ctx context.Context, lease *hubapi.DeltaLease) error {
	t := &task{worker: w, lease: lease}
	t.log = w.log.With(slog.String("repo", lease.Repo), slog.String("ref", lease.Ref), slog.String("from", lease.From), slog.String("to", lease.To))
	t.at("beginning")
	w.metrics.busy.Inc()
	defer w.metrics.busy.Dec()
	defer w.cache.begin()()
	live, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); t.keep(live, cancel) }()
	err := t.run(live)
	cancel(nil)
	<-ended
	result := "accepted"
	switch {
	case err == nil:
	case errors.Is(err, errLost) || errors.Is(context.Cause(live), errLost):
		result, err = "lost", errLost
		t.log.WarnContext(ctx, "the hub no longer waits for this delta")
	case ctx.Err() != nil:
		result = "released"
		t.giveBack(ctx, "")
	case refused(err):
		result = "refused"
		t.log.ErrorContext(ctx, "the hub refused a delta", slog.Any("error", err))
	default:
		result = "failed"
		t.log.ErrorContext(ctx, "cannot make a delta", slog.Any("error", err))
		t.giveBack(ctx, err.Error())
	}
	w.metrics.deltas.WithLabelValues(result).Inc()
	if shrinkErr := w.cache.shrink(); shrinkErr != nil {
		w.log.WarnContext(ctx, "cannot make room in the cache", slog.Any("error", shrinkErr))
	}
	if result == "lost" {
		return nil // ask for another one at once
	}
	return err
}

// refused tells whether the hub has ended the lease with its answer.
func refused(err error) bool {
	e, ok := errors.AsType[*handInError](err)
	return ok && !hubapi.Retryable(e.err)
}

// handInError is the hub's verdict on a delta.
type handInError struct{ err error }

func (e *handInError) Error() string { return e.err.Error() }
func (e *handInError) Unwrap() error { return e.err }

// at says what is done now, for the hub.
func (t *task) at(format string, args ...any) {
	step := fmt.Sprintf(format, args...)
	t.step.Store(&step)
}

// keep extends the lease until ctx ends, and ends the work when it is over.
func (t *task) keep(ctx context.Context, cancel context.CancelCauseFunc) {
	client := *t.cfg.Client
	client.RetryFor = -1 // the next time is soon
	expires := time.Duration(max(3, t.lease.Expires)) * time.Second
	for pause.For(ctx, expires/3) {
		extended, err := client.ExtendDelta(ctx, t.lease.Lease, hubapi.DeltaProgress{Step: *t.step.Load()})
		if e, ok := errors.AsType[*hubapi.Error](err); ok && e.Kind == hubapi.ErrNotFound && !foreign(err) {
			cancel(errLost)
			return
		}
		if err == nil && extended.Expires > 0 {
			expires = time.Duration(max(3, extended.Expires)) * time.Second
		}
	}
}

// foreign tells whether an answer is not the hub's, but of something before it.
func foreign(err error) bool {
	_, ok := errors.AsType[*hubapi.ForeignError](err)
	return ok
}

// run makes the delta and hands it in.
func (t *task) run(ctx context.Context) (err error) {
	if t.name, err = nameOf(t.lease); err != nil {
		return err
	}
	begin := time.Now()
	dir := t.path("made", t.lease.Repo+"."+t.name.String())
	if _, err := os.Stat(filepath.Join(dir, "superblock")); err != nil {
		if err := t.make(ctx, dir); err != nil {
			return err
		}
	}
	made := time.Since(begin)
	size, err := t.upload(ctx, dir)
	if err != nil {
		return err
	}
	t.at("being verified")
	err = t.cfg.Client.FinishDelta(ctx, t.lease.Lease, hubapi.DeltaFinished{Seconds: made.Seconds()})
	if e, ok := errors.AsType[*hubapi.Error](err); ok && e.Kind == hubapi.ErrNotFound && !foreign(err) {
		return errLost
	}
	if err != nil && hubapi.Retryable(err) {
		return err
	}
	if removeErr := os.RemoveAll(dir); removeErr != nil {
		t.log.WarnContext(ctx, "files of a delta remain", slog.Any("error", removeErr))
	}
	if err != nil {
		return &handInError{err}
	}
	t.metrics.seconds.Observe(made.Seconds())
	t.log.InfoContext(ctx, "delta made", slog.Int64("bytes", size), slog.Duration("in", made.Round(time.Millisecond)),
		slog.Duration("and_uploaded_in", time.Since(begin)-made))
	return nil
}

func nameOf(lease *hubapi.DeltaLease) (name ostree.DeltaName, err error) {
	if name.To, err = ostree.ParseChecksum(lease.To); err == nil && lease.From != "" {
		name.From, err = ostree.ParseChecksum(lease.From)
	}
	if err == nil && (strings.ContainsAny(lease.Repo, `/\`) || strings.HasPrefix(lease.Repo, ".") || !strings.HasPrefix(lease.Path, "/")) {
		err = fmt.Errorf("repository %q at %q", lease.Repo, lease.Path)
	}
	if err != nil {
		return name, fmt.Errorf("the lease makes no sense: %w", err)
	}
	return name, nil
}

// make makes the delta in the folder dir, which appears when it is complete.
func (t *task) make(ctx context.Context, dir string) error {
	engine := t.cfg.Engines[t.lease.Engine]
	if engine == nil {
		return fmt.Errorf("there is no engine %q here", t.lease.Engine)
	}
	for _, commit := range [...]ostree.Checksum{t.name.From, t.name.To} {
		if commit.IsZero() {
			continue
		}
		t.at("fetching commit %.10s…", commit)
		begin := time.Now()
		n, err := t.cache.pull(ctx, t.lease.Path, commit)
		if err != nil {
			return err
		}
		if n > 0 {
			t.log.InfoContext(ctx, "commit fetched", slog.String("commit", commit.String()), slog.Int64("objects", n),
				slog.Duration("in", time.Since(begin).Round(time.Millisecond)))
		}
	}
	t.at("making it")
	work, err := os.MkdirTemp(t.path("work"), "delta-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // cleared at the next start
	source := deltas.Source{Objects: t.cache.repo, Dir: t.cache.dir}
	if _, err := engine.Make(ctx, source, t.name, work); err != nil {
		return t.damaged(err)
	}
	if err := noFolder(os.RemoveAll(dir)); err != nil {
		return err
	}
	return os.Rename(work, dir)
}

// damaged forgets an object that is no longer what it was when it came, so that the
// next attempt fetches it.
func (t *task) damaged(err error) error {
	if mismatch, ok := errors.AsType[*ostree.MismatchError](err); ok {
		return errors.Join(err, noFolder(t.cache.forget(mismatch.Name)))
	}
	if object, ok := errors.AsType[*ostree.ObjectError](err); ok {
		return errors.Join(err, noFolder(t.cache.forget(object.Name)))
	}
	return err
}

// upload sends the files, the head last.
func (t *task) upload(ctx context.Context, dir string) (total int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var all []hubapi.Part
	for _, entry := range entries { // "0", "1", …, "superblock"
		info, err := entry.Info()
		if err != nil {
			return 0, err
		}
		total += info.Size()
		name := t.name.String() + "." + entry.Name() + ".delta"
		all = append(all, hubapi.FilePart(name, filepath.Join(dir, entry.Name()), info.Size()))
	}
	var sent int64
	for len(all) > 0 {
		t.at("uploading, %d %% of %d bytes done", sent*100/max(1, total), total)
		n, batch := 0, int64(0)
		for n < len(all) && (n == 0 || batch+all[n].Size <= uploadBatch) {
			batch += all[n].Size
			n++
		}
		if err := t.cfg.Client.UploadDelta(ctx, t.lease.Lease, all[:n]); err != nil {
			return total, err
		}
		t.metrics.uploaded.Add(float64(batch))
		sent += batch
		all = all[n:]
	}
	return total, nil
}

// giveBack lets somebody else have the delta at once. If the hub does not hear it,
// the lease expires.
func (t *task) giveBack(ctx context.Context, cause string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	client := *t.cfg.Client
	client.RetryFor = -1
	if err := client.GiveBackDelta(ctx, t.lease.Lease, hubapi.DeltaGivenBack{Error: cause}); err != nil {
		t.log.WarnContext(ctx, "the hub does not take a delta back; it will find out", slog.Any("error", err))
	}
}
