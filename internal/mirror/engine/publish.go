package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
)

// publish makes what is staged the generation that is served.
func (r *run) publish(ctx context.Context) error {
	if err := r.adopt(ctx); err != nil {
		return err
	}
	r.step(mirrorapi.StepCheck, -1, -1)
	if err := r.judge(); err != nil {
		return err // what was fetched is there for the next sync
	}
	if err := r.stillThere(ctx); err != nil {
		return err
	}
	if err := r.prune(ctx); err != nil {
		return err
	}
	r.step(mirrorapi.StepSwitch, -1, -1)
	g, err := r.st.Commit(ctx, r.meta())
	if g == nil {
		return err
	}
	if err != nil {
		r.warn("after the switch: %v", err)
	}
	r.made = g
	r.step(mirrorapi.StepTell, -1, -1)
	r.stamp()
	if r.p.Done != nil {
		r.p.Done(ctx, g)
	}
	return nil
}

// adopt puts on the list what stays beside the repositories because it could not be found out what
// else there is.
func (r *run) adopt(ctx context.Context) error {
	if !r.keepOthers || r.base == nil {
		return nil
	}
	var others []kind.File
	for f, err := range r.p.Kind.Rest(ctx, r.baseTree(), r.repositories, nil) {
		if err != nil {
			return err
		}
		if r.wants.Find(f.Path) == nil {
			others = append(others, f)
		}
	}
	for _, f := range others {
		if err := r.want(r.parts[len(r.parts)-1], f); err != nil {
			return err
		}
	}
	return r.link(ctx)
}

// nothing says why there is nothing to publish.
func (r *run) nothing() error {
	for _, p := range r.parts {
		if p.failed != nil {
			return p.failed
		}
	}
	if r.base == nil {
		return fail(mirrorapi.ReasonInconsistent, "", errors.New("the upstream lists nothing that is wanted: see upstreams, include and exclude of the project"))
	}
	return errUnchanged
}

// chosen yields the files in the staging tree that are to be in the generation, or, if
// not, the others: what is not on the list, most often as the new version of a repository
// that is held, or is optional and was not to be had.
func (r *run) chosen(is bool) iter.Seq2[generation.File, error] {
	return func(yield func(generation.File, error) bool) {
		for pair, err := range r.beside(r.st.Files()) {
			if err != nil {
				yield(generation.File{}, err)
				return
			}
			wanted := pair.Right != nil && (*pair.Right).State()&staged != 0
			if wanted {
				err = isWhat(pair.Left, *pair.Right)
			}
			if err != nil {
				yield(generation.File{}, err)
				return
			}
			if pair.Left != nil && wanted == is && !yield(*pair.Left, nil) {
				return
			}
		}
	}
}

// isWhat is an error if what is staged is not what was found to be wanted, which would be a
// fault of this program: then nothing is published, for clients would miss files.
func isWhat(have *generation.File, g *group) error {
	sum, known := g.Sum.SHA256()
	switch {
	case have == nil:
		return fail(mirrorapi.ReasonInternal, g.Path, fmt.Errorf("%s is gone from the staging tree", g.Path))
	case g.Conflict, have.Link != g.Link, known && sum != have.SHA256:
		return fail(mirrorapi.ReasonInternal, g.Path, fmt.Errorf("%s in the staging tree is not the file that is wanted", g.Path))
	}
	return nil
}

// prune takes out of the staging tree what is not to be in the generation.
func (r *run) prune(ctx context.Context) error {
	var others []generation.File
	for f, err := range r.chosen(false) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		others = append(others, f)
	}
	for _, f := range others {
		if err := r.st.SetAside(f); err != nil {
			return err
		}
	}
	return nil
}

// judge compares what the generation is going to have with what is served: there must be
// something new, and not too little left.
func (r *run) judge() error {
	var files, bytes, added int64
	for pair, err := range generation.Join(r.base.Files(), r.chosen(true), generation.PathOf, generation.PathOf) {
		if err != nil {
			return err
		}
		if pair.Right == nil {
			r.removed.add(pair.Left.Size)
			continue
		}
		files++
		bytes += pair.Right.Size
		if pair.Left == nil || *pair.Left != *pair.Right {
			added++
		}
	}
	if added == 0 && r.removed.Files == 0 && r.lost == 0 {
		return r.nothing()
	}
	if !r.guards() {
		return nil
	}
	before := r.base.Info()
	return r.shrunk("the project", files, bytes, before.Files+before.Links, before.Bytes)
}

// stillThere looks whether the upstream has changed meanwhile. What was read is complete
// and belongs together all the same, as its own metadata tell; but of files of which
// nothing is told, nobody knows.
func (r *run) stillThere(ctx context.Context) error {
	if r.first() != nil {
		return ctx.Err() // a generation does not change
	}
	for _, p := range r.parts {
		if p.rest || p.held {
			continue
		}
		f, err := r.st.Open(p.repo.Pointer)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			var now fetch.File
			now, _, err = r.up.read(ctx, p.repo.Pointer, fetch.Validator{Size: info.Size(), ModTime: info.ModTime()})
			if err == nil && !now.Same && !hasContent(f, now.Data) {
				r.warn("the upstream has published a new %s meanwhile: sync again", p.repo.Pointer)
			}
		}
		_ = f.Close()
		if err != nil {
			r.warn("%s could not be read again: %v", p.repo.Pointer, err)
		}
	}
	return ctx.Err()
}

// meta describes the generation.
func (r *run) meta() generation.Meta {
	m := generation.Meta{Reason: string(r.order.Cause), Selection: r.p.Selection, Upstream: r.takenOver()}
	if r.order.By != "" {
		m.Reason += " by " + r.order.By
	}
	for _, p := range r.parts {
		switch {
		case p.held && p.served == nil:
			continue
		case p.held:
			g := *p.served
			g.Held = true
			m.Repositories = append(m.Repositories, g)
		default:
			m.Repositories = append(m.Repositories, generation.Repository{
				Path: p.folder(), Pointer: p.repo.Pointer, SHA256: p.version.SHA256, Version: p.version.Name,
				Time: markTime(p.version.Mark, p.version.MarkOf), Files: p.files, Bytes: p.bytes,
			})
		}
	}
	m.Notes = r.report.Warnings
	return m
}

// markTime is the time of a mark, if it is one.
func markTime(mark int64, of string) time.Time {
	if mark <= 0 || of == "revision" {
		return time.Time{}
	}
	return time.Unix(mark, 0).UTC()
}

// stamp writes the files that tell how fresh the mirror is. Nothing depends on them.
func (r *run) stamp() {
	for _, name := range r.stamps {
		if data, ok := r.stamped[name]; ok {
			r.writeStamp(name, data)
		}
	}
	if r.p.Trace.Host == "" {
		return
	}
	t := r.p.Trace
	t.Began, t.Ended, t.Bytes = r.report.Began, time.Now().UTC(), r.progress.all()
	t.Serial, t.Trigger = r.serial, string(r.order.Cause)
	if r.order.By != "" {
		t.Trigger += " (" + r.order.By + ")"
	}
	if from, err := url.Parse(r.report.Upstream); err == nil && from.Hostname() != "" {
		t.Upstream, t.Rsync = from.Hostname(), from.Scheme == "rsync"
	}
	if r.p.Kind.Format() == kind.Deb {
		t.Architectures = r.architectures()
	}
	if name, content := r.p.Kind.Trace(t); name != "" {
		r.writeStamp(name, content)
	}
}

// architectures are those of which the generation that is served has indexes.
func (r *run) architectures() []string {
	g := r.base
	if r.made != nil {
		g = r.made
	}
	if g == nil {
		return nil
	}
	if id := g.ID(); r.p.traced.generation != id {
		found := make(map[string]bool)
		for f, err := range g.Files() {
			if err != nil {
				return nil // nothing depends on it
			}
			if arch := kind.ArchitectureOf(f.Path); arch != "" {
				found[arch] = true
			}
		}
		r.p.traced = traced{id, slices.Sorted(maps.Keys(found))}
	}
	return r.p.traced.architectures
}

// traced are the architectures of a generation.
type traced struct {
	generation    string
	architectures []string
}

func (r *run) writeStamp(name string, data []byte) {
	if err := r.p.Store.Stamp(name, data); err != nil {
		r.warn("%v", err)
	}
}

// finish completes the report.
func (r *run) finish(ctx context.Context, err error) {
	r.endStep()
	r.report.Ended = time.Now().UTC()
	r.counts.tell(&r.report)
	r.report.Removed = mirrorapi.Amount(r.removed)
	r.tellParts()
	served := r.base
	if r.made != nil {
		served = r.made
		if r.base != nil {
			r.report.Previous = r.base.ID()
		}
	}
	if served != nil {
		info := served.Info()
		r.report.Generation, r.report.Files, r.report.Bytes = info.ID, info.Files+info.Links, info.Bytes
	}
	r.outcome(ctx, err)
}

func (r *run) outcome(ctx context.Context, err error) {
	switch {
	case err == nil:
		r.report.Result = mirrorapi.Published
		return
	case errors.Is(err, errUnchanged):
		r.report.Result = mirrorapi.Unchanged
		r.stamp()
		return
	}
	failed := asFailure(err)
	if cause := context.Cause(ctx); cause != nil {
		failed = ended(cause, failed)
	}
	r.report.Result = mirrorapi.Failed
	switch {
	case failed.reason == mirrorapi.ReasonCanceled:
		r.report.Result = mirrorapi.Canceled
	case isRefusal(failed.reason):
		r.report.Result = mirrorapi.Refused
	}
	r.report.Reason, r.report.Message, r.report.Path = failed.reason, failed.Error(), failed.path
}

// ended is the failure of a sync whose context has ended, whatever it was at.
func ended(cause error, at *failure) *failure {
	reason := mirrorapi.ReasonCanceled
	if errors.Is(cause, context.DeadlineExceeded) {
		reason = mirrorapi.ReasonTimeout
	}
	err := at.err
	if !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return fail(reason, at.path, err)
}

// tellParts puts the repositories into the report.
func (r *run) tellParts() {
	for _, p := range r.parts {
		if p.rest && p.failed == nil {
			continue
		}
		told := mirrorapi.Repository{Path: p.folder(), Pointer: p.repo.Pointer, SHA256: p.version.SHA256, Held: p.held}
		if p.rest {
			told.Path = p.name()
		}
		if p.version.Mark != 0 {
			told.Mark = strconv.FormatInt(p.version.Mark, 10)
		}
		if p.held && p.served != nil {
			told.SHA256, told.Mark = p.served.SHA256, ""
		}
		if p.failed != nil {
			told.Reason, told.Message = p.failed.reason, p.failed.Error()
		}
		r.report.Repositories = append(r.report.Repositories, told)
	}
}
