package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"freshet/internal/httpcache"
)

const (
	// maxUnknown is how long a file may be of which nobody told the size, in bytes.
	maxUnknown = 64 << 30
	// parallel is how many pieces of a file come at once.
	parallel = 4
)

var (
	errNoRanges = errors.New("the server does not send parts of this file")
	// errChanged is that of a file that is not the one any more of which a part is here.
	errChanged = fmt.Errorf("%w: the file has changed since its first part came", ErrUnreachable)
)

// stream gets a file from where it was cut to its end.
func (f *webOrder) stream(ctx context.Context, p *part) error {
	header := make(http.Header)
	if p.length > 0 {
		condition := p.version.condition()
		if condition == "" {
			if err := p.restart(false); err != nil {
				return err
			}
		} else {
			header.Set("Range", "bytes="+strconv.FormatInt(p.length, 10)+"-")
			header.Set("If-Range", condition)
		}
	}
	a, err := f.s.ask(ctx, http.MethodGet, f.s.of(p.want), header)
	if err != nil {
		return err
	}
	defer a.close()
	size := a.ContentLength
	switch a.StatusCode {
	case http.StatusOK:
		if err := p.restart(false); err != nil {
			return err
		}
		p.version = versionOf(a.Header)
		if p.want.Size >= 0 && size >= 0 && size != p.want.Size {
			return fmt.Errorf("%w: it has %d bytes, not %d", errWrong, size, p.want.Size)
		}
	case http.StatusPartialContent:
		if part, _, ok := httpcache.ParseContentRange(a.Header.Get("Content-Range")); !ok || part.Start != p.length || p.length == 0 {
			return errors.Join(a.unexpected(), p.restart(false), ErrUnreachable)
		}
	default:
		return errors.Join(a.unexpected(), p.restart(false), ErrUnreachable)
	}
	most := int64(maxUnknown)
	if p.want.Size >= 0 {
		most = p.want.Size
	}
	if _, err := f.copy(p, a, most-p.length+1); err != nil {
		return err
	}
	if p.length > most {
		return fmt.Errorf("%w: it has more than %d bytes", errWrong, most)
	}
	return nil
}

// copy writes what comes of a part, and returns how much that was.
func (f *webOrder) copy(to io.Writer, a *answer, most int64) (n int64, err error) {
	buffer := make([]byte, bufferSize)
	for n < most {
		got, err := a.Read(buffer[:min(int64(len(buffer)), most-n)])
		for _, counter := range f.watch.counters {
			counter.Add(int64(got))
		}
		if _, err := to.Write(buffer[:got]); err != nil {
			return n, err
		}
		n += int64(got)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("%w: read %s: %w", ErrUnreachable, a.url, err)
		}
	}
	return n, nil
}

// inPieces gets the missing pieces of a long file: one, by which the server shows that it
// can, and then several at once.
func (f *webOrder) inPieces(ctx context.Context, p *part) error {
	missing := p.missing()
	if len(missing) == 0 {
		return nil
	}
	if err := f.piece(ctx, p, missing[0]); err != nil {
		if errors.Is(err, errChanged) {
			return errors.Join(err, p.changed())
		}
		return err
	}
	if p.version.condition() == "" && p.want.Sum.Value == "" {
		return errNoRanges // nothing would tell if the pieces were of several files
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var working sync.WaitGroup
	for range parallel {
		working.Go(func() {
			for {
				i := next.Add(1)
				if i >= int64(len(missing)) || ctx.Err() != nil {
					return
				}
				if err := f.piece(ctx, p, missing[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	working.Wait()
	err := context.Cause(ctx)
	if errors.Is(err, errChanged) {
		return errors.Join(err, p.changed())
	}
	return err
}

// piece gets one piece.
func (f *webOrder) piece(ctx context.Context, p *part, i int) error {
	from, to := p.bounds(i)
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", from, to-1)}}
	condition := p.version.condition()
	if condition != "" {
		header.Set("If-Range", condition)
	}
	a, err := f.s.ask(ctx, http.MethodGet, f.s.of(p.want), header)
	if err != nil {
		return err
	}
	defer a.close()
	switch a.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		if condition != "" {
			return errChanged
		}
		return errNoRanges
	default:
		return fmt.Errorf("%w: %w", a.unexpected(), errChanged)
	}
	sent, size, ok := httpcache.ParseContentRange(a.Header.Get("Content-Range"))
	switch {
	case !ok || sent != httpcache.Range{Start: from, Length: to - from}:
		return errNoRanges
	case size != p.want.Size:
		return fmt.Errorf("%w: it has %d bytes, not %d", errWrong, size, p.want.Size)
	}
	p.meet(versionOf(a.Header))
	n, err := f.copy(io.NewOffsetWriter(p.f, from), a, to-from)
	if err != nil {
		return err
	}
	if n < to-from {
		return fmt.Errorf("%w: %s ends before its end", ErrUnreachable, a.url)
	}
	return p.note(i)
}
