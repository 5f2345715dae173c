package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"freshet/internal/edge/diskcache"
	"freshet/internal/glob"
	"freshet/internal/ostree"
	"freshet/internal/roots"
)

// prefill says what is fetched of a publish before it is shown.
type prefill struct {
	refs   []string      // patterns of [glob.Match]
	rate   int64         // bytes per second, 0: no limit
	within time.Duration // how long a publish is held back for it
}

// wants reports whether the ref is one of those.
func (p *prefill) wants(ref string) bool {
	return glob.MatchAny(p.refs, ref)
}

// update is what became of a ref.
type update struct{ from, to ostree.Checksum }

// beforeShown is the last that happens before a new generation is shown: the
// new content of chosen refs is fetched. What cannot be had, or not in time,
// holds nothing up.
func (e *Edge) beforeShown(t *candidate) {
	s := t.set.site
	if len(s.prefill.refs) == 0 || t.old == nil {
		return
	}
	ctx, cancel := context.WithTimeout(e.ctx, s.prefill.within)
	defer cancel()
	updates, err := e.updatedRefs(ctx, t)
	if err != nil {
		e.log.WarnContext(ctx, "prefill does not know what is new", slog.String("set", t.set.key.Root), slog.Any("error", err))
	}
	for ref, u := range updates {
		wm := &warming{e: e, budget: budget{rate: s.prefill.rate}, parallel: defaultParallel, seen: make(map[warmName]struct{})}
		wm.changed = sync.NewCond(&wm.mu)
		stop := context.AfterFunc(ctx, func() {
			wm.mu.Lock()
			defer wm.mu.Unlock()
			wm.changed.Broadcast()
		})
		wm.refs = refWalk{site: s, repo: strings.TrimSuffix(t.set.key.Root, "/"), deltas: !u.from.IsZero(), from: u.from}
		wm.addCommit(u.to)
		wm.run(ctx)
		stop()
		p := wm.report(true)[0]
		e.log.InfoContext(ctx, "prefilled", slog.String("ref", ref), slog.Int("fetched", p.Fetched), slog.Int("stored", p.Stored),
			slog.Int("failed", p.Failed), slog.Int64("bytes", p.Bytes))
	}
}

// updatedRefs lists the wanted refs that are new or have a new commit.
func (e *Edge) updatedRefs(ctx context.Context, t *candidate) (map[string]update, error) {
	s := t.set
	updates := make(map[string]update)
	switch s.key.Kind {
	case "summary":
		before, err := e.refsOf(t.old.entry(e, s.key.Root+"summary"), false)
		if err != nil {
			return nil, err
		}
		after, err := e.refsOf(t.entries[s.key.Root+"summary"], false)
		if err != nil {
			return nil, err
		}
		s.site.prefill.compare(updates, before, after)
	case "summary-index":
		old := t.old.list(e, s)
		for name, m := range t.gen.listing.Load().Members {
			was := old.Members[name]
			if name == roots.IndexSignature || was.Path == m.Path {
				continue
			}
			var before map[string]ostree.Checksum
			if was.Path != "" {
				// Without it every ref looks new, and is walked in vain.
				entry, err := e.obtain(ctx, s.site.call(was.Path))
				if err != nil {
					return updates, err
				}
				if before, err = e.refsOf(entry, true); err != nil {
					return updates, err
				}
			}
			entry, err := e.obtain(ctx, s.site.call(m.Path))
			if err != nil {
				return updates, err
			}
			after, err := e.refsOf(entry, true)
			if err != nil {
				return updates, err
			}
			s.site.prefill.compare(updates, before, after)
		}
	}
	return updates, nil
}

func (p *prefill) compare(updates map[string]update, before, after map[string]ostree.Checksum) {
	for ref, to := range after {
		if from := before[ref]; from != to && p.wants(ref) {
			updates[ref] = update{from, to}
		}
	}
}

// refsOf reads the refs of a summary that is stored.
func (e *Edge) refsOf(entry *diskcache.Entry, packed bool) (map[string]ostree.Checksum, error) {
	if entry == nil {
		return nil, errors.New("the summary is not stored")
	}
	data, err := e.readEntry(entry)
	if err != nil {
		return nil, err
	}
	if packed {
		zr, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		if data, err = io.ReadAll(io.LimitReader(zr, roots.MaxSize+1)); err != nil || len(data) > roots.MaxSize {
			return nil, fmt.Errorf("unpack: %d bytes: %w", len(data), err)
		}
	}
	summary, err := ostree.ParseSummary(data)
	if err != nil {
		return nil, err
	}
	refs := make(map[string]ostree.Checksum, len(summary.Refs))
	for _, r := range summary.Refs {
		refs[r.Ref] = r.Commit
	}
	return refs, nil
}
