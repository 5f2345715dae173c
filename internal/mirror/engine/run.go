package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/layout"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
	"freshet/internal/pause"
)

// run is one sync of one project.
type run struct {
	log      *slog.Logger
	p        *Project
	order    mirrorapi.Order
	report   mirrorapi.Report
	progress progress
	counts   counts
	stepped  time.Time // when the step that is under way began

	st   *generation.Staging
	base *generation.Generation // that is served
	live live

	up     *Upstream // of this sync, pinned
	pinned []*fetch.Pinned

	stamps       []string // the paths of Kind.Stamps
	serial       string   // of the archive, before everything else was read
	stamped      map[string][]byte
	repositories []kind.Repository
	parts        []*part
	wants        wants
	// keepOthers: what is served beside the repositories stays.
	keepOthers bool
	removed    amount
	came       bool  // something was fetched since the tree was listed
	lost       int64 // files that are served by the manifest, and are not there any more
	made       *generation.Generation
}

func newRun(log *slog.Logger, p *Project, order mirrorapi.Order) *run {
	now := time.Now().UTC()
	r := &run{log: log, p: p, order: order, stamps: p.Kind.Stamps()}
	r.report = mirrorapi.Report{Project: p.Name, Order: order, Began: now}
	r.progress.project, r.progress.began, r.progress.job = p.Name, now, &r.counts.job
	return r
}

// step begins a step; those before it in the same sync count together.
func (r *run) step(step mirrorapi.Step, files, bytes int64) {
	r.endStep()
	if !slices.ContainsFunc(r.report.Steps, func(s mirrorapi.StepTime) bool { return s.Step == step }) {
		r.report.Steps = append(r.report.Steps, mirrorapi.StepTime{Step: step})
	}
	r.progress.begin(step, files, bytes)
}

func (r *run) endStep() {
	now := time.Now()
	step := r.progress.now().Step
	for i := range r.report.Steps {
		if r.report.Steps[i].Step == step {
			r.report.Steps[i].Took += now.Sub(r.stepped)
		}
	}
	r.stepped = now
}

// maxWarnings bounds those of one report.
const maxWarnings = 50

func (r *run) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(r.report.Warnings) < maxWarnings && !slices.Contains(r.report.Warnings, text) {
		r.report.Warnings = append(r.report.Warnings, text)
	}
}

// errUnchanged ends a sync that finds nothing new.
var errUnchanged = errors.New("nothing new")

// sync does all steps. Without an error a generation was published.
func (r *run) sync(ctx context.Context) error {
	r.base = r.p.Store.Current()
	var st *generation.Staging
	err := r.withRoom(ctx, func() (err error) {
		st, err = r.p.Store.Stage(ctx)
		return err
	})
	if err != nil {
		return err
	}
	r.st, r.base = st, st.Base()
	if err := fetch.Tidy(ctx, st.Incoming()); err != nil {
		r.log.WarnContext(ctx, "tidy up behind transfers", slog.Any("error", err))
	}
	err = r.steps(ctx)
	end := st.Close
	if errors.Is(err, errUnchanged) {
		// Nothing that was fetched, by this sync or an interrupted one, is of use any more.
		end = func() error { return st.Abandon(ctx) }
	}
	if failed := end(); failed != nil {
		r.log.WarnContext(ctx, "end the staging", slog.Any("error", failed))
	}
	return err
}

// withRoom does something, and once more, behind what makes room, if the disk is full.
func (r *run) withRoom(ctx context.Context, do func() error) error {
	err := do()
	if !durable.IsNoSpace(err) {
		return err
	}
	if err := r.room(ctx, Need{First: r.isFirst()}); err != nil {
		return err
	}
	return do()
}

func (r *run) steps(ctx context.Context) error {
	r.live = live{st: r.st, base: r.base, progress: &r.progress, counts: &r.counts, popular: r.p.Popular, told: make(map[string]time.Time)}
	r.live.reset()
	r.step(mirrorapi.StepProbe, -1, -1)
	defer r.unpin()
	if err := r.withRoom(ctx, func() error { return r.pin(ctx) }); err != nil { // for a manifest
		return err
	}
	if err := r.readStamps(ctx); err != nil {
		return err
	}
	if same, err := r.probe(ctx); err != nil {
		return err
	} else if same && !r.order.Force {
		return errUnchanged
	}
	r.step(mirrorapi.StepList, -1, -1)
	// The indexes are small, and of no use on a disk that is too full for what they name.
	if err := r.room(ctx, Need{First: r.isFirst()}); err != nil {
		return err
	}
	if err := r.find(ctx); err != nil {
		return err
	}
	if err := r.rounds(ctx); err != nil {
		return err
	}
	return r.publish(ctx)
}

// readStamps reads the files that tell of when the upstream was, before all others:
// what is told by them is true of what is read after them.
func (r *run) readStamps(ctx context.Context) error {
	r.stamped = make(map[string][]byte)
	for _, name := range r.stamps {
		f, _, err := r.up.read(ctx, name, fetch.Validator{})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		}
		r.stamped[name] = f.Data
	}
	if r.p.Trace.Host != "" && r.p.Kind.Format() == kind.Deb {
		// Most archives besides Debian's have none.
		if f, _, err := r.up.read(ctx, kind.MasterTrace, fetch.Validator{}); err == nil {
			r.serial = kind.ArchiveSerial(f.Data)
		}
	}
	return ctx.Err()
}

// probe reports whether the upstream has nothing new, as far as a few small files tell.
func (r *run) probe(ctx context.Context) (same bool, err error) {
	if r.isFirst() {
		return false, nil
	}
	var served []kind.Repository
	for _, g := range r.base.Info().Repositories {
		if g.Pointer != "" {
			served = append(served, kind.Repository{Format: r.p.Kind.Format(), Root: g.Path, Pointer: g.Pointer})
		}
		if g.Held {
			return false, nil
		}
	}
	if r.isHere() {
		return true, nil
	}
	names, complete := r.p.Kind.Probe(served)
	same = complete && len(names) > 0
	for _, name := range names {
		changed, err := r.live.refresh(ctx, name)
		if err != nil {
			return false, err
		}
		if changed {
			return false, nil
		}
	}
	return same, nil
}

// rounds lists the parts and gets their files, until each of them is complete or held.
func (r *run) rounds(ctx context.Context) error {
	most := r.p.Rounds
	if most == 0 {
		most = 3
	}
	wait := r.p.Pause
	if wait == 0 {
		wait = 10 * time.Second
	}
	for round := 1; ; round++ {
		if err := r.round(ctx, round == most); err != nil {
			return err
		}
		pending := r.pending()
		if len(pending) == 0 {
			return nil
		}
		r.warn("%s: %s", pending[0].failed.reason, pending[0].failed)
		if round == most {
			break
		}
		r.step(mirrorapi.StepList, -1, -1)
		r.progress.say(fmt.Sprintf("again in %v: %s", wait, pending[0].failed.reason))
		if !pause.For(ctx, wait) {
			return context.Cause(ctx)
		}
		wait *= 2
		r.live.reset()
		if err := r.pin(ctx); err != nil {
			return err
		}
	}
	for _, p := range r.pending() {
		p.final = true
	}
	if err := r.holdFailed(ctx); err != nil {
		return err
	}
	return r.obtain(ctx)
}

// isLasting reports whether a failure to list a part is none that may be gone in a moment: the upstream
// does not give the file that it is about, or never had the repository.
func (r *run) isLasting(p *part, f *failure) bool {
	return r.live.denied[f.path] != nil || p.served == nil && f.path == p.repo.Pointer && errors.Is(f, fs.ErrNotExist)
}

// pending are the parts that are worth another round.
func (r *run) pending() []*part {
	var list []*part
	for _, p := range r.parts {
		if p.failed != nil && !p.final {
			list = append(list, p)
		}
	}
	return list
}

// round lists the parts that are not ready, and gets what they lack.
func (r *run) round(ctx context.Context, last bool) error {
	r.step(mirrorapi.StepList, -1, -1)
	again := r.pending()
	r.drop(again)
	for _, p := range r.parts {
		if p.listed && !slices.Contains(again, p) || p.held {
			continue
		}
		p.failed = nil
		if err := r.listPart(ctx, p); err != nil {
			failed := asFailure(err)
			if isAll(failed.reason) {
				return err
			}
			if why := r.live.denied[failed.path]; why != nil {
				failed = fail(failed.reason, failed.path, fmt.Errorf("the upstream does not give %s: %w", failed.path, why))
			}
			p.failed, p.final = failed, !isPassing(failed.reason) || r.isLasting(p, failed)
			r.drop([]*part{p})
		}
	}
	r.refuseNested()
	if err := r.holdFailed(ctx); err != nil {
		return err
	}
	r.markRead()
	if err := r.obtain(ctx); err != nil {
		return err
	}
	r.settle(last)
	return r.moved(ctx, last)
}

// refuseNested finds the parts that name files in what is a file or a link itself.
func (r *run) refuseNested() {
	var failed []*part
	folder := ""
	for g := range r.wants.All() {
		dir := path.Dir(g.Path)
		if dir == folder {
			continue
		}
		folder = dir
		for ; dir != "."; dir = path.Dir(dir) {
			above := r.wants.Find(dir)
			if above == nil {
				continue
			}
			for _, n := range slices.Concat(g.Parts, above.Parts) {
				if p := r.parts[n]; p.failed == nil && !p.held {
					p.failed = fail(mirrorapi.ReasonInconsistent, g.Path, fmt.Errorf("%s names %s, and %s, which can be no folder then", p.name(), g.Path, dir))
					failed = append(failed, p)
				}
			}
		}
	}
	r.drop(failed)
}

// moved lists a plain tree again if something of it has come: nothing else tells whether
// what came is of one version. What has changed is fetched in another round; a tree that is
// never still is published as it came.
func (r *run) moved(ctx context.Context, last bool) error {
	rest := r.parts[len(r.parts)-1]
	if r.p.Kind.Format() != kind.Plain || !r.came || r.first() != nil || rest.failed != nil || rest.held {
		return nil
	}
	r.came = false
	r.step(mirrorapi.StepList, -1, -1)
	changed, example := 0, ""
	for f, err := range r.p.Kind.Rest(ctx, r.besideTree(), r.repositories, nil) {
		if err != nil {
			return err
		}
		if slices.Contains(r.stamps, f.Path) || !canHave(f) {
			continue // not on the list
		}
		if g := r.wants.Find(f.Path); g != nil && g.Size == f.Size && g.Link == f.Link && (g.ModTime.IsZero() || g.ModTime.Equal(f.ModTime)) {
			continue
		}
		if changed++; changed == 1 {
			example = f.Path
		}
	}
	switch {
	case changed == 0:
	case last:
		r.warn("%s: %d files were changed at the upstream while they were fetched, %s among them: what is served may be of several versions",
			mirrorapi.ReasonInconsistent, changed, example)
	default:
		rest.failed = fail(mirrorapi.ReasonInconsistent, example, fmt.Errorf("%d files were changed at the upstream while they were fetched, %s among them", changed, example))
	}
	return nil
}

// markRead marks the files that came when the metadata was read, or did not.
func (r *run) markRead() {
	for g := range r.wants.All() {
		if g.State() != 0 || g.Class == layout.Payload || !r.isOpen(g) {
			continue
		}
		switch there, asked := r.live.asked[g.Path]; {
		case !asked:
		case r.live.denied[g.Path] != nil:
			g.Mark(denied)
		case r.live.faults[g.Path] != nil:
			g.Mark(wrong)
		case there:
			g.Mark(staged)
		default:
			g.Mark(absent)
		}
	}
}

// isOpen reports whether a file is that of a part as the upstream has it.
func (r *run) isOpen(g *group) bool {
	return slices.ContainsFunc(g.Parts, func(n uint16) bool { return !r.parts[n].held })
}

// drop takes the files of parts off the list.
func (r *run) drop(parts []*part) {
	if len(parts) == 0 {
		return
	}
	gone := make(map[uint16]bool)
	for _, p := range parts {
		gone[p.number] = true
	}
	r.wants.Drop(func(n uint16) bool { return gone[n] })
}

// holdFailed holds the parts for which there is no hope in this sync.
func (r *run) holdFailed(ctx context.Context) error {
	for _, p := range r.parts {
		if p.failed == nil || !p.final || p.held {
			continue
		}
		r.drop([]*part{p})
		if err := r.hold(ctx, p); err != nil {
			return err
		}
		r.log.WarnContext(ctx, "a repository stays as it is", slog.String("repository", p.name()),
			slog.String("reason", string(p.failed.reason)), slog.Any("error", p.failed))
	}
	return nil
}

// settle finds the parts that lack something. What is optional and is there, but not as
// it should be, is a sign of an upstream that is being written to; at last it is left out.
func (r *run) settle(last bool) {
	for g := range r.wants.All() {
		if g.Conflict {
			g.Mark(0) // whatever is there now is not what each of them wants
		}
		state := g.State()
		if state&staged != 0 || g.Optional && (last || state&wrong == 0 && !g.Conflict) {
			continue
		}
		for _, n := range g.Parts {
			if p := r.parts[n]; p.failed == nil && !p.held {
				p.failed = fail(mirrorapi.ReasonInconsistent, g.Path, fmt.Errorf("%s names %s, which the upstream %s", p.name(), g.Path, lacks(g)))
			}
		}
	}
}

func lacks(g *group) string {
	switch {
	case g.Conflict:
		return "describes in two ways"
	case g.State()&wrong != 0:
		return "has with another size or checksum"
	case g.State()&denied != 0:
		return "does not give"
	}
	return "does not have"
}
