package serve

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strconv"

	"freshet/internal/mirror/generation"
)

const (
	// maxDelta is how long a delta is at most, in bytes: of some 50,000 files. With more
	// the manifest is not much longer.
	maxDelta = 2 << 20
	// keptDeltas is how many are kept at most: those of projects that were published just
	// now, which all mirrors downstream ask for in the same moment.
	keptDeltas = 4
)

// deltas makes what leads from one generation to another, one at a time, and keeps the last
// ones.
type deltas struct {
	turn chan struct{} // has one while nothing is made and kept is not used
	kept []delta       // the one that was asked for last is the last
}

type delta struct {
	project, base, now string // names of generations
	body               []byte
}

func newDeltas() *deltas {
	d := &deltas{turn: make(chan struct{}, 1)}
	d.turn <- struct{}{}
	return d
}

// get returns the delta. The error is that of ctx, or one of [generation.WriteDelta].
func (d *deltas) get(ctx context.Context, base, now *generation.Generation) ([]byte, error) {
	select {
	case <-d.turn:
		defer func() { d.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	one := delta{project: now.Info().Project, base: base.Info().Name(), now: now.Info().Name()}
	if i := slices.IndexFunc(d.kept, func(k delta) bool {
		return k.project == one.project && k.base == one.base && k.now == one.now
	}); i >= 0 {
		one = d.kept[i]
		d.kept = slices.Delete(d.kept, i, i+1)
	} else {
		var b bytes.Buffer
		if err := generation.WriteDelta(ctx, &b, base, now, maxDelta); err != nil {
			return nil, err
		}
		one.body = b.Bytes()
	}
	if len(d.kept) == keptDeltas {
		d.kept = slices.Delete(d.kept, 0, 1)
	}
	d.kept = append(d.kept, one)
	return one.body, nil
}

// delta answers with what leads from the manifest of one generation to that of another.
func (s *Site) delta(w http.ResponseWriter, r *http.Request, base, now *generation.Generation) {
	if base == nil {
		s.gone(w, r)
		return
	}
	body, err := s.deltas.get(r.Context(), base, now)
	switch {
	case errors.Is(err, fs.ErrClosed):
		s.gone(w, r) // one of them ended meanwhile
		return
	case errors.Is(err, generation.ErrLong):
		s.fail(w, r, http.StatusNotFound, NotFound, "Too much has changed between these generations: please read the manifest.")
		return
	case r.Context().Err() != nil:
		return // nobody waits for it
	case err != nil:
		s.failOpen(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/zstd")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", forever)
	_, _ = w.Write(body) // the client has left, or has it
}
