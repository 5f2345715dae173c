package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Version names one content of an object: its ETag without quotes. None, "", is that
// of an object that is not there.
type Version string

// None is the version of an object that is not there.
const None Version = ""

// Object describes an object.
type Object struct {
	Key     string
	Size    int64
	Version Version
}

// Headers are what the object store says of an object when it is fetched.
type Headers struct {
	ContentType  string // "" is application/octet-stream
	CacheControl string // "" is none
}

// Objects is an object store with conditional writes. Methods may be called
// concurrently. They repeat what may pass by itself for a while; errors are those of
// this package, or fs.ErrNotExist for an object that is not there. A write is
// durable, and seen by everybody, when the method returns.
type Objects interface {
	// Create makes an object. If there is one with this key it stays, and created is
	// false.
	Create(ctx context.Context, key string, body *io.SectionReader, h Headers) (created bool, err error)
	// Replace writes an object whose version is was, otherwise it is [ErrConflict].
	// When the answer to an attempt was lost, and the object has the content of body,
	// it was written.
	Replace(ctx context.Context, key string, body *io.SectionReader, was Version, h Headers) (Version, error)
	// Stat describes an object.
	Stat(ctx context.Context, key string) (Object, error)
	// Open reads an object. The caller closes body.
	Open(ctx context.Context, key string) (body io.ReadCloser, about Object, err error)
	// Remove removes an object whose version is was, otherwise it is [ErrConflict].
	// That it is not there is no error. Servers that know no conditions on removals
	// remove it in any case.
	Remove(ctx context.Context, key string, was Version) error
	// Delete removes objects, whatever they are. That one is not there is no error.
	Delete(ctx context.Context, keys []string) error
	// List calls fn for the objects whose keys begin with prefix, in the order of
	// their keys, until fn returns an error, which it returns.
	List(ctx context.Context, prefix string, fn func(Object) error) error
}

// Reason is why an object store did not do what it was asked for, in one word.
type Reason string

// The reasons.
const (
	Away     Reason = "storage-away"     // no answer, or one that says: later
	Denied   Reason = "storage-denied"   // the credentials are wrong, or do not suffice
	Conflict Reason = "storage-conflict" // somebody else wrote it
	Refused  Reason = "storage-refused"  // any other refusal
)

// Error is what an object store, or the way there, answered.
type Error struct {
	Op     string // "put", "get", …
	Key    string // as in the bucket
	Reason Reason
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("storage: %s %s: %s: %v", e.Op, e.Key, e.Reason, e.Err)
}

// Unwrap returns what is behind the error.
func (e *Error) Unwrap() error { return e.Err }

// Is lets errors.Is find [ErrConflict] and [ErrAway].
func (e *Error) Is(target error) bool {
	return target == ErrConflict && e.Reason == Conflict || target == ErrAway && e.Reason == Away
}

var (
	// ErrConflict says that an object is not what the writer took it for.
	ErrConflict = errors.New("the object was changed by somebody else")
	// ErrAway says that the object store does not answer now. It passes.
	ErrAway = errors.New("the object store is away")
	// ErrOvertaken says that another process leads the copy by now.
	ErrOvertaken = errors.New("another process writes to this prefix of the bucket")
	// ErrUnknown says that it cannot be told whether a change was decided; who takes
	// over next finds out.
	ErrUnknown = errors.New("it is not known whether the change was decided")
	// ErrMalformed says that an object of this package's own is not one.
	ErrMalformed = errors.New("malformed")
)
