package bucket

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Show makes the files in the bucket what the last change says. While the object
// store does not let it, it waits. When all is done it removes records that nobody needs.
func (c *Copy) Show(ctx context.Context, change *Change) error {
	c.mu.Lock()
	c.withdrawn = nil
	c.mu.Unlock()
	return c.insist(ctx, func() error { return c.show(ctx, change) })
}

func (c *Copy) show(ctx context.Context, change *Change) error {
	// What this process sees before it finds that it leads, whoever takes over changes
	// after that: then the writes below match no more.
	seen, err := c.look(ctx, change.paths())
	if err == nil {
		err = c.Leads(ctx)
	}
	if err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range change.Index {
		group.Go(func() error { return c.showFile(inner, change, &change.Index[i], seen) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i := range change.Pointers {
		if err := c.showFile(ctx, change, &change.Pointers[i], seen); err != nil {
			return err
		}
	}
	group, inner = errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, path := range change.Remove {
		group.Go(func() error { return c.take(inner, path, seen[path]) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return c.tidy(ctx)
}

func (c *Copy) showFile(ctx context.Context, change *Change, f *File, seen map[string]Object) error {
	if f.Gone {
		return c.take(ctx, f.Path, seen[f.Path])
	}
	return c.put(ctx, f.Path, change.Content(f), seen[f.Path], true)
}

// look tells what is there of files, by their paths.
func (c *Copy) look(ctx context.Context, paths []string) (map[string]Object, error) {
	there := make([]Object, len(paths))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, path := range paths {
		group.Go(func() (err error) {
			there[i], err = c.stat(inner, path)
			return err
		})
	}
	err := group.Wait()
	seen := make(map[string]Object, len(paths))
	for i, path := range paths {
		seen[path] = there[i]
	}
	return seen, err
}

// stat describes a file; its version is [None] when it is not there.
func (c *Copy) stat(ctx context.Context, path string) (Object, error) {
	there, err := c.objects.Stat(ctx, c.key(path))
	if errors.Is(err, fs.ErrNotExist) {
		return Object{}, nil
	}
	return there, err
}

// maxConflicts is how often a file is tried that somebody else writes, while the
// manifest says that this process leads.
const maxConflicts = 5

// put makes body the content of a file that was seen there.
func (c *Copy) put(ctx context.Context, path string, body *io.SectionReader, there Object, leading bool) error {
	etag, err := ETag(body)
	if err != nil {
		return err
	}
	return c.over(ctx, path, there, leading, func(there Object) error {
		if there.Version == etag && there.Size == body.Size() {
			return nil
		}
		_, err := c.objects.Replace(ctx, c.key(path), body, there.Version, c.headers(path))
		return err
	})
}

// take removes a file that was seen there.
func (c *Copy) take(ctx context.Context, path string, there Object) error {
	return c.over(ctx, path, there, true, func(there Object) error {
		if there.Version == None {
			return nil
		}
		return c.objects.Remove(ctx, c.key(path), there.Version)
	})
}

// over does something with a file that was seen there. On a conflict who leads looks
// again; anybody else gives way.
func (c *Copy) over(ctx context.Context, path string, there Object, leading bool, do func(there Object) error) error {
	for try := 1; ; try++ {
		err := do(there)
		if !errors.Is(err, ErrConflict) || !leading || try == maxConflicts {
			return err
		}
		if there, err = c.stat(ctx, path); err == nil {
			err = c.Leads(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// Leads asks the manifest whether this process leads.
func (c *Copy) Leads(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost {
		return ErrOvertaken
	}
	err := c.reread(ctx)
	c.lost = errors.Is(err, ErrOvertaken)
	return err
}

// Remove removes files of the copy, if this process leads, without a look at them: for
// payload, which is the same whoever wrote it. Between the look who leads and the removal
// is the time of a request; files that somebody else counts on since then are lost.
func (c *Copy) Remove(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	if err := c.Leads(ctx); err != nil {
		return err
	}
	keys := make([]string, len(paths))
	for i, path := range paths {
		keys[i] = c.key(path)
	}
	return c.objects.Delete(ctx, keys)
}

// tidy removes the records of changes that the manifest does not name.
func (c *Copy) tidy(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var old []string
	err := c.objects.List(ctx, c.prefix+changePrefix, func(o Object) error {
		named := func(r ChangeRef) bool { return c.prefix+r.Key == o.Key }
		if !slices.ContainsFunc(c.manifest.Changes, named) {
			old = append(old, o.Key)
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return c.objects.Delete(ctx, old)
}
