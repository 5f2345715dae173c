package ostree

import (
	"errors"
	"fmt"
)

var (
	// ErrName is wrapped when a name (checksum, object, ref, delta) is not well-formed.
	ErrName = errors.New("malformed name")
	// ErrMalformed is wrapped when bytes are not what the format demands.
	ErrMalformed = errors.New("malformed data")
	// ErrTooLarge is wrapped when something exceeds the bound set for its kind.
	ErrTooLarge = errors.New("too large")
	// ErrUnsupported is wrapped for what is well-formed but not handled, such
	// as a repository that is not in archive mode.
	ErrUnsupported = errors.New("unsupported")
)

// MismatchError tells that the content of an object has another checksum than
// its name says.
type MismatchError struct {
	Name   ObjectName // as it was called
	Actual Checksum   // what its bytes have
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("object %s: checksum mismatch: content has %s", e.Name, e.Actual)
}

// ObjectError tells which object is not well-formed, or could not be read.
type ObjectError struct {
	Name ObjectName
	Err  error
}

func (e *ObjectError) Error() string { return fmt.Sprintf("object %s: %v", e.Name, e.Err) }

// Unwrap returns the reason: it wraps [ErrMalformed] or [ErrTooLarge] when the
// bytes are at fault, otherwise it is an error of the reader.
func (e *ObjectError) Unwrap() error { return e.Err }

// Reason says what is wrong with an object, for a text that names it already: of an
// error that wraps a [*MismatchError] or an [*ObjectError] what these tell besides the
// name, and the text of any other.
func Reason(err error) string {
	if e, ok := errors.AsType[*MismatchError](err); ok {
		return "its content has the checksum " + e.Actual.String()
	}
	if e, ok := errors.AsType[*ObjectError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
