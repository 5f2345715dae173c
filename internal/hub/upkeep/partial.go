package upkeep

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"freshet/internal/ostree"
)

// KindPartial is the kind of a commit that is whole while a mark of libostree says
// that it is not: "ostree fsck" leaves one where it finds damage, and from then on
// it and "ostree pull-local" take the commit for incomplete.
const KindPartial = "partial"

const partialSuffix = ".commitpartial"

// partials are the commits that libostree takes for incomplete.
func (c *checker) partials() ([]ostree.Checksum, error) {
	entries, err := fs.ReadDir(c.dir.Root.FS(), "state")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []ostree.Checksum
	for _, entry := range entries {
		hex, ok := strings.CutSuffix(entry.Name(), partialSuffix)
		if sum, parseErr := ostree.ParseChecksum(hex); ok && parseErr == nil {
			all = append(all, sum)
		}
	}
	return all, err
}

// distrust makes an incremental check look at commits with a mark.
func (c *checker) distrust() error {
	all, err := c.partials()
	for _, sum := range all {
		delete(c.before.commits, sum)
	}
	return err
}

// checkPartials takes the marks from commits that are whole. While anything is
// damaged, nobody knows which are.
func (c *checker) checkPartials(context.Context) error {
	all, err := c.partials()
	if err != nil || !c.report.Sound() {
		return err
	}
	for _, sum := range all {
		if !c.seen.commits[sum] {
			continue
		}
		p := Problem{Kind: KindPartial, Path: "state/" + sum.String() + partialSuffix, Error: "the commit is whole, but marked as incomplete"}
		if !c.opt.DryRun {
			if err := c.dir.Remove(p.Path); err != nil {
				return err
			}
			p.Repaired = true
		}
		c.found(p)
	}
	return nil
}
