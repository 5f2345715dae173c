package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync/atomic"
	"time"

	"freshet/internal/durable"
	"freshet/internal/hub/quarantine"
	"freshet/internal/hub/repolock"
	"freshet/internal/ostree"
	"freshet/internal/pause"
	"freshet/internal/repoweb"
)

// Source is another copy of a repository. What comes from it is verified before it
// is used. Open may be called by several goroutines.
type Source interface {
	// Open opens a file by its slash-separated path in the repository.
	Open(ctx context.Context, path string) (io.ReadCloser, error)
}

// HTTPSource is a copy of a repository behind a URL.
type HTTPSource struct{ files *repoweb.FS }

// NewHTTPSource returns the repository at an http or https URL, until ctx ends.
func NewHTTPSource(ctx context.Context, base string) (*HTTPSource, error) {
	files, err := repoweb.New(ctx, base, "")
	return &HTTPSource{files}, err
}

// Open implements [Source].
func (s *HTTPSource) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	return s.files.Get(ctx, path)
}

// errUnnamed says that the name of a file does not tell its content.
var errUnnamed = errors.New("its name does not tell what is in it")

// errNoRepair says that nobody wanted a repair.
var errNoRepair = errors.New("there is nothing to repair it from")

const (
	// incoming is the folder, below a repository, of files that are being fetched.
	incoming = ".upkeep/incoming"
	// maxIncoming is the age of files there that a killed process has left.
	maxIncoming = 24 * time.Hour
	// maxFetched bounds a file that is fetched; what can be larger is no object that
	// anybody has.
	maxFetched = 16 << 30

	// A source that sends less than stallBytes in stallTime is given up.
	stallTime  = 30 * time.Second
	stallBytes = 16 << 10

	// A fetch that fails is tried so often, with pauses that begin with fetchPause and
	// double. Then the source is left alone, from minRest to maxRest.
	fetchAttempts = 3
	fetchPause    = time.Second
	minRest       = 30 * time.Second
	maxRest       = 10 * time.Minute
)

// errStalled is the end of a fetch that got nowhere.
var errStalled = fmt.Errorf("it sent less than %d bytes in %v", stallBytes, stallTime)

// repairer replaces files of a repository by those of sources. It is for one
// goroutine.
type repairer struct {
	dir  durable.Dir
	from []*supply // in the order in which they are asked; without any, nothing is repaired
}

// supply is a source, which is left alone for a while when it fails.
type supply struct {
	Source

	rest    time.Duration // after the last failure
	resting time.Time     // until when
	cause   error
}

// prepareRepair gets ready for what the options say of repairs.
func (c *checker) prepareRepair(ctx context.Context) error {
	if c.opt.DryRun {
		return nil
	}
	if len(c.opt.Repair) > 0 || c.opt.Quarantine {
		if err := quarantine.Sweep(ctx, c.dir); err != nil {
			return err
		}
	}
	if len(c.opt.Repair) == 0 {
		return nil
	}
	c.fix = repairer{dir: c.dir}
	for _, source := range c.opt.Repair {
		c.fix.from = append(c.fix.from, &supply{Source: source})
	}
	return c.fix.sweep()
}

// sweep removes what killed processes left long ago.
func (r *repairer) sweep() error {
	entries, err := fs.ReadDir(r.dir.Root.FS(), incoming)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if info, infoErr := entry.Info(); infoErr == nil && time.Since(info.ModTime()) > maxIncoming {
			err = errors.Join(err, r.dir.Remove(incoming+"/"+entry.Name()))
		}
	}
	return err
}

// object replaces an object. Detached metadata, which has no name of its own, is
// right when detached says so.
func (r *repairer) object(ctx context.Context, name ostree.ObjectName, detached func(ostree.Checksum, []byte) error) error {
	return r.file(ctx, name.Path(), func(body io.Reader) error {
		if name.Type != ostree.TypeCommitMeta {
			_, err := ostree.VerifyObject(name, body)
			return err
		}
		data, err := readBounded(body)
		if err != nil {
			return err
		}
		return detached(name.Checksum, data)
	})
}

// file replaces a file: whole and durable, once verify has read it to its end and
// accepted it, or not at all. The lock of the repository is held for the last step
// only. A source that failed again and again is left alone for a while.
func (r *repairer) file(ctx context.Context, file string, verify func(io.Reader) error) error {
	failed := errNoRepair
	for i, from := range r.from {
		temp, err := r.receive(ctx, from, file, verify)
		if err == nil {
			return r.place(ctx, temp, file)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if i > 0 {
			err = fmt.Errorf("%w; %w", failed, err)
		}
		failed = err
	}
	return failed
}

// receive fetches a file from a source, again if it may come then.
func (r *repairer) receive(ctx context.Context, from *supply, file string, verify func(io.Reader) error) (temp string, err error) {
	if time.Now().Before(from.resting) {
		return "", fmt.Errorf("the source is left alone until %s: %w", from.resting.Format(time.TimeOnly), from.cause)
	}
	for attempt := range fetchAttempts {
		temp, err := r.fetch(ctx, from, file, verify)
		if err == nil {
			from.rest = 0
			return temp, nil
		}
		if ctx.Err() != nil || !isTransient(err) {
			return "", err
		}
		from.cause = err
		if attempt == fetchAttempts-1 {
			break
		}
		if !pause.For(ctx, fetchPause<<attempt) {
			return "", context.Cause(ctx)
		}
	}
	from.rest = min(max(2*from.rest, minRest), maxRest)
	from.resting = time.Now().Add(from.rest)
	return "", from.cause
}

// isTransient tells whether another attempt may bring what one did not.
func isTransient(err error) bool {
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errLies)
}

// errLies says that a source has something else.
var errLies = errors.New("what the source has is not it")

// fetch receives a file and returns the name that it has meanwhile.
func (r *repairer) fetch(ctx context.Context, from Source, file string, verify func(io.Reader) error) (temp string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body, err := from.Open(ctx, file)
	if err != nil {
		return "", err
	}
	defer body.Close() //nolint:errcheck // read only
	if err := r.dir.MkdirAll(incoming, 0o750); err != nil {
		return "", err
	}
	temp = path.Join(incoming, durable.TempName())
	f, err := r.dir.Create(temp, 0o644)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), r.dir.Remove(temp))
		}
	}()
	in := &arriving{r: io.LimitReader(body, maxFetched+1), w: f}
	defer in.watch(func() { cancel(errStalled); _ = body.Close() })()
	if err := verify(in); err != nil {
		return temp, in.failure(ctx, err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return temp, in.failure(ctx, err)
	}
	if err := f.Sync(); err != nil {
		return temp, err
	}
	return temp, f.Close()
}

// place gives a file that was fetched its name.
func (r *repairer) place(ctx context.Context, temp, file string) (err error) {
	lock, err := repolock.Shared(ctx, r.dir.Root)
	if err != nil {
		return errors.Join(err, r.dir.Remove(temp))
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if err = r.dir.MkdirAll(path.Dir(file), 0o755); err == nil {
		err = r.announce(file)
	}
	if err == nil {
		err = r.dir.Rename(temp, file)
	}
	if err != nil {
		return errors.Join(err, r.dir.Remove(temp))
	}
	return r.dir.SyncDir(path.Dir(file))
}

// announce sees to it that caches are told of a file, if a damaged one may have been
// served.
func (r *repairer) announce(file string) error {
	_, err := r.dir.Root.Lstat(file)
	if name, parseErr := ostree.ParseObjectPath(file); parseErr == nil && errors.Is(err, fs.ErrNotExist) {
		_, err = r.dir.Root.Lstat(quarantine.Path(name))
	}
	if err != nil {
		return ignoreGone(err) // it was missing
	}
	return quarantine.Repaired(r.dir, file)
}

// arriving is a file that is being received: what is read of it is written too.
type arriving struct {
	r     io.Reader
	w     io.Writer
	n     atomic.Int64
	ended error // why it did not arrive, but for the end of the source
}

// Read implements io.Reader.
func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		a.ended = err
	}
	if a.n.Add(int64(n)) > maxFetched {
		return 0, fmt.Errorf("%w: %w", errLies, ostree.ErrTooLarge)
	}
	if _, err := a.w.Write(p[:n]); err != nil {
		a.ended = err
		return 0, err
	}
	return n, err
}

// watch calls stalled once the file does not get on, until stop is called.
func (a *arriving) watch(stalled func()) (stop func()) {
	ended := make(chan struct{})
	go func() {
		ticker := time.NewTicker(stallTime)
		defer ticker.Stop()
		for before := int64(0); ; {
			select {
			case <-ended:
				return
			case <-ticker.C:
			}
			now := a.n.Load()
			if now-before < stallBytes {
				stalled()
				return
			}
			before = now
		}
	}()
	return func() { close(ended) }
}

// failure tells why a file was not accepted: the source ended early, or has
// something else.
func (a *arriving) failure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case a.ended != nil:
		return err
	}
	return fmt.Errorf("%w: %w", errLies, err)
}

// readBounded reads metadata to its end.
func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, ostree.MaxMetadataSize+1))
	if err == nil && len(data) > ostree.MaxMetadataSize {
		err = ostree.ErrTooLarge
	}
	return data, err
}

// readFile reads a metadata file of the repository.
func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := readBounded(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}
