package scan

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
)

// memo is what one scan of a target leaves to the next. It belongs to the scan that runs.
type memo struct {
	links links
	// etag and modified are those of the file list that the inventory has.
	etag, modified string
	// stamps say how listings showed files when they were last asked for; both path and
	// what was shown are sums by seed.
	stamps map[uint64]uint64
	seed   maphash.Seed
	// fresh asks for a scan that trusts nothing of this.
	fresh bool
	// remark is what a listing lacked that counts nevertheless, for the status.
	remark string
}

// errUnchanged ends a listing that is that of the scan before.
var errUnchanged = errors.New("nothing has changed")

// scan finds out what a target has, and says so to the inventory.
func (s *Scanner) scan(ctx context.Context, t target, m *memo) (inventory.Change, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.Longest, errTooLong)
	defer cancel()
	h, err := s.o.Inventory.Holder(t.mirror)
	if err != nil {
		return inventory.Change{}, err
	}
	tree := s.o.Inventory.Project(t.project)
	m.remark = ""
	p := s.pointers(t.key)
	var change inventory.Change
	for range 3 { // a tree whose links change again and again is odd
		begun := time.Now()
		change, err = tree.Replace(h, inventory.Listing{At: begun, Entries: p.watch(s.list(ctx, t, m))})
		switch {
		case err == nil:
			p.tell(true, begun)
		case errors.Is(err, errLinks):
			continue
		case errors.Is(err, errUnchanged):
			change, err = tree.Apply(h, inventory.Delta{At: begun, Entries: func(func(inventory.Entry, error) bool) {}})
			if err == nil {
				p.forget()
				p.tell(false, begun)
			}
		}
		break
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return change, err
}

// list lists a target.
func (s *Scanner) list(ctx context.Context, t target, m *memo) iter.Seq2[inventory.Entry, error] {
	switch t.how {
	case directorapi.HowRsync:
		return s.listRsync(ctx, t, m)
	case directorapi.HowFileList:
		return s.listFile(ctx, t, m)
	case directorapi.HowFolder:
		return s.listFolder(ctx, t, m)
	case directorapi.HowHTTP:
		return s.listHTTP(ctx, t, m)
	default:
	}
	return func(yield func(inventory.Entry, error) bool) {
		yield(inventory.Entry{}, fail(Setup, fmt.Errorf("%q is no way to scan", t.how)))
	}
}
