package kind

import (
	"slices"
	"strings"

	"freshet/internal/ostree"
)

// hot yields what fits into the budget: the catalogues, which every client reads, then the
// refs most asked for. Of one that has a static delta from nothing, clients install that;
// it is kept with the other deltas to the commit, and its tree is not even read. What is
// not kept, an edge in front of the upstream gets when somebody wants it: what nobody tells
// the size of, and single objects that clients of deltas ask for.
func (w *treeWalk) hot(refs []ref, deltas map[ostree.Checksum][]ostree.IndexedDelta) error {
	rest := w.kind.config.HotSet
	done := make(map[ostree.Checksum]bool)
	for _, r := range byPopularity(refs, w.tree.Popular) {
		if done[r.commit] {
			continue
		}
		fromNothing := slices.ContainsFunc(deltas[r.commit], func(d ostree.IndexedDelta) bool { return d.Name.FromScratch() })
		if r.size > rest || r.size == 0 && !fromNothing && !isCatalogue(r.name) {
			w.left.add(r.size)
			continue
		}
		done[r.commit] = true
		size, err := w.hotRef(r, deltas[r.commit], fromNothing)
		if err != nil {
			return err
		}
		rest = max(rest-size, 0)
	}
	return nil
}

// hotRef yields a ref, and returns how many bytes that costs.
func (w *treeWalk) hotRef(r ref, deltas []ostree.IndexedDelta, fromNothing bool) (size int64, err error) {
	if !fromNothing {
		if err := w.commits([]ref{r}); err != nil {
			return 0, err
		}
		size = r.size
	} else if _, err := w.commit(r.commit); err != nil {
		return 0, err
	}
	if err := w.prefetchSuperblocks(deltas); err != nil {
		return 0, err
	}
	for _, d := range deltas {
		n, besides, err := w.delta(d)
		if err != nil {
			return 0, err
		}
		size += n
		for _, name := range besides {
			if _, err := w.object(name); err != nil {
				return 0, err
			}
		}
	}
	return size, nil
}

// byPopularity sorts refs: catalogues, then as popular has them. Those that nobody asks
// for are left out.
func byPopularity(refs []ref, popular []string) []ref {
	rank := make(map[string]int, len(popular))
	for i, name := range popular {
		if _, ok := rank[name]; !ok {
			rank[name] = i
		}
	}
	var list []ref
	for _, r := range refs {
		if _, ok := rank[r.name]; ok || isCatalogue(r.name) {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b ref) int {
		if x, y := isCatalogue(a.name), isCatalogue(b.name); x != y {
			if x {
				return -1
			}
			return 1
		}
		return rank[a.name] - rank[b.name]
	})
	return list
}

// isCatalogue tells whether a ref is a list of applications.
func isCatalogue(name string) bool {
	return strings.HasPrefix(name, "appstream/") || strings.HasPrefix(name, "appstream2/")
}

func sortRefs(list []ref) {
	slices.SortFunc(list, func(a, b ref) int { return strings.Compare(a.name, b.name) })
}
