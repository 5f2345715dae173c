package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/pause"
)

// Copy is the copy of one repository. Its methods may be called concurrently, but
// for the steps of a change, which come one after the other.
type Copy struct {
	// Waits is told each time that a change is decided, or may be, and cannot be brought
	// to its end now; it is tried again. Nil: nobody is. It is set before the first use.
	Waits func(cause error)

	objects Objects
	prefix  string
	headers func(path string) Headers

	mu        sync.Mutex
	manifest  *Manifest // as this process wrote it last; nil: there is none
	version   Version   // of manifest
	lost      bool      // somebody else took over
	confirmed map[int64]bool
	withdrawn *Manifest // what it was before the last change was proposed
}

// atOnce is how many requests are made at the same time.
const atOnce = 16

// New is the copy below a prefix, which is empty or ends in a slash. headers says
// what the object store tells of a file; nil for nothing.
func New(objects Objects, prefix string, headers func(path string) Headers) *Copy {
	if headers == nil {
		headers = func(string) Headers { return Headers{} }
	}
	return &Copy{objects: objects, prefix: prefix, headers: headers, confirmed: make(map[int64]bool)}
}

// Take makes this process the one that may change the copy, and returns the
// manifest; nil when there is no copy yet, see [Copy.Begin]. Fence is the number of
// its leadership, 0 for the next. When a higher number leads, or the same, the
// error is [ErrOvertaken].
func (c *Copy) Take(ctx context.Context, fence int64) (*Manifest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, version, err := c.read(ctx)
	if err != nil {
		return nil, err
	}
	c.manifest, c.version, c.lost, c.withdrawn = m, version, false, nil
	clear(c.confirmed)
	if m == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	if fence == 0 {
		fence = m.Fence + 1
	}
	if m.Fence >= fence {
		c.lost = true
		return nil, fmt.Errorf("%w: %d was overtaken by %d", ErrOvertaken, fence, m.Fence)
	}
	next := *m
	next.Fence = fence
	if err := c.write(ctx, next); err != nil {
		return nil, err
	}
	return c.manifest, nil
}

// Begin makes the manifest of a copy that is not there yet, once all files were
// uploaded.
func (c *Copy) Begin(ctx context.Context, id string, fence int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write(ctx, Manifest{ID: id, Fence: max(fence, 1)})
}

// Fence is the number of the last leadership; 0 when there is no copy.
func (c *Copy) Fence(ctx context.Context) (int64, error) {
	m, _, err := c.read(ctx)
	if err != nil || m == nil {
		return 0, err
	}
	return m.Fence, nil
}

// Upload is a file to be created in the copy.
type Upload struct {
	Path string
	// Open opens its content.
	Open func() (*os.File, error)
	// New says that nothing of that name counts: what is there was left by a change
	// that was not decided, and is replaced.
	New bool
}

// Upload creates files. Those that are there stay as they are, unless they are new.
func (c *Copy) Upload(ctx context.Context, files []Upload) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, file := range files {
		if inner.Err() != nil {
			break
		}
		group.Go(func() (err error) {
			f, err := file.Open()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			info, err := f.Stat()
			if err != nil {
				return err
			}
			body := io.NewSectionReader(f, 0, info.Size())
			created, err := c.objects.Create(inner, c.key(file.Path), body, c.headers(file.Path))
			if err != nil || created || !file.New {
				return err
			}
			return c.overwrite(inner, file.Path, body, true)
		})
	}
	return errors.Join(group.Wait(), context.Cause(ctx))
}

// Overwrite writes a file whatever is there, once over what it saw: for payload that is
// damaged. Who does not lead may, too.
func (c *Copy) Overwrite(ctx context.Context, path string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return c.overwrite(ctx, path, io.NewSectionReader(f, 0, info.Size()), false)
}

// overwrite makes body the content of a file; leading demands that this process leads.
func (c *Copy) overwrite(ctx context.Context, path string, body *io.SectionReader, leading bool) error {
	there, err := c.stat(ctx, path)
	if err == nil && leading {
		err = c.Leads(ctx) // after the look: see show
	}
	if err != nil {
		return err
	}
	return c.put(ctx, path, body, there, leading)
}

// Serial is the number of the next change.
func (c *Copy) Serial() (id string, next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.manifest == nil {
		return "", 0
	}
	return c.manifest.ID, c.manifest.Serial + 1
}

// Propose decides a change, whose record is in the file record. An error that is
// [ErrUnknown] says that it may be decided; all others that it is not.
func (c *Copy) Propose(ctx context.Context, change *Change, record *os.File) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost || c.manifest == nil {
		return ErrOvertaken
	}
	info, err := record.Stat()
	if err != nil {
		return err
	}
	ref := ChangeRef{Serial: change.Serial, Key: fmt.Sprintf("%s%d-%s", changePrefix, change.Serial, NewID())}
	if _, err := c.objects.Create(ctx, c.prefix+ref.Key, io.NewSectionReader(record, 0, info.Size()), manifestHeaders); err != nil {
		return err
	}
	before := *c.manifest
	next := before
	next.Serial = change.Serial
	next.Changes = append(slices.DeleteFunc(slices.Clone(before.Changes), func(r ChangeRef) bool { return c.confirmed[r.Serial] }), ref)
	if err := c.write(ctx, next); err != nil {
		named := func(m *Manifest) bool { return slices.Contains(m.Changes, ref) }
		if err = c.settle(ctx, named, err); err != nil {
			return err
		}
	}
	c.withdrawn = &before
	return nil
}

// Sweep says in the manifest that files go that no change removes, and returns the name
// of that removal; [Copy.Remove] comes after it. A directory that knows another one has
// perhaps files that the copy lacks.
func (c *Copy) Sweep(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost || c.manifest == nil {
		return "", ErrOvertaken
	}
	next := *c.manifest
	next.Sweep = NewID()
	if err := c.write(ctx, next); err != nil {
		ctx, cancel := context.WithTimeout(ctx, settleTime) // others wait for who removes
		defer cancel()
		if err = c.settle(ctx, func(m *Manifest) bool { return m.Sweep == next.Sweep }, err); err != nil {
			return "", err
		}
	}
	return next.Sweep, nil
}

// Swept is the name of the last removal that the manifest knows.
func (c *Copy) Swept() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.manifest == nil {
		return ""
	}
	return c.manifest.Sweep
}

// settle finds out whether a manifest was written, which written tells from others, when
// its writing ended with cause. What may still be on its way then matches no more. The
// caller holds mu.
func (c *Copy) settle(ctx context.Context, written func(*Manifest) bool, cause error) error {
	if ctx.Err() != nil { // the last attempt gets its time
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer cancel()
	}
	before := *c.manifest
	err := c.insist(ctx, func() error {
		err := cause
		if !errors.Is(err, ErrOvertaken) {
			err = c.write(ctx, before)
		}
		if !errors.Is(err, ErrOvertaken) {
			return err
		}
		// Somebody wrote it: this process, or another one.
		switch err := c.reread(ctx); {
		case errors.Is(err, ErrOvertaken):
			cause = errors.Join(err, cause)
		case err != nil:
			return err
		case written(c.manifest):
			cause = nil
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, errors.Join(cause, err))
	}
	return cause
}

// reread reads the manifest after a conflict. One of this leadership was written by
// this process, and only the answer was lost; any other is [ErrOvertaken]. The caller
// holds mu.
func (c *Copy) reread(ctx context.Context) error {
	m, version, err := c.read(ctx)
	switch {
	case err != nil:
		return err
	case m == nil && c.manifest == nil:
		return nil
	case m == nil || c.manifest == nil || m.ID != c.manifest.ID || m.Fence != c.manifest.Fence:
		return ErrOvertaken
	}
	c.manifest, c.version, c.lost = m, version, false
	return nil
}

// settleTime is how long it is tried to find out what was decided, when nobody has
// time for it any more.
const settleTime = 10 * time.Second

// insist calls fn until the object store does what it is asked for, or ctx ends. A
// conflict, and what has another cause, ends it too.
func (c *Copy) insist(ctx context.Context, fn func() error) error {
	for wait := minPause; ; wait = min(2*wait, maxPause) {
		err := fn()
		if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Reason == Conflict || errors.Is(err, ErrOvertaken) {
			return err
		}
		if c.Waits != nil {
			c.Waits(err)
		}
		if !pause.For(ctx, wait) {
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

const (
	minPause = 200 * time.Millisecond
	maxPause = 15 * time.Second
)

// Withdraw takes the last change back, of which nothing was shown.
func (c *Copy) Withdraw(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.withdrawn == nil {
		return errors.New("there is no change to withdraw")
	}
	before := *c.withdrawn
	c.withdrawn = nil
	return c.insist(ctx, func() error {
		err := c.write(ctx, before)
		if errors.Is(err, ErrOvertaken) {
			if err = c.reread(ctx); err == nil {
				err = c.write(ctx, before)
			}
		}
		return err
	})
}

// Confirm says that the caller has done its part of a change. The manifest forgets
// it with a later change.
func (c *Copy) Confirm(serial int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.confirmed[serial] = true
}

// Changes returns the records that the manifest names, oldest first.
func (c *Copy) Changes() []ChangeRef {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.manifest == nil {
		return nil
	}
	return slices.Clone(c.manifest.Changes)
}

// Fetch reads the record of a change into an empty file, from which the change
// reads its contents.
func (c *Copy) Fetch(ctx context.Context, ref ChangeRef, to *os.File) (*Change, error) {
	size, err := c.copyTo(ctx, c.prefix+ref.Key, to)
	if err != nil {
		return nil, err
	}
	change, err := ReadChange(io.NewSectionReader(to, 0, size))
	if err == nil && change.Serial != ref.Serial {
		err = fmt.Errorf("%w: it is change %d", ErrMalformed, change.Serial)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref.Key, err)
	}
	return change, nil
}

// Download writes a file of the copy to w.
func (c *Copy) Download(ctx context.Context, path string, w io.Writer) (int64, error) {
	return c.copyTo(ctx, c.key(path), w)
}

// Open reads a file of the copy; without one the error is fs.ErrNotExist. The caller
// closes it.
func (c *Copy) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	body, _, err := c.objects.Open(ctx, c.key(path))
	return body, err
}

func (c *Copy) copyTo(ctx context.Context, key string, w io.Writer) (int64, error) {
	body, about, err := c.objects.Open(ctx, key)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w, body)
	if err = errors.Join(err, body.Close()); err == nil && n != about.Size {
		err = fmt.Errorf("%s: %w: %d of %d bytes", key, io.ErrUnexpectedEOF, n, about.Size)
	}
	return n, err
}

// List calls fn for the files of the copy, in the order of their paths.
func (c *Copy) List(ctx context.Context, fn func(path string, about Object) error) error {
	return c.objects.List(ctx, c.prefix, func(o Object) error {
		path := strings.TrimPrefix(o.Key, c.prefix)
		if strings.HasPrefix(path, reserved) || !fs.ValidPath(path) {
			return nil
		}
		return fn(path, o)
	})
}

func (c *Copy) key(path string) string { return c.prefix + path }
