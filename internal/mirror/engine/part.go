package engine

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/closure"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
	"freshet/internal/pause"
)

// part is what is listed and published as a whole: a repository, or what lies in the tree
// beside the repositories.
type part struct {
	number uint16
	repo   kind.Repository
	rest   bool
	// served is what the generation that is served says of it, nil if it is not there.
	served *generation.Repository

	version kind.Version
	left    kind.Left
	files   int64 // with those that several indexes name counted several times
	bytes   int64
	listed  bool
	// failed is why it is not ready; it may be tried again if final is false.
	failed *failure
	final  bool
	// held says that it stays as it is served.
	held bool
}

// name is how it is called in reports and logs.
func (p *part) name() string {
	if p.rest {
		return "(beside the repositories)"
	}
	return p.repo.Pointer
}

// folder is the folder of the repository, "" for the root.
func (p *part) folder() string { return strings.TrimPrefix(path.Clean(p.repo.Root), ".") }

// isNew reports whether it is another version than the one that is served, and not held.
func (p *part) isNew() bool {
	return !p.held && (p.rest || p.served == nil || p.served.Held || p.served.SHA256 != p.version.SHA256)
}

// isStaged reports whether the staging tree has, or gets, the version that will be published.
func (p *part) isStaged() bool { return p.held && p.served != nil || p.listed && p.failed == nil }

// maxParts is how many a project may have.
const maxParts = 1 << 16

// find finds the parts of the project at the upstream.
func (r *run) find(ctx context.Context) error {
	list, err := r.p.Kind.Repositories(ctx, r.live.tree())
	if err != nil {
		return err
	}
	if list, err = r.findGone(ctx, list); err != nil {
		return err
	}
	if len(list) == 0 && r.isFirst() { // later it is a project that shrinks
		if err := r.p.Kind.NoneFound(); err != nil {
			return fail(mirrorapi.ReasonInconsistent, "", err)
		}
	}
	if len(list) >= maxParts {
		return fmt.Errorf("%d repositories, which are too many", len(list))
	}
	r.parts = r.parts[:0]
	for _, repo := range list {
		r.parts = append(r.parts, &part{number: uint16(len(r.parts)), repo: repo, served: r.servedAt(repo.Pointer)})
	}
	r.parts = append(r.parts, &part{number: uint16(len(r.parts)), rest: true, served: r.servedAt("")})
	r.repositories = list
	if r.base != nil {
		const room = 1000 // for what is new; more costs a copy
		r.wants.Grow(int(r.base.Info().Files) + room)
	}
	return nil
}

// findGone looks again, twice and with pauses, when a repository that is served is not found any more: tools
// that make metadata move the old ones away before the new ones are there. One that stays away is gone.
func (r *run) findGone(ctx context.Context, list []kind.Repository) ([]kind.Repository, error) {
	if r.isFirst() || r.first() != nil { // a generation does not change
		return list, nil
	}
	wait := cmp.Or(r.p.Pause, 10*time.Second)
	for tries := 2; ; tries-- {
		gone := r.gone(list)
		if len(gone) == 0 {
			return list, nil
		}
		if tries == 0 {
			for _, pointer := range gone {
				r.warn("%s is not there any more, and not served from now on", pointer)
			}
			return list, nil
		}
		r.progress.say(fmt.Sprintf("again in %v: %s is not there", wait, gone[0]))
		if !pause.For(ctx, wait) {
			return nil, context.Cause(ctx)
		}
		wait *= 2
		var err error
		if list, err = r.p.Kind.Repositories(ctx, r.live.tree()); err != nil {
			return nil, err
		}
	}
}

// gone are the pointers of what is served that are not on the list, which is sorted.
func (r *run) gone(list []kind.Repository) []string {
	var gone []string
	for _, g := range r.base.Info().Repositories {
		_, ok := slices.BinarySearchFunc(list, g.Pointer, func(k kind.Repository, pointer string) int { return strings.Compare(k.Pointer, pointer) })
		if !ok && g.Pointer != "" {
			gone = append(gone, g.Pointer)
		}
	}
	return gone
}

// servedAt is what the generation that is served has of a repository; that without a
// pointer is the rest.
func (r *run) servedAt(pointer string) *generation.Repository {
	if r.base == nil {
		return nil
	}
	list := r.base.Info().Repositories
	i := slices.IndexFunc(list, func(g generation.Repository) bool { return g.Pointer == pointer })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// list lists a part as the upstream has it.
func (r *run) listPart(ctx context.Context, p *part) error {
	p.files, p.bytes, p.left, p.listed = 0, 0, kind.Left{}, false
	r.live.expected = nil
	files := r.p.Kind.Rest(ctx, r.besideTree(), r.repositories, &p.left)
	if !p.rest {
		r.progress.say(p.repo.Pointer)
		version, err := r.p.Kind.Version(ctx, r.live.open, p.repo)
		if err != nil && p.served == nil {
			return kind.Missing(p.repo, err)
		}
		if err != nil {
			return err
		}
		p.version = r.asTold(p, version)
		if err := version.Valid(time.Now()); err != nil {
			return err
		}
		if err := r.follows(ctx, p); err != nil {
			return err
		}
		files = r.p.Kind.Files(ctx, r.live.tree(), p.repo, &p.left)
	}
	for f, err := range files {
		if err != nil {
			return err
		}
		r.live.expect(f)
		if err := r.want(p, f); err != nil {
			return err
		}
	}
	p.listed = true
	return r.guardPart(p)
}

// canHave reports whether a file can be on the list, by its path and link.
func canHave(f kind.File) bool {
	return generation.CheckPath(f.Path) == nil && len(f.Link) < maxName
}

// want puts a file of a part on the list. The error is that there is no end of them.
func (r *run) want(p *part, f kind.File) error {
	if slices.Contains(r.stamps, f.Path) {
		return nil
	}
	if !canHave(f) {
		r.warn("left out: %.200q is no path that a file can have", f.Path)
		return nil
	}
	if r.wants.IsFull() {
		return fail(mirrorapi.ReasonMetadata, "", fmt.Errorf("with %s there are more files than a mirror can have: more than %d, or %d bytes of names", p.name(), maxWants, maxWantBytes))
	}
	r.wants.Add(want{
		Path: f.Path, Size: f.Size, Sum: f.Sum, ModTime: f.ModTime, Class: f.Class,
		Optional: f.Optional, Link: f.Link, Part: p.number,
	})
	p.files++
	p.bytes += max(f.Size, 0)
	return nil
}

// follows refuses a version that is older than the one that is served.
func (r *run) follows(ctx context.Context, p *part) error {
	if p.served == nil || r.order.Rollback {
		return nil
	}
	before, err := r.p.Kind.Version(ctx, r.baseTree().Open, p.repo)
	if err != nil {
		// Keys may have changed since it was published. It is not for this to judge.
		r.log.InfoContext(ctx, "the version that is served cannot be compared with", slog.String("repository", p.name()), slog.Any("error", err))
		return nil
	}
	if before.MarkOf == "mtime" && !p.served.Time.IsZero() {
		before.Mark = p.served.Time.Unix() // that of the file may be later: see live.place
	}
	return p.version.Follows(before)
}

// asTold is a version with the time that the upstream tells of its pointer.
func (r *run) asTold(p *part, v kind.Version) kind.Version {
	if v.MarkOf != "mtime" {
		return v
	}
	told, ok := r.live.told[p.repo.Pointer]
	if !ok && p.served != nil && p.served.SHA256 == v.SHA256 {
		told, ok = p.served.Time, !p.served.Time.IsZero()
	}
	if ok {
		v.Mark = max(told.Unix(), 0)
	}
	return v
}

// besideTree is the upstream to whoever lists what lies beside the repositories. Pointers of
// repositories that are ready, or held, are those of the staging tree: read from the upstream
// they would take their place there.
func (r *run) besideTree() kind.Tree {
	t := r.live.tree()
	t.Open = func(ctx context.Context, name string) (fs.File, error) {
		i := slices.IndexFunc(r.parts, func(p *part) bool { return p.repo.Pointer == name })
		if i >= 0 && r.parts[i].isStaged() {
			return r.st.Open(name)
		}
		return r.live.open(ctx, name)
	}
	return t
}

// guardPart refuses a version that lacks too much of what is served.
func (r *run) guardPart(p *part) error {
	if p.served == nil || !r.guards() {
		return nil
	}
	return r.shrunk(p.name(), p.files, p.bytes, p.served.Files, p.served.Bytes)
}

// guards reports whether what is gone counts: an operator can say that it does not, and
// what is not wanted any more is not lost.
func (r *run) guards() bool {
	return !r.order.Shrink && r.base != nil && r.base.Info().Selection == r.p.Selection
}

// shrunk is an error if too much of what there was is gone.
func (r *run) shrunk(what string, files, bytes, filesBefore, bytesBefore int64) error {
	most := r.p.maxShrink()
	gone := func(now, before int64) float64 { return float64(before-now) * 100 / float64(max(before, 1)) }
	lost := max(gone(files, filesBefore), gone(bytes, bytesBefore))
	if lost <= float64(most) {
		return nil
	}
	return fail(mirrorapi.ReasonShrink, "", fmt.Errorf(
		"%s has lost %.3g%% (%d files with %d bytes, before %d with %d), more than %d%%: if that is right, sync it once with --shrink",
		what, lost, files, bytes, filesBefore, bytesBefore, most))
}

// baseTree is the tree of the generation that is served.
func (r *run) baseTree() kind.Tree {
	list := func(context.Context) iter.Seq2[kind.File, error] {
		return func(yield func(kind.File, error) bool) {
			for f, err := range r.base.Files() {
				is := kind.File{File: closure.File{Path: f.Path, Size: f.Size}, ModTime: f.ModTime, Link: f.Link}
				if !f.IsLink() {
					is.Sum = sumOf(f.SHA256)
				}
				if !yield(is, err) {
					return
				}
			}
		}
	}
	return kind.Tree{Open: func(_ context.Context, name string) (fs.File, error) { return r.base.Open(name) }, List: list}
}

// hold keeps a part as it is served: the files of that version take the place of those of
// the new one. One that is not served is left out.
func (r *run) hold(ctx context.Context, p *part) error {
	p.held = true
	p.files, p.bytes = 0, 0
	if p.served == nil || p.rest {
		// What lies beside the repositories stays: see run.adopt.
		r.keepOthers = r.keepOthers || p.rest
		return nil
	}
	for f, err := range r.p.Kind.Files(ctx, r.baseTree(), p.repo, nil) {
		if err != nil {
			return fmt.Errorf("%s, as it is served: %w", p.name(), err)
		}
		if err := r.want(p, f); err != nil {
			return err
		}
	}
	return nil
}
