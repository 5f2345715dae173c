package deltas

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"freshet/internal/ostree"
)

// Delta is a static delta of a ref.
type Delta struct {
	Ref  string
	Name ostree.DeltaName
	// Age is how many commits lie between: 1 is from the commit before, 0 from
	// nothing.
	Age int
	// Newest is when the commit was made to which it leads, in seconds since
	// 1970.
	Newest uint64
}

// Commits reads commits; [*ostree.Repo] does.
type Commits interface {
	Commit(c ostree.Checksum) (*ostree.Commit, error)
}

// Wanted lists the static deltas that the rules ask for, the most urgent first:
// those by which most clients are served soonest and which are made quickest.
// heads are the refs with their commits. History ends where a commit is not
// there.
func Wanted(repo Commits, heads map[string]ostree.Checksum, rules Rules) ([]Delta, error) {
	var all []Delta
	for ref, head := range heads {
		depth := rules.Depth(ref)
		if depth <= 0 {
			continue
		}
		commit, err := repo.Commit(head)
		if err != nil {
			return nil, fmt.Errorf("deltas of %s: %w", ref, err)
		}
		d := Delta{Ref: ref, Name: ostree.DeltaName{To: head}, Newest: commit.Timestamp}
		all = append(all, d)
		for d.Age = 1; d.Age < depth && !commit.Parent.IsZero(); d.Age++ {
			d.Name.From = commit.Parent
			commit, err = repo.Commit(commit.Parent)
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("deltas of %s: %w", ref, err)
			}
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b Delta) int {
		return cmp.Or(
			cmp.Compare(urgency(a), urgency(b)),
			cmp.Compare(b.Newest, a.Newest),
			strings.Compare(a.Ref, b.Ref),
			cmp.Compare(a.Age, b.Age),
		)
	})
	// Two refs may have the same commits.
	seen := map[ostree.DeltaName]bool{}
	return slices.DeleteFunc(all, func(d Delta) bool {
		again := seen[d.Name]
		seen[d.Name] = true
		return again
	}), nil
}

// urgency orders deltas: every client asks for the catalogue, then come updates
// from the version before, new installations, and updates of those that were
// away.
func urgency(d Delta) int {
	switch {
	case strings.HasPrefix(d.Ref, "appstream2/") && d.Age == 1:
		return 0
	case d.Age == 1:
		return 1
	case d.Name.FromScratch():
		return 2
	}
	return 2 + d.Age
}
