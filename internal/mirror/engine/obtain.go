package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/closure"
	"freshet/internal/layout"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
)

// obtain brings all that is on the list into the staging tree, as far as it can be had.
// If the list is what is served, nothing is done but told: errUnchanged.
func (r *run) obtain(ctx context.Context) error {
	changes, err := r.compare()
	if err != nil {
		return err
	}
	if changes.none() && !r.failedParts() {
		return r.nothing()
	}
	r.step(mirrorapi.StepLink, int64(r.wants.Len()), changes.total)
	if err := r.link(ctx); err != nil {
		return err
	}
	return r.fetchMissing(ctx)
}

func (r *run) failedParts() bool {
	for _, p := range r.parts {
		if p.failed != nil {
			return true
		}
	}
	return false
}

// changes is what is different in a list from what is served.
type changes struct {
	added, removed int64
	lost           int64 // files that the manifest has and the disk has not
	total          int64 // bytes of the list
}

func (c changes) none() bool { return c.added == 0 && c.removed == 0 && c.lost == 0 }

// join walks what is served and the list side by side.
func (r *run) join() iter.Seq2[generation.Pair[generation.File, *group], error] {
	return r.beside(r.base.Files())
}

// beside walks files and the list side by side.
func (r *run) beside(files iter.Seq2[generation.File, error]) iter.Seq2[generation.Pair[generation.File, *group], error] {
	return generation.Join(files, func(yield func(*group, error) bool) {
		for g := range r.wants.All() {
			if !yield(g, nil) {
				return
			}
		}
	}, func(f *generation.File) string { return f.Path }, func(g **group) string { return (*g).Path })
}

// compare tells how the list differs from what is served: from its manifest, and if
// everything is to be looked at, from what is there of it.
func (r *run) compare() (changes, error) {
	var c changes
	for pair, err := range r.join() {
		switch {
		case err != nil:
			return c, err
		case pair.Right == nil:
			c.removed++
			continue
		}
		g := *pair.Right
		c.total += max(g.Size, 0)
		if pair.Left == nil {
			if !g.Optional || r.isMissing(g) || g.State()&staged != 0 {
				c.added++
			}
			continue
		}
		if !r.same(*pair.Left, g) {
			c.added++
		}
		if !r.order.Force {
			continue
		}
		if here, err := r.st.Holds(r.base, *pair.Left); err != nil {
			return c, err
		} else if !here {
			c.lost++
		}
	}
	r.lost = c.lost
	return c, nil
}

// same reports whether a file that is served is the one that is wanted.
func (r *run) same(have generation.File, g *group) bool {
	w := &g.want
	if w.Link != "" || have.IsLink() {
		return have.Link == w.Link
	}
	if w.Size >= 0 && w.Size != have.Size {
		return false
	}
	if sum, ok := w.Sum.SHA256(); ok {
		return sum == have.SHA256
	}
	switch {
	case w.Sum.Value != "":
		return r.matches(w)
	case !w.ModTime.IsZero():
		return w.ModTime.Truncate(time.Second).Equal(have.ModTime) && isStrong(have.ModTime, r.base)
	}
	// Nothing is told of it. Payload does not change under its name, and an index not
	// without the pointer.
	return w.Class == layout.Payload || !r.isNew(g)
}

// matches reads a file that is served and compares it with a checksum that is no SHA-256.
func (r *run) matches(w *want) bool {
	f, err := r.base.Open(w.Path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // opened for reading
	return kind.Verify(fileOfWant(w), f) == nil
}

// link puts into the staging tree what is here already.
func (r *run) link(ctx context.Context) error {
	for pair, err := range r.join() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if pair.Right == nil {
			continue
		}
		g := *pair.Right
		if g.State()&staged != 0 || g.Conflict {
			continue
		}
		ok, err := r.linkOne(pair.Left, g)
		if err != nil {
			return err
		}
		if ok {
			g.Mark(staged)
			r.counts.linked.add(g.Size)
		}
		r.progress.did(max(g.Size, 0))
	}
	return nil
}

func (r *run) linkOne(have *generation.File, g *group) (bool, error) {
	w := &g.want
	if w.Link != "" {
		return true, r.st.Symlink(w.Path, w.Link)
	}
	if have != nil && r.same(*have, g) {
		if kept, err := r.st.Keep(r.base, *have); kept || err != nil {
			return kept, err
		}
	}
	if ok, known, err := r.linkByHash(w); known {
		return ok, err
	}
	if !isNamed(w) && (w.Size < 0 || w.ModTime.IsZero()) {
		return false, nil
	}
	return r.st.Resume(w.Path, w.Size, w.ModTime)
}

// isNamed reports whether the content of a file is bound by its name.
func isNamed(w *want) bool {
	return w.Class == layout.Payload && w.Sum.Value == "" && kind.Verifiable(fileOfWant(w))
}

func fileOfWant(w *want) kind.File {
	return kind.File{File: closure.File{Path: w.Path, Size: w.Size, Sum: w.Sum}}
}

// linkByHash links a file by its hash, if that is known.
func (r *run) linkByHash(w *want) (ok, known bool, err error) {
	sum, known := w.Sum.SHA256()
	if !known || w.Size < 0 {
		return false, known, nil
	}
	ok, err = r.st.LinkObject(generation.File{Path: w.Path, Size: w.Size, ModTime: w.ModTime, SHA256: sum})
	return ok, true, err
}

// fetchMissing fetches what is not here. Of several files with the same content one is
// fetched, and the others are linked; if it cannot be had, the next one is asked for.
func (r *run) fetchMissing(ctx context.Context) error {
	need := r.missing()
	if need.Files == 0 {
		return nil
	}
	r.came = true
	r.step(mirrorapi.StepFetch, need.Files, need.Bytes)
	if err := r.room(ctx, need); err != nil {
		return err
	}
	for {
		twins, err := r.fetchOnce(ctx)
		if err != nil {
			return err
		}
		if !twins {
			return nil
		}
		if err := r.linkTwins(); err != nil {
			return err
		}
	}
}

// mostBytes is what counts as more than any disk has: sums of what upstreams say do not overflow.
const mostBytes = 1 << 60

// missing is how much there is to be fetched.
func (r *run) missing() Need {
	n := Need{First: r.isFirst()}
	last := ""
	for g := range r.wants.All() {
		if r.isMissing(g) {
			n.Files++
			n.Bytes = min(n.Bytes+min(max(g.Size, 0), mostBytes), mostBytes)
		}
		if folder := path.Dir(g.Path); folder != last {
			n.Folders++ // a few count twice: the list is sorted by the whole paths
			last = folder
		}
	}
	return n
}

// isFirst reports whether nothing is served that the next generation is a newer one of.
func (r *run) isFirst() bool { return r.base == nil || r.base.Info().Selection != r.p.Selection }

// isMissing reports whether a file is to be fetched.
func (r *run) isMissing(g *group) bool {
	if g.State() != 0 || g.Conflict || g.Link != "" {
		return false
	}
	// What is served is complete without what is optional.
	return !g.Optional || r.isNew(g)
}

// isNew reports whether a file is one of a version that is not served.
func (r *run) isNew(g *group) bool {
	return slices.ContainsFunc(g.Parts, func(n uint16) bool { return r.parts[n].isNew() })
}

// room is an error if what is to be written does not fit on the disk.
func (r *run) room(ctx context.Context, need Need) error {
	if r.p.Room == nil {
		return nil
	}
	return r.p.Room(ctx, need)
}

// window is how many files are looked at for having the same content.
const window = 50_000

// fetchOnce asks for each content that is missing once. It reports whether there are
// files left that have the same content as another one.
func (r *run) fetchOnce(ctx context.Context) (twins bool, err error) {
	var failed error
	seen := make(map[[32]byte]bool)
	list := func(yield func(fetch.Want, error) bool) {
		for g := range r.wants.All() {
			if failed != nil {
				yield(fetch.Want{}, failed)
				return
			}
			if !r.isMissing(g) {
				continue
			}
			if sum, ok := g.Sum.SHA256(); ok {
				if seen[sum] {
					twins = true
					continue
				}
				if len(seen) >= window {
					clear(seen)
				}
				seen[sum] = true
			}
			if !yield(fetch.Want{Path: g.Path, Size: g.Size, Sum: g.Sum, ModTime: g.ModTime}, nil) {
				return
			}
		}
	}
	unreachable := error(nil)
	err = r.live.fetch(ctx, list, func(res fetch.Result, err error) {
		if err != nil {
			failed = err
			return
		}
		g := r.wants.Find(res.Want.Path)
		switch res.Outcome {
		case fetch.Fetched:
			state, err := r.arrived(g)
			if err != nil {
				failed = err
				return
			}
			g.Mark(state)
		case fetch.Absent:
			g.Mark(absent)
		case fetch.Denied:
			g.Mark(denied)
		case fetch.Wrong:
			g.Mark(wrong)
		case fetch.Failed:
			unreachable = fmt.Errorf("%s: %w", res.Want.Path, res.Err)
		}
	})
	switch {
	case err != nil:
		return false, err
	case failed != nil:
		return false, failed
	case unreachable != nil:
		return false, fail(mirrorapi.ReasonUpstream, "", unreachable)
	}
	return twins, nil
}

// arrived looks into a file that was fetched: what lies beside a pointer without a checksum
// may have been read while it was written.
func (r *run) arrived(g *group) (state, error) {
	if g.Class != layout.Pointer || g.Sum.Value != "" || r.p.Kind.Format() == kind.Plain {
		return staged, nil // of a plain tree only the listing tells what a file is, and how long
	}
	f, err := r.st.Open(g.Path)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	err = kind.Whole(g.Path, f)
	if errors.Is(err, kind.ErrWrong) {
		r.counts.job.Wrong.Add(1)
		return wrong, nil
	}
	return staged, err
}

// linkTwins links what has the same content as something that was fetched.
func (r *run) linkTwins() error {
	for g := range r.wants.All() {
		if !r.isMissing(g) {
			continue
		}
		ok, _, err := r.linkByHash(&g.want)
		if err != nil {
			return err
		}
		if ok {
			g.Mark(staged)
			r.counts.linked.add(g.Size)
		}
	}
	return nil
}
