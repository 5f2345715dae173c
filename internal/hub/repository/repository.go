package repository

import (
	"context"
	"errors"
	"io"
	"os"

	"freshet/internal/ostree"
)

// Repository is an open repository. Its methods may be called concurrently; one
// Publish runs at a time, the next waits.
type Repository struct {
	opt Options
}

// Pending is a publish that was completed without anybody knowing: the process
// ended between the change of the files and the end of the commit function, or
// Open found the files half changed and completed them.
type Pending struct {
	Result

	confirm func() error
}

// Confirm forgets the publish. It is called when what the commit function would
// have done is done.
func (p Pending) Confirm() error { return p.confirm() }

// Open opens the repository, or creates an empty one. It removes what a killed
// process left behind, completes publishes that had begun to change the
// pointers, and reads the commits that the cache does not know. The pending
// publishes are in the order in which they happened.
func Open(ctx context.Context, opt Options, cache Cache) (*Repository, []Pending, error) {
	return nil, nil, errors.ErrUnsupported
}

// Close waits for a running publish and frees the files.
func (r *Repository) Close() error { return errors.ErrUnsupported }

// OpenFile opens a file of the repository by its slash-separated path. Pointers
// are those of one publish: a client that reads summary and summary.sig one
// after the other may get different publishes, but a publish appears whole. An
// absent file, a folder and a path that leads elsewhere are fs.ErrNotExist.
func (r *Repository) OpenFile(path string) (*os.File, error) { return nil, errors.ErrUnsupported }

// Heads returns the number of refs, appstream branches included.
func (r *Repository) Heads() int { return 0 }

// Build opens the folder of a build and creates it when absent. All callers get
// the same Build.
func (r *Repository) Build(id int64) (*Build, error) { return nil, errors.ErrUnsupported }

// Build is an upload on its way into a repository. Its methods may be called
// concurrently; Commit and Remove wait for the uploads in progress.
type Build struct {
	repo *Repository
	id   int64
}

// Missing returns those of the objects that have to be uploaded: neither the
// build nor the repository has them. The order stays.
func (b *Build) Missing(ctx context.Context, wanted []ostree.ObjectName) ([]ostree.ObjectName, error) {
	return nil, errors.ErrUnsupported
}

// PutObject stores an object and returns its stored size. It hashes what it
// reads; content that does not belong to the name leaves nothing behind and
// gives an *ostree.MismatchError or *ostree.ObjectError. An object that is there
// already is left alone, and r is not read.
func (b *Build) PutObject(ctx context.Context, name ostree.ObjectName, r io.Reader) (stored int64, err error) {
	return 0, errors.ErrUnsupported
}

// PutDelta stores a file of a static delta. It is checked by Commit.
func (b *Build) PutDelta(ctx context.Context, name ostree.DeltaFile, r io.Reader) (stored int64, err error) {
	return 0, errors.ErrUnsupported
}

// Commit checks that everything that the refs need is there, makes the commits
// that can be published, and lets the build be installed from for testing. It
// returns the new commits. It may be called again, with the same or other refs.
// An object that is not there is a *MissingError.
func (b *Build) Commit(ctx context.Context, req CommitRequest, log io.Writer) (refs map[string]string, err error) {
	return nil, errors.ErrUnsupported
}

// Open opens a file of the build by its slash-separated path; objects that the
// build shares with the repository come from there. Errors are those of
// Repository.OpenFile.
func (b *Build) Open(path string) (*os.File, error) { return nil, errors.ErrUnsupported }

// Remove deletes the build. What was published of it stays.
func (b *Build) Remove() error { return errors.ErrUnsupported }

// Publish brings builds into the repository: in one step, or not at all. When the
// files are in place it calls commit, which writes the result down for good; when
// that returns an error, Publish does too, and the next Open returns the result as
// Pending. A request that cannot be published, for example because an
// object is missing, is in Result.Failed and does not hold up the others; commit
// is called when at least one request is left, even if it changes nothing.
func (r *Repository) Publish(ctx context.Context, requests []PublishRequest, log io.Writer, commit func(Result) error) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// MissingError says that an object that a ref needs is neither in the build nor
// in the repository.
type MissingError struct {
	Ref  string
	Path string // in the tree of the ref; empty for the commit itself
	Name ostree.ObjectName
}

func (e *MissingError) Error() string {
	where := e.Ref
	if e.Path != "" {
		where += ": " + e.Path
	}
	return where + ": object " + e.Name.String() + " is missing"
}
