package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"syscall"
	"time"

	"freshet/internal/closure"
)

// Want is a file that is wanted.
type Want struct {
	// Path is relative to the root of the tree, clean, in any bytes.
	Path string
	// Size is in bytes; -1: not known.
	Size int64
	// Sum is what is told of its content; the zero value: nothing.
	Sum closure.Sum
	// ModTime is what is told of its time. A server that tells another one knows better.
	// Zero: not known.
	ModTime time.Time
}

// Outcome is what became of a file: one word, for reports and metrics.
type Outcome string

// The outcomes.
const (
	// Fetched: it is there, and it is the one that is wanted.
	Fetched Outcome = "fetched"
	// Absent: the source has no such file.
	Absent Outcome = "absent"
	// Denied: the source has it, and does not give it to us.
	Denied Outcome = "denied"
	// Wrong: the source has another file under this name, by size or checksum.
	Wrong Outcome = "wrong"
	// Failed: something was in the way, and it may come another time.
	Failed Outcome = "failed"
)

// Result is what became of a wanted file.
type Result struct {
	Want    Want
	Outcome Outcome
	// From is the URL of the source that it came from, or that had the last word.
	From string
	// Size, ModTime and SHA256 are those of the file that was fetched, which is at
	// Want.Path below the folder. ModTime has whole seconds.
	Size    int64
	ModTime time.Time
	SHA256  [32]byte
	// Err says why it was not.
	Err error
}

// Entry is a file, folder or link of a listing.
type Entry struct {
	Path string
	// Type is 'f' for a file, 'd' for a folder, 'l' for a link.
	Type byte
	// Size and ModTime are those of a file; -1 and zero: not told.
	Size    int64
	ModTime time.Time
	// Sum is the checksum of a file, the zero value if none is told.
	Sum closure.Sum
	// Target is where a link leads, "" if that is not told.
	Target string
	// Private is true for what not everybody may read, or walk through.
	Private bool
}

// Validator is what is known of a file that was read before.
type Validator struct {
	ETag    string
	ModTime time.Time
	Size    int64
}

// File is a small file that was read.
type File struct {
	Data []byte
	// Same is true if the source says that it is the one that the validator was of; there is no Data then.
	Same bool
	// Validator is for the next time.
	Validator Validator
}

// ErrUnreachable is among the errors of a source that did not answer, or not in time.
// What it has is not known.
var ErrUnreachable = errors.New("the source cannot be reached")

// ErrAnswer is among the errors of a source that answers, and with what is of no use: with a
// page in the place of a listing, for instance.
var ErrAnswer = errors.New("the source answers with what is of no use")

// answered is an error of who reads what a source answers. What is not known otherwise is
// the answer's fault.
func answered(ctx context.Context, err error) error {
	_, local := errors.AsType[*fs.PathError](err)
	for _, known := range []error{ErrUnreachable, fs.ErrNotExist, fs.ErrPermission, syscall.ENOSPC} {
		local = local || errors.Is(err, known)
	}
	if err == nil || local || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrAnswer, err)
}

// ErrSlow is among the errors of a source that was given up since too little came.
var ErrSlow = errors.New("the source is too slow")

// Source is a place that has the files of a project. It may be used by several goroutines
// at once.
type Source interface {
	// URL is the one it was opened with.
	URL() string
	// Read reads a file of at most limit bytes, unless it is still the one that v is of;
	// the zero Validator is of none. The error is [fs.ErrNotExist] if there is no such
	// file, [fs.ErrPermission] if it is not for us, and [ErrUnreachable].
	Read(ctx context.Context, path string, limit int64, v Validator) (File, error)
	// List lists the tree below a folder, "." being all, in no particular order. The
	// listing is all there is unless an error ends it.
	List(ctx context.Context, folder string) iter.Seq2[Entry, error]
	// Fetch fetches files and reports each of them once, in any order, from one goroutine at
	// a time; report must not take long. The error is one of the source as a whole,
	// [ErrUnreachable] or [ErrSlow] for instance; the files that it hits are reported
	// nevertheless, as [Failed]. It is the cause of the end of ctx if that ended it, and
	// [syscall.ENOSPC] if the disk is full.
	Fetch(ctx context.Context, o Order, report func(Result)) error
}

// Order is what a source is to fetch.
type Order struct {
	// Folder is an absolute path, see [Job.Folder].
	Folder string
	// Wants has each path once.
	Wants []Want
	// Least is how many bytes per second must come, over half a minute, for the source
	// not to be given up with [ErrSlow]; 0: any number. Time in which nothing could come
	// because the budget was used up does not count.
	Least int64
	// Misses is how many files in a row a sibling may lack before it is not asked for the
	// others, which are [Failed] then; 0: 64.
	Misses int
	// Progress counts what comes in, if it is set.
	Progress *Progress
}
