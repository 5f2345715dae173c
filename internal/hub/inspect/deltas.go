package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"freshet/internal/ostree"
)

// Delta is a static delta of a repository.
type Delta struct {
	// Ref is a ref that it leads to, now or formerly; empty when its commit names none.
	Ref  string `json:"ref,omitempty"`
	From string `json:"from,omitempty"` // empty: from nothing
	To   string `json:"to"`

	// State is [Served] or [Retired].
	State string `json:"state"`

	Size   int64 `json:"size"`   // bytes of all that a client fetches
	Parts  int   `json:"parts"`  // files besides the superblock
	Singly int   `json:"singly"` // objects that are fetched by themselves, counted in Size

	// Objects are those that a client has afterwards, and Instead the bytes that they
	// would cost one by one; 0 behind a URL, where it is not counted.
	Objects int   `json:"objects"`
	Instead int64 `json:"instead,omitempty"`
}

// The states of a static delta.
const (
	Served  = "served"  // clients choose it: it leads to the head of a ref, and is listed
	Retired = "retired" // it is there for those that have chosen already
)

// maxAtOnce bounds the files that are read at once.
const maxAtOnce = 8

// Deltas returns the static deltas to the refs, or to all when none are given: in
// the order of refs, the oldest From last. Behind a URL, those to former heads
// are not found.
func (r *Repository) Deltas(ctx context.Context, refs ...string) ([]Delta, error) {
	heads, err := r.heads()
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		if _, known := heads[ref]; !known {
			return nil, noRef(ref)
		}
	}
	list := deltaList{r: r, refs: refs, heads: map[ostree.Checksum]string{}, listed: map[ostree.DeltaName]bool{}, all: []Delta{}}
	for ref, head := range heads {
		if known, twice := list.heads[head]; !twice || ref < known {
			list.heads[head] = ref
		}
	}
	if err := list.readIndexes(ctx); err != nil {
		return nil, err
	}
	names, err := list.names()
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxAtOnce)
	for _, name := range names {
		group.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			return list.add(name)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(list.all, func(a, b Delta) int {
		return cmp.Or(strings.Compare(a.Ref, b.Ref), strings.Compare(b.State, a.State), strings.Compare(a.To, b.To), strings.Compare(a.From, b.From))
	})
	return list.all, nil
}

// deltaList is the work of [Repository.Deltas].
type deltaList struct {
	r     *Repository
	refs  []string                   // that are asked for; none: all
	heads map[ostree.Checksum]string // with their refs

	mu     sync.Mutex
	listed map[ostree.DeltaName]bool
	all    []Delta
}

// readIndexes finds which deltas clients find, from the delta indexes of the heads
// and from the summary, where repositories that are not of Flatpak list them.
func (l *deltaList) readIndexes(ctx context.Context) error {
	if data, err := readBounded(l.r.files, "summary"); err == nil {
		if summary, err := ostree.ParseSummary(data); err == nil {
			if v, ok := summary.Metadata.Get("ostree.static-deltas"); ok {
				if index, err := ostree.DeltaIndexOf(v); err == nil {
					l.list(index)
				}
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxAtOnce)
	for head, ref := range l.heads {
		if !l.asked(ref) {
			continue
		}
		group.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			data, err := readBounded(l.r.files, ostree.DeltaIndexPath(head))
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			index, err := ostree.ParseDeltaIndex(data)
			if err != nil {
				return fmt.Errorf("%s: %w", ostree.DeltaIndexPath(head), err)
			}
			l.list(index)
			return nil
		})
	}
	return group.Wait()
}

func (l *deltaList) list(index *ostree.DeltaIndex) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, delta := range index.Deltas {
		l.listed[delta.Name] = true
	}
}

func (l *deltaList) asked(ref string) bool { return len(l.refs) == 0 || slices.Contains(l.refs, ref) }

// names are those that are stored, or behind a URL those that are listed.
func (l *deltaList) names() ([]ostree.DeltaName, error) {
	if l.r.listed {
		return ostree.ListDeltas(l.r.files, "deltas")
	}
	var names []ostree.DeltaName
	for name := range l.listed {
		if ref, isHead := l.heads[name.To]; isHead && l.asked(ref) {
			names = append(names, name)
		}
	}
	return names, nil
}

// add reads a delta, unless its ref is not asked for. One that goes away meanwhile,
// or of which a crash has left some parts only, is none.
func (l *deltaList) add(name ostree.DeltaName) error {
	block, size, err := l.r.superblock(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	cost := costOf(block, size)
	d := Delta{To: name.To.String(), State: Retired, Size: cost.Bytes, Parts: len(block.Parts), Singly: len(block.Fallbacks)}
	if !name.FromScratch() {
		d.From = name.From.String()
	}
	ref, isHead := l.heads[name.To]
	if d.Ref = ref; isHead && l.listed[name] {
		d.State = Served
	}
	if bound, ok := block.Commit.Metadata.Strings(ostree.KeyRefBinding); !isHead && ok && len(bound) > 0 {
		d.Ref = bound[0]
	}
	if !l.asked(d.Ref) {
		return nil
	}
	if d.Objects, d.Instead, err = l.r.instead(block); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
	return nil
}

// instead returns how many objects a delta brings, and what they cost one by one.
// Those that were pruned cost nothing any more.
func (r *Repository) instead(block *ostree.Superblock) (objects int, bytes int64, err error) {
	one := func(name ostree.ObjectName) error {
		objects++
		if !r.listed {
			return nil
		}
		size, err := r.objects.StoredSize(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		bytes += size
		return nil
	}
	for _, part := range block.Parts {
		for _, name := range part.Objects {
			if err := one(name); err != nil {
				return 0, 0, err
			}
		}
	}
	for _, fallback := range block.Fallbacks {
		if err := one(fallback.Object); err != nil {
			return 0, 0, err
		}
	}
	return objects, bytes, nil
}

// superblock reads that of a delta, and tells its length.
func (r *Repository) superblock(name ostree.DeltaName) (*ostree.Superblock, int64, error) {
	data, err := readBounded(r.files, name.SuperblockPath())
	if err != nil {
		return nil, 0, err
	}
	block, err := ostree.ParseSuperblock(data)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", name.SuperblockPath(), err)
	}
	return block, int64(len(data)), nil
}

// costOf adds up what a client fetches by a delta. Parts that are in the
// superblock are no files.
func costOf(block *ostree.Superblock, size int64) DeltaCost {
	cost := DeltaCost{Requests: 1 + len(block.Fallbacks), Bytes: size}
	for i, part := range block.Parts {
		if !block.Metadata.Has(block.Name.PartPath(i)) {
			cost.Requests++
			cost.Bytes += int64(part.Size)
		}
	}
	for _, fallback := range block.Fallbacks {
		cost.Bytes += int64(fallback.Size)
	}
	return cost
}
