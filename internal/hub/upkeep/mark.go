package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"freshet/internal/hub/quarantine"
	"freshet/internal/ostree"
	"freshet/internal/sqldb"
)

// roots is what decides what is needed: refs, and the commits of builds by their
// folders.
type roots struct {
	heads  map[string]ostree.Checksum
	builds map[string][]ostree.Checksum
}

// mark brings the graph up to date with the refs and the rules, and pins what
// builds need.
func (p *pruner) mark(ctx context.Context) error {
	now, err := p.readRoots()
	if err != nil {
		return err
	}
	if err := p.markHeads(ctx, now.heads); err != nil {
		return err
	}
	return p.pin(ctx, now.builds)
}

// markHeads brings the graph up to date with the refs, if they have changed since
// the last mark.
func (p *pruner) markHeads(ctx context.Context, heads map[string]ostree.Checksum) error {
	if p.heads != nil && maps.Equal(p.heads, heads) {
		return nil
	}
	plan, err := p.plan(ctx, heads)
	if err != nil {
		return err
	}
	for first := true; first || len(plan.add)+len(plan.drop) > 0; first = false {
		left := plan
		err := p.graph.db.Write(ctx, func(tx *sqldb.Tx) error {
			left = plan
			return p.apply(ctx, tx, &left, editEdges)
		})
		if err != nil {
			return err
		}
		plan = left
	}
	if err := p.whole(ctx); err != nil {
		return err
	}
	p.heads = heads
	return nil
}

func (p *pruner) readRoots() (roots, error) {
	c := checker{repo: p.repo}
	heads, err := p.repo.ListRefs() // a damaged ref might need anything: none may be
	if err != nil {
		return roots{}, err
	}
	all, err := c.heads()
	if err != nil {
		return roots{}, err
	}
	maps.Copy(heads, all)
	builds, err := p.buildCommits()
	return roots{heads, builds}, err
}

func readCommit(in fs.FS, sum ostree.Checksum) (*ostree.Commit, error) {
	info, err := verifyIn(in, ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit})
	return info.Commit, err
}

func readTree(in fs.FS, sum ostree.Checksum) (*ostree.DirTree, error) {
	info, err := verifyIn(in, ostree.ObjectName{Checksum: sum, Type: ostree.TypeDirTree})
	return info.DirTree, err
}

func verifyIn(in fs.FS, name ostree.ObjectName) (ostree.Info, error) {
	f, err := in.Open(name.Path())
	if err != nil {
		return ostree.Info{}, err
	}
	info, err := ostree.VerifyObject(name, f)
	return info, errors.Join(err, f.Close())
}

// plan is what a mark changes in the graph.
type plan struct {
	add, drop, age []known // age: superseded has changed
}

// plan decides which commits are kept, and so which come and go.
func (p *pruner) plan(ctx context.Context, heads map[string]ostree.Checksum) (plan, error) {
	have, err := p.graph.commits(ctx)
	if err != nil {
		return plan{}, err
	}
	doomed, err := p.graph.doomedCommits(ctx)
	if err != nil {
		return plan{}, err
	}
	keep := make(map[ostree.Checksum]known, len(have))
	k := keeping{have: have, doomed: doomed, keep: keep, passed: map[ostree.Checksum]known{}}
	for _, ref := range slices.SortedFunc(maps.Keys(heads), originalsFirst) {
		if err := p.keepRef(ref, heads[ref], k); err != nil {
			return plan{}, err
		}
	}
	// Commits of refs that were removed, or put somewhere else.
	for sum, k := range have {
		if _, ok := keep[sum]; ok {
			continue
		}
		if k.superseded == 0 {
			k.superseded = p.opt.Now.Unix()
		}
		if p.young(k) {
			keep[sum] = k
		}
	}
	p.keepAsked(k)
	var changes plan
	for sum, k := range keep {
		if before, ok := have[sum]; !ok {
			changes.add = append(changes.add, k)
		} else if before.superseded != k.superseded {
			changes.age = append(changes.age, k)
		}
	}
	for sum, k := range k.passed {
		if _, ok := keep[sum]; !ok {
			changes.add = append(changes.add, k)
			changes.drop = append(changes.drop, k)
		}
	}
	for sum, k := range have {
		if _, ok := keep[sum]; !ok {
			changes.drop = append(changes.drop, k)
		}
	}
	return changes, nil
}

// keepAsked keeps the commits that somebody needs for now.
func (p *pruner) keepAsked(all keeping) {
	if p.opt.Keep == nil {
		return
	}
	for _, sum := range p.opt.Keep() {
		if _, ok := all.keep[sum]; ok {
			continue
		}
		if k, ok := all.have[sum]; ok {
			all.keep[sum] = k
		} else if k, ok := all.passed[sum]; ok {
			all.keep[sum] = k
		}
	}
}

// originalsFirst sorts refs, with those of other collections last: they repeat
// refs, whose names the rules are for.
func originalsFirst(a, b string) int {
	const copies = "refs/mirrors/"
	switch x, y := strings.HasPrefix(a, copies), strings.HasPrefix(b, copies); {
	case x == y:
		return strings.Compare(a, b)
	case x:
		return 1
	}
	return -1
}

// young tells whether a commit is kept for its age.
func (p *pruner) young(k known) bool {
	return p.opt.Now.Unix()-k.superseded < int64(p.opt.Rules.of(k.ref).Age.Seconds())
}

// keeping is what decides on commits, and what was decided.
type keeping struct {
	have   map[ostree.Checksum]known // counted
	doomed map[ostree.Checksum]bool  // no longer kept, and not yet deleted
	keep   map[ostree.Checksum]known
	passed map[ostree.Checksum]known // neither counted before nor kept
}

// keepRef keeps the commits of a ref: its head, and of those before what the rules
// say.
func (p *pruner) keepRef(ref string, head ostree.Checksum, all keeping) error {
	rule := p.opt.Rules.of(ref)
	now := p.opt.Now.Unix()
	since := now // when the commit was superseded that is looked at
	for depth, sum := 0, head; !sum.IsZero(); depth++ {
		if other, ok := all.keep[sum]; ok { // another ref has it too, and may keep fewer of those before
			if depth == 0 && other.superseded != 0 {
				other.ref, other.superseded = ref, 0
				all.keep[sum] = other
			}
			sum = other.parent
			continue
		}
		if all.doomed[sum] && depth > rule.Depth {
			return nil // its time was over at an earlier mark, and that of those before
		}
		k, ok := all.have[sum]
		made := since
		if !ok {
			commit, err := p.repo.Commit(sum)
			if errors.Is(err, fs.ErrNotExist) && depth > 0 {
				apart, apartErr := quarantine.Has(p.dir.Root, ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit})
				if apartErr != nil || !apart {
					return apartErr // pruned before
				}
			}
			if err != nil {
				return fmt.Errorf("%s: %w: %w", ref, ErrDamaged, err)
			}
			k = known{sum: sum, parent: commit.Parent, tree: commit.Tree, meta: commit.TreeMeta}
			if len(all.have) == 0 {
				// Nobody saw when it took the place of the one before.
				made = min(since, int64(min(commit.Timestamp, uint64(now))))
			}
		}
		k.ref = ref
		if depth == 0 {
			k.superseded = 0
		} else if k.superseded == 0 {
			k.superseded = since
		}
		switch kept := depth <= rule.Depth || p.young(k); {
		case kept:
			all.keep[sum] = k
		case ok:
			return nil
		default:
			all.passed[sum] = k // it came and went since the last mark
		}
		since, sum = made, k.parent
	}
	return nil
}

// editEdges is about how many edges are counted in one transaction.
const editEdges = 200_000

// apply does as much of a plan as fits into a transaction.
func (p *pruner) apply(ctx context.Context, tx *sqldb.Tx, plan *plan, most int) error {
	e := newEdit(ctx, tx, p.repo.DirTree, p.opt.Now.Unix())
	if err := e.fillHoles(); err != nil {
		return err
	}
	for len(plan.add) > 0 && len(e.delta) < most {
		if err := e.add(plan.add[0]); err != nil {
			return err
		}
		plan.add = plan.add[1:]
	}
	for len(plan.add) == 0 && len(plan.drop) > 0 && len(e.delta) < most {
		if err := e.drop(plan.drop[0]); err != nil {
			return err
		}
		plan.drop = plan.drop[1:]
		p.result.Commits++
	}
	for _, k := range plan.age {
		if _, err := tx.Exec(ctx, `UPDATE commits SET superseded = ?, ref = ? WHERE sum = ?`, k.superseded, k.ref, k.sum[:]); err != nil {
			return err
		}
	}
	plan.age = nil
	p.result.Counted += int64(len(e.delta))
	return e.flush()
}

// whole refuses to go on where it is not known what commits need.
func (p *pruner) whole(ctx context.Context) error {
	return p.graph.db.Read(ctx, func(tx *sqldb.Tx) error {
		holes, err := queryNames(ctx, tx, `SELECT name FROM holes LIMIT 3`)
		if err == nil && len(holes) > 0 {
			err = fmt.Errorf("%w: %v cannot be read", ErrDamaged, holes)
		}
		return err
	})
}
