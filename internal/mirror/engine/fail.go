package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"freshet/api/mirrorapi"
	"freshet/internal/closure"
	"freshet/internal/durable"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
	"freshet/internal/rsync"
)

// failure is why a repository, or all of a project, stays as it is.
type failure struct {
	reason mirrorapi.Reason
	path   string // of the file that it is about; may be empty
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(reason mirrorapi.Reason, path string, err error) *failure {
	return &failure{reason: reason, path: path, err: err}
}

// asFailure finds the word for an error.
func asFailure(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	reason := mirrorapi.ReasonInternal
	if word, ok := words()[kind.Reason(err)]; ok {
		reason = word
	}
	path := ""
	if f, ok := errors.AsType[*closure.FileError](err); ok {
		path = f.Path
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		path = p.Path
		if reason == mirrorapi.ReasonInternal {
			reason = mirrorapi.ReasonDisk
		}
	}
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) { // in the tree there is what the upstream has had a moment ago
		err = fmt.Errorf("a file has become a folder at the upstream, or a folder a file: %w", err)
		reason = mirrorapi.ReasonInconsistent
	}
	switch {
	case errors.Is(err, context.Canceled):
		reason = mirrorapi.ReasonCanceled
	case errors.Is(err, context.DeadlineExceeded):
		reason = mirrorapi.ReasonTimeout
	case errors.Is(err, rsync.ErrAbsent), errors.Is(err, rsync.ErrOld):
		reason = mirrorapi.ReasonProgram
	case errors.Is(err, fetch.ErrUnreachable), reason == mirrorapi.ReasonInternal && errors.Is(err, fs.ErrPermission):
		reason = mirrorapi.ReasonUpstream
	case errors.Is(err, fetch.ErrManifest), reason == mirrorapi.ReasonInternal && errors.Is(err, fetch.ErrAnswer):
		reason = mirrorapi.ReasonMetadata
	case durable.IsNoSpace(err):
		reason = mirrorapi.ReasonNoSpace
	case errors.Is(err, closure.ErrInconsistent):
		reason = mirrorapi.ReasonInconsistent
	}
	return fail(reason, path, err)
}

// words are the reasons for what package kind has a word for.
func words() map[string]mirrorapi.Reason {
	return map[string]mirrorapi.Reason{
		"absent":        mirrorapi.ReasonInconsistent,
		"inconsistent":  mirrorapi.ReasonInconsistent,
		"unsigned":      mirrorapi.ReasonSignature,
		"bad-signature": mirrorapi.ReasonSignature,
		"rollback":      mirrorapi.ReasonRollback,
		"expired":       mirrorapi.ReasonExpired,
		"unreadable":    mirrorapi.ReasonMetadata,
		"no-listing":    mirrorapi.ReasonMetadata,
	}
}

// isRefusal reports whether a reason is one of those that wait for an operator.
func isRefusal(r mirrorapi.Reason) bool {
	return slices.Contains([]mirrorapi.Reason{
		mirrorapi.ReasonSignature, mirrorapi.ReasonRollback, mirrorapi.ReasonShrink, mirrorapi.ReasonExpired,
	}, r)
}

// isPassing reports whether a reason is one that may be gone in a moment: the upstream is
// being written to.
func isPassing(r mirrorapi.Reason) bool { return r == mirrorapi.ReasonInconsistent }

// isAll reports whether a reason is one for which nothing of the project can go on.
func isAll(r mirrorapi.Reason) bool {
	return slices.Contains([]mirrorapi.Reason{
		mirrorapi.ReasonUpstream, mirrorapi.ReasonNoSpace, mirrorapi.ReasonDisk, mirrorapi.ReasonProgram,
		mirrorapi.ReasonTimeout, mirrorapi.ReasonCanceled, mirrorapi.ReasonInternal,
	}, r)
}
