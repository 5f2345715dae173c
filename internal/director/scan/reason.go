package scan

import (
	"context"
	"errors"

	"freshet/internal/inventory"
)

// Reason is the one word why a scan failed.
type Reason string

// The reasons.
const (
	Unreachable Reason = "unreachable" // no connection
	Silent      Reason = "silent"      // nothing came for too long
	Refused     Reason = "refused"     // the server says no, or that there is no such place
	Moved       Reason = "moved"       // it redirects to elsewhere
	BadListing  Reason = "bad_listing" // it cannot be understood, or is not whole
	Shrunk      Reason = "shrunk"      // it lacks so much that the next one is awaited
	TooLong     Reason = "too_long"    // it was not done in the time that it may take
	Push        Reason = "push"        // what was pushed was refused
	Setup       Reason = "setup"       // something is missing here
	Other       Reason = "other"
)

// failure is an error with its reason.
type failure struct {
	reason Reason
	err    error
}

func fail(reason Reason, err error) error { return &failure{reason, err} }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// errTooLong ends a scan after [Options.Longest].
var errTooLong = errors.New("it was not done in the time that it may take")

// reasonOf is the reason of a scan's error.
func reasonOf(err error) Reason {
	f, ok := errors.AsType[*failure](err)
	switch {
	case errors.Is(err, errTooLong):
		return TooLong
	case errors.Is(err, inventory.ErrShrunk):
		return Shrunk
	case errors.Is(err, inventory.ErrTooMany):
		return BadListing
	case ok:
		return f.reason
	case errors.Is(err, context.DeadlineExceeded):
		return Silent
	}
	return Other
}
