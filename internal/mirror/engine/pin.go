package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
)

// pin makes of each upstream that is a mirror the generation that it serves now, so that
// whatever is read belongs together. One that cannot be used is left out as long as there
// is another.
func (r *run) pin(ctx context.Context) error {
	r.unpin()
	up := r.p.Upstream
	up.Sources = nil
	var failed error
	urls := make([]string, 0, len(r.p.Upstream.Sources))
	for _, s := range r.p.Upstream.Sources {
		urls = append(urls, s.URL())
		p, err := fetch.Pin(ctx, s, r.p.Store)
		if p != nil {
			r.pinned = append(r.pinned, p)
			s, err = p, r.notBefore(p)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			r.warn("%s is left out: %v", s.URL(), err)
			continue
		}
		up.Sources = append(up.Sources, s)
	}
	r.up, r.live.up = &up, &up
	if err := r.p.Store.KeepNoManifestsBut(urls); err != nil {
		r.warn("manifests of former upstreams are not removed: %v", err)
	}
	if len(up.Sources) == 0 && failed != nil {
		return failed
	}
	return nil
}

// unpin gives back what pin has opened.
func (r *run) unpin() {
	for _, p := range r.pinned {
		if err := p.Close(); err != nil {
			r.log.Warn("end the use of a manifest", slog.Any("error", err))
		}
	}
	r.pinned = nil
}

// notBefore refuses a generation that the upstream served before the one that is here.
func (r *run) notBefore(p *fetch.Pinned) error {
	if r.base == nil || r.order.Rollback {
		return nil
	}
	before, now := r.base.Info().Upstream, p.Head()
	if before == nil || before.URL != p.URL() || !now.Switched.Before(before.Switched) {
		return nil
	}
	return fail(mirrorapi.ReasonRollback, "", fmt.Errorf(
		"%s serves generation %s of %v again, and what is here is its %s of %v: if that is right, sync it once with --rollback",
		p.URL(), now.Generation, now.Switched, before.Generation, before.Switched))
}

// first is the generation of the first upstream, nil if that is no mirror.
func (r *run) first() *fetch.Pinned {
	if len(r.up.Sources) == 0 {
		return nil
	}
	p, _ := r.up.Sources[0].(*fetch.Pinned)
	return p
}

// isHere reports whether what the first upstream serves was taken over already.
func (r *run) isHere() bool {
	p := r.first()
	if p == nil || r.base == nil {
		return false
	}
	before := r.base.Info().Upstream
	return before != nil && before.URL == p.URL() && before.Generation == p.Head().Generation
}

// takenOver is the generation of the first upstream, if all that was read is of it; else
// nil.
func (r *run) takenOver() *generation.Upstream {
	p := r.first()
	if p == nil || r.keepOthers {
		return nil
	}
	for _, part := range r.parts {
		if part.rest {
			continue
		}
		f, ok, err := p.Find(part.repo.Pointer)
		if part.held || err != nil || !ok || hex.EncodeToString(f.SHA256[:]) != part.version.SHA256 {
			return nil
		}
	}
	return &generation.Upstream{URL: p.URL(), Generation: p.Head().Generation, Switched: p.Head().Switched}
}
