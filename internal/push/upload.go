package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"golang.org/x/sync/errgroup"

	"freshet/api/hubapi"
)

const (
	// partOverhead is what a part costs in a request besides its content.
	partOverhead = 256
	// maxParts bounds the parts of one request, so that a lost answer does not
	// cost much.
	maxParts = 2000
	// uploadRounds is how often the hub is asked what is missing, and sent it,
	// before the push gives up.
	uploadRounds = 4
)

// uploader sends files in batches, several at a time, until the hub says that
// nothing is missing.
type uploader struct {
	// send uploads one request.
	send func(ctx context.Context, parts []hubapi.Part) ([]int64, error)
	// missing asks which of the names the hub lacks, in the order of names.
	missing    func(ctx context.Context, names []string) ([]string, error)
	batchBytes int64
	parallel   int
	progress   Progress
	sent       *Amount
}

// refusedError says that the hub did not take files, with its reasons by name.
type refusedError struct{ reasons map[string]string }

func (e *refusedError) Error() string {
	for name, reason := range e.reasons {
		if len(e.reasons) == 1 {
			return fmt.Sprintf("hub refused %s: %s", name, reason)
		}
		return fmt.Sprintf("hub refused %d files, one of them %s: %s", len(e.reasons), name, reason)
	}
	return "hub refused a file without a reason"
}

// upload sends the parts, which the hub was found to lack, under the step's name
// until it lacks none of them. What the hub refuses is sent once more, since the
// fault may have been on the way, and then is a *refusedError.
func (u uploader) upload(ctx context.Context, step string, parts []hubapi.Part) error {
	byName := make(map[string]hubapi.Part, len(parts))
	for _, part := range parts {
		byName[part.Name] = part
	}
	refusals := map[string]int{}
	for round := range uploadRounds {
		if len(parts) == 0 {
			return nil
		}
		if round > 0 {
			u.progress.Line(fmt.Sprintf("%s: the hub still lacks %s", step, amountOf(parts)))
		}
		refused, err := u.round(ctx, step, parts)
		if err != nil {
			return err
		}
		final := map[string]string{}
		for name, reason := range refused {
			if refusals[name]++; refusals[name] > 1 {
				final[name] = reason
			}
		}
		if len(final) > 0 {
			return &refusedError{final}
		}
		if parts, err = u.still(ctx, parts, byName); err != nil {
			return err
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("hub still lacks %d files after %d uploads of them, one of them %s", len(parts), uploadRounds, parts[0].Name)
}

// still asks which of the parts just sent the hub lacks.
func (u uploader) still(ctx context.Context, sent []hubapi.Part, byName map[string]hubapi.Part) ([]hubapi.Part, error) {
	names := make([]string, len(sent))
	for i, part := range sent {
		names[i] = part.Name
	}
	names, err := u.missing(ctx, names)
	if err != nil {
		return nil, err
	}
	parts := make([]hubapi.Part, 0, len(names))
	for _, name := range names {
		part, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("hub asks for %q, which was not offered", name)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// round sends the parts once, and returns those that were refused.
func (u uploader) round(ctx context.Context, step string, parts []hubapi.Part) (map[string]string, error) {
	u.progress.Start(step, amountOf(parts).Bytes)
	defer u.progress.Finish()
	m := &meter{progress: u.progress}
	var mu sync.Mutex
	refused := map[string]string{}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(u.parallel)
	for batch := range batches(parts, u.batchBytes) {
		if inner.Err() != nil {
			break
		}
		group.Go(func() error {
			metered := make([]hubapi.Part, len(batch))
			for i, part := range batch {
				metered[i] = m.part(part)
			}
			stored, err := u.send(inner, metered)
			if e, ok := errors.AsType[*hubapi.Error](err); ok && len(e.Refused) > 0 {
				mu.Lock()
				defer mu.Unlock()
				maps.Copy(refused, e.Refused)
				for _, part := range batch {
					if _, ok := e.Refused[part.Name]; !ok {
						u.sent.add(part.Size)
					}
				}
				return nil
			}
			if err != nil {
				return err
			}
			// An answer that counts fewer parts than were sent is no error
			// here: the next round asks the hub what it really holds.
			mu.Lock()
			defer mu.Unlock()
			for _, part := range batch[:min(len(stored), len(batch))] {
				u.sent.add(part.Size)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return refused, context.Cause(ctx)
}

// batches splits parts, in order, into groups that go into one request: small
// ones up to the limit together, a larger one alone.
func batches(parts []hubapi.Part, limit int64) func(yield func([]hubapi.Part) bool) {
	return func(yield func([]hubapi.Part) bool) {
		for len(parts) > 0 {
			n, size := 1, parts[0].Size+partOverhead
			for n < len(parts) && n < maxParts && size+parts[n].Size+partOverhead <= limit {
				size += parts[n].Size + partOverhead
				n++
			}
			if !yield(parts[:n]) {
				return
			}
			parts = parts[n:]
		}
	}
}

func amountOf(parts []hubapi.Part) Amount {
	var a Amount
	for _, part := range parts {
		a.add(part.Size)
	}
	return a
}

// part is p with its reading counted. When another attempt opens it anew, what
// the one before has read is taken back, and what that may still be reading no
// longer counts.
func (m *meter) part(p hubapi.Part) hubapi.Part {
	open := p.Open
	var counted int64 // by the latest reader; both guarded by m.mu
	var latest *meteredReader
	p.Open = func() (io.ReadCloser, error) {
		content, err := open()
		if err != nil {
			return nil, err
		}
		r := &meteredReader{ReadCloser: content}
		r.count = func(n int64) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if latest == r {
				counted += n
				m.done += n
				m.progress.Set(m.done)
			}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.done -= counted
		counted, latest = 0, r
		return r, nil
	}
	return p
}

type meteredReader struct {
	io.ReadCloser
	count func(int64)
}

func (r *meteredReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		r.count(int64(n))
	}
	return n, err
}
