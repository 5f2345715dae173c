// Package plan finds out what a project will take before anything of it is mirrored: it
// reads the project's metadata, as a sync does, and counts what they name.
package plan

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/closure"
	"freshet/internal/layout"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
	"freshet/internal/page"
)

// Options are what a plan is made of.
type Options struct {
	Kind     *kind.Kind
	Upstream *engine.Upstream
	// Folder is an absolute path, of a folder for metadata that nobody else uses. It is
	// made, and removed afterwards.
	Folder string
	// Held returns the size of a file that is here already, false if it is not; nil: none is. With
	// current, the file is of the version that is served, so one of which nothing is told is the same.
	Held func(f kind.File, current bool) (size int64, ok bool)
	// Shelf keeps manifests of upstreams that are mirrors, for the sync that follows.
	Shelf fetch.Shelf
	// Rate bounds the bytes a second that will be received; 0: nothing does.
	Rate int64
}

// minSample is how much must have come in, in bytes, and minTime for how long, for the rate
// to say anything of that of a sync.
const (
	minSample = 1 << 20
	minTime   = time.Second
)

// attempts is how often metadata are asked for: whoever plans waits.
const attempts = 2

// Make makes a plan: all of it but the project's name, and what there is on the disk.
func Make(ctx context.Context, o Options) (plan mirrorapi.Plan, err error) {
	if err := os.RemoveAll(o.Folder); err != nil {
		return plan, err
	}
	if err := os.MkdirAll(o.Folder, 0o700); err != nil {
		return plan, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.Folder)) }()
	root, err := os.OpenRoot(o.Folder)
	if err != nil {
		return plan, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	m := &maker{o: &o, root: root, seen: make(map[uint64]int32), plan: &plan}
	m.unsized = unsized{seed: maphash.MakeSeed(), of: make(map[uint64]int32), optional: make(map[uint64]int32), listed: make(map[uint64]int64)}
	defer func() { err = errors.Join(err, m.unpin()) }()
	if err := m.pin(ctx); err != nil {
		return plan, err
	}
	if err := m.count(ctx); err != nil {
		return plan, err
	}
	m.measure(ctx)
	m.conclude()
	return plan, nil
}

// maker makes a plan.
type maker struct {
	o        *Options
	root     *os.Root
	plan     *mirrorapi.Plan
	progress fetch.Progress
	fetching time.Duration
	left     kind.Left
	sources  []fetch.Source // those of the upstream; mirrors at one generation
	pinned   []*fetch.Pinned
	unsized  unsized
	seen     map[uint64]int32 // paths that were counted, by their hashes; the last repository that has them
}

// pin makes of each upstream that is a mirror the generation that it serves now: its
// manifest tells all sizes.
func (m *maker) pin(ctx context.Context) error {
	var said fetch.Each
	for _, s := range m.o.Upstream.Sources {
		p, err := fetch.Pin(ctx, s, m.o.Shelf)
		if p != nil {
			m.pinned = append(m.pinned, p)
			s = p
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			said = said.Said(s.URL(), err)
			continue
		}
		m.sources = append(m.sources, s)
	}
	if len(m.sources) == 0 {
		return said.Err()
	}
	return nil
}

// unpin gives back what pin has opened.
func (m *maker) unpin() (err error) {
	for _, p := range m.pinned {
		err = errors.Join(err, p.Close())
	}
	return err
}

// count counts the files of all repositories, and what lies beside them.
func (m *maker) count(ctx context.Context) error {
	k, tree := m.o.Kind, m.tree()
	repositories, err := k.Repositories(ctx, tree)
	if err == nil && len(repositories) == 0 {
		err = k.NoneFound()
	}
	if err != nil {
		return err
	}
	for i, r := range repositories {
		sum := mirrorapi.PlanRepository{Path: path.Dir(r.Pointer)}
		if err := m.add(k.Files(ctx, tree, r, &m.left), &sum, int32(i)); err != nil {
			if err := kind.Missing(r, err); strings.Contains(err.Error(), r.Pointer) {
				return err
			}
			return fmt.Errorf("%s: %w", r.Pointer, err)
		}
		m.plan.Repositories = append(m.plan.Repositories, sum)
	}
	return m.add(k.Rest(ctx, tree, repositories, &m.left), new(mirrorapi.PlanRepository), -1)
}

// add counts files of the repository with this number, -1 for none.
func (m *maker) add(files iter.Seq2[kind.File, error], sum *mirrorapi.PlanRepository, number int32) error {
	var optional []kind.File // which may not be there
	isHere := false          // this version
	for f, err := range files {
		if err == nil {
			err = m.known(&f)
		}
		if err != nil {
			return err
		}
		id := m.unsized.hash(f.Path)
		last, counted := m.seen[id]
		if counted && last == number {
			continue // it is named twice
		}
		held := false
		if m.o.Held != nil {
			var size int64
			if size, held = m.o.Held(f, false); held {
				f.Size = size
			}
		}
		if f.Optional && !held {
			optional = append(optional, f)
			continue
		}
		isHere = isHere || held && !f.Optional && f.Class == layout.Pointer
		m.seen[id] = number
		m.tally(f, held, counted, sum, number)
	}
	for _, f := range optional {
		id := m.unsized.hash(f.Path)
		_, counted := m.seen[id]
		if isHere {
			if size, held := m.o.Held(f, true); held {
				f.Size, m.seen[id] = size, number
				m.tally(f, true, counted, sum, number)
			}
			continue // what is not here of this version, upstream has not
		}
		m.seen[id] = number
		if f.Size < 0 {
			if !counted {
				m.unsized.noteOptional(f.Path, number)
			}
			continue
		}
		m.tally(f, false, counted, sum, number)
	}
	return nil
}

// tally adds a file to the sum of a repository and, unless it was counted in another one, to that of
// the project.
func (m *maker) tally(f kind.File, held, counted bool, sum *mirrorapi.PlanRepository, number int32) {
	sum.Files++
	sum.Bytes += max(f.Size, 0)
	if counted {
		return
	}
	m.plan.Files++
	m.plan.Bytes += max(f.Size, 0)
	to := &m.plan.Fetch
	if held {
		to = &m.plan.Held
	}
	to.Files++
	to.Bytes += max(f.Size, 0)
	if f.Size < 0 {
		sum.Unsized++
		m.unsized.note(f.Path, number)
	}
}

// known completes what is told of a file by what was read of it for the plan.
func (m *maker) known(f *kind.File) error {
	if f.Sum.Value != "" || f.Link != "" {
		return nil
	}
	file, err := m.root.Open(f.Path)
	if err != nil {
		return nil // it was not read
	}
	defer file.Close() //nolint:errcheck // opened for reading
	sum := sha256.New()
	if f.Size, err = io.Copy(sum, file); err != nil {
		return err
	}
	f.Sum = closure.Sum{Hash: crypto.SHA256, Value: string(sum.Sum(nil))}
	return nil
}

// conclude says how long it takes, and what else there is to say.
func (m *maker) conclude() {
	p := m.plan
	p.Metadata = mirrorapi.Amount{Files: m.progress.Files.Load(), Bytes: m.progress.Bytes.Load()}
	received := m.progress.Received.Load()
	if received >= minSample && m.fetching >= minTime {
		p.Rate = int64(float64(received) / m.fetching.Seconds())
	}
	if limit := m.o.Rate; limit > 0 && (p.Rate == 0 || limit < p.Rate) {
		p.Rate = limit
	}
	if p.Rate > 0 {
		p.Time = time.Duration(float64(p.Fetch.Bytes+p.Guess) / float64(p.Rate) * float64(time.Second))
	}
	if m.left.Files > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("indexes name %s more with %s that are left out", page.Plural(m.left.Files, "file", "files"), page.Bytes(uint64(max(m.left.Bytes, 0)))))
	}
	p.Unsized = m.unsized.left()
	if n := len(m.unsized.optional); n > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%s that upstream may have or not, such as signatures, are not counted", page.Plural(n, "file", "files")))
	}
}

// tree is the upstream, of which what is opened comes into the folder first.
func (m *maker) tree() kind.Tree {
	up := engine.Upstream{Sources: m.sources, Unusable: m.o.Upstream.Unusable}
	list := func(ctx context.Context) iter.Seq2[kind.File, error] { return m.watch(up.List(ctx)) }
	return kind.Tree{Open: m.open, List: list, Prefetch: m.prefetch}
}

func (m *maker) open(ctx context.Context, name string) (fs.File, error) {
	f, err := m.root.Open(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	w := kind.File{}
	w.Path, w.Size = name, -1
	if err := m.fetch(ctx, []kind.File{w}); err != nil {
		return nil, err
	}
	return m.root.Open(name)
}

// prefetch gets files that will be opened next. Those that cannot be had are asked for again
// when they are opened, and told of then.
func (m *maker) prefetch(ctx context.Context, files []kind.File) error {
	files = slices.DeleteFunc(slices.Clone(files), func(f kind.File) bool {
		_, err := m.root.Lstat(f.Path)
		return err == nil
	})
	if len(files) < 2 {
		return nil
	}
	if err := m.fetch(ctx, files); err != nil && ctx.Err() != nil {
		return err
	}
	return nil
}

// fetch gets files. The error is [fs.ErrNotExist] if the upstream has one of them not.
func (m *maker) fetch(ctx context.Context, files []kind.File) error {
	begun := time.Now()
	defer func() { m.fetching += time.Since(begun) }()
	wants := func(yield func(fetch.Want, error) bool) {
		for _, f := range files {
			if !yield(fetch.Want{Path: f.Path, Size: f.Size, Sum: f.Sum, ModTime: f.ModTime}, nil) {
				return
			}
		}
	}
	var failed error
	job := fetch.Job{Folder: m.o.Folder, Sources: m.sources, Progress: &m.progress, Attempts: attempts}
	err := job.Fetch(ctx, wants, func(r fetch.Result) {
		switch r.Outcome {
		case fetch.Fetched:
			m.plan.Upstream = r.From
		case fetch.Absent:
			failed = errors.Join(failed, &fs.PathError{Op: "fetch", Path: r.Want.Path, Err: fs.ErrNotExist})
		default:
			failed = errors.Join(failed, fmt.Errorf("%s: %s: %w", r.Want.Path, r.Outcome, r.Err))
		}
	})
	return errors.Join(err, failed)
}
