package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"freshet/internal/durable"
	"freshet/internal/hub/repolock"
	"freshet/internal/ostree"
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

// NewHTTPSource returns the repository at an http or https URL.
func NewHTTPSource(base string) (*HTTPSource, error) {
	files, err := repoweb.New(context.Background(), base, "")
	return &HTTPSource{files}, err
}

// Open implements [Source].
func (s *HTTPSource) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	return s.files.Get(ctx, path)
}

// errNoRepair says that nobody wanted a repair.
var errNoRepair = errors.New("there is nothing to repair it from")

// errUnnamed says that the name of a file does not tell its content.
var errUnnamed = errors.New("its name does not tell what is in it")

// repairObject fetches an object and puts it in the place of what is there.
func (c *checker) repairObject(ctx context.Context, name ostree.ObjectName) error {
	if c.opt.Repair == nil || c.opt.DryRun {
		return errNoRepair
	}
	return repairObject(ctx, c.dir, c.opt.Repair, name, c.verifyDetached)
}

// repairObject fetches an object from a source into the repository. Detached
// metadata, which has no name of its own, is right when detached says so.
func repairObject(ctx context.Context, dir durable.Dir, from Source, name ostree.ObjectName, detached func(ostree.Checksum, []byte) error) error {
	return repairFile(ctx, dir, from, name.Path(), func(r io.Reader) error {
		if name.Type != ostree.TypeCommitMeta {
			_, err := ostree.VerifyObject(name, r)
			return err
		}
		data, err := readBounded(r)
		if err != nil {
			return err
		}
		return detached(name.Checksum, data)
	})
}

// repairFile fetches a file from a source into the repository: whole and durable,
// once verify has read it to its end and accepted it, or not at all.
func repairFile(ctx context.Context, dir durable.Dir, from Source, file string, verify func(io.Reader) error) (err error) {
	body, err := from.Open(ctx, file)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // read only
	lock, err := repolock.Shared(ctx, dir.Root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if err := dir.MkdirAll(path.Dir(file), 0o755); err != nil {
		return err
	}
	return dir.Write(file, 0o644, func(w io.Writer) error {
		tee := io.TeeReader(body, w)
		if err := verify(tee); err != nil {
			return fmt.Errorf("what the source has: %w", err)
		}
		_, err := io.Copy(io.Discard, tee)
		return err
	})
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
