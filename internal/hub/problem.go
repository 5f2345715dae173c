package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/durable"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/tree"
	"freshet/internal/role"
)

// statusOf is the HTTP status an error kind is sent with.
func statusOf(kind hubapi.ErrorKind) int {
	switch kind {
	case hubapi.ErrGeneric, hubapi.ErrWrongRepoState, hubapi.ErrWrongPublishedState:
		return http.StatusBadRequest
	case hubapi.ErrInvalidToken:
		return http.StatusUnauthorized
	case hubapi.ErrInsufficient:
		return http.StatusForbidden
	case hubapi.ErrNotFound:
		return http.StatusNotFound
	case hubapi.ErrConflict:
		return http.StatusConflict
	case hubapi.ErrTooLarge:
		return http.StatusRequestEntityTooLarge
	case hubapi.ErrNoSpace:
		return http.StatusInsufficientStorage
	case hubapi.ErrUnavailable:
		return http.StatusServiceUnavailable
	case hubapi.ErrInternal:
	}
	return http.StatusInternalServerError
}

// problem makes the error that a client sees as it is.
func problem(kind hubapi.ErrorKind, format string, args ...any) *hubapi.Error {
	return &hubapi.Error{Status: statusOf(kind), Kind: kind, Message: fmt.Sprintf(format, args...)}
}

func notFound(what string, id any) *hubapi.Error {
	return problem(hubapi.ErrNotFound, "there is no %s %v", what, id)
}

// errTruncated is a request body that ended early or is not what its headers
// say.
type errTruncated struct{ err error }

func (e errTruncated) Error() string { return "request body: " + e.err.Error() }
func (e errTruncated) Unwrap() error { return e.err }

// asProblem says what the client is told of err. Whatever it is not meant to
// see becomes an internal error without details; the log has them.
func asProblem(err error) *hubapi.Error {
	if e, ok := errors.AsType[*hubapi.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem(hubapi.ErrTooLarge, "the request's body exceeds %d bytes", e.Limit)
	}
	if e, ok := errors.AsType[errTruncated](err); ok {
		return problem(hubapi.ErrGeneric, "%s", e.Error())
	}
	if e, ok := errors.AsType[*catalog.WrongStateError](err); ok {
		p := problem(e.Kind, "%s", e.Message)
		p.CurrentState, p.ExpectedState = e.Current, e.Expected
		return p
	}
	if e, ok := errors.AsType[*catalog.FrozenError](err); ok {
		return problem(hubapi.ErrConflict, "%s", e)
	}
	if e, ok := errors.AsType[*tree.RefusalError](err); ok {
		p := problem(hubapi.ErrGeneric, "%s", err)
		p.Problems, p.MoreProblems = e.Problems, e.More
		return p
	}
	switch {
	case errors.Is(err, tree.ErrRefused):
		return problem(hubapi.ErrGeneric, "%s", err)
	case errors.Is(err, tree.ErrBusy):
		return problem(hubapi.ErrConflict, "%s", err)
	case errors.Is(err, tree.ErrBroken):
		return problem(hubapi.ErrUnavailable, "%s", err)
	case errors.Is(err, catalog.ErrNotFound), errors.Is(err, tree.ErrNotFound):
		return problem(hubapi.ErrNotFound, "%s", err)
	case errors.Is(err, catalog.ErrReviewed):
		return problem(hubapi.ErrInsufficient, "%s (scope %s)", err, auth.ScopeReviewCheck)
	case errors.Is(err, catalog.ErrInUse):
		return problem(hubapi.ErrGeneric, "%s", catalog.ErrInUse) // clients match on the exact text
	case noSpace(err):
		return problem(hubapi.ErrNoSpace, "the hub's disk is full")
	case storageAway(err):
		return problem(hubapi.ErrUnavailable, "the hub's object storage does not answer")
	case catalog.Away(err):
		return problem(hubapi.ErrUnavailable, "the hub's database does not answer")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return problem(hubapi.ErrUnavailable, "the request was given up")
	}
	return problem(hubapi.ErrInternal, "internal error; the hub's log has the cause")
}

// noSpace reports whether err comes from a full disk, be it in a file or in
// the database.
func noSpace(err error) bool {
	const sqliteFull = 13 // SQLITE_FULL, https://sqlite.org/rescode.html#full
	var code interface{ Code() int }
	return durable.IsNoSpace(err) || errors.As(err, &code) && code.Code()&0xff == sqliteFull
}

// statusClientGone stands in the record of a request whose client did not wait
// for the answer. Nobody receives it; nginx made the number known.
const statusClientGone = 499

// fail answers with what asProblem makes of err, and notes the reason.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		role.SetReason(w, r, "client-gone", err.Error())
		w.WriteHeader(statusClientGone)
		return
	}
	e := asProblem(err)
	role.SetReason(w, r, cmp.Or(e.Reason, string(e.Kind)), err.Error())
	h := w.Header()
	for _, name := range [...]string{"Etag", "Last-Modified", "Content-Encoding", "Location"} {
		h.Del(name)
	}
	if h.Get("Cache-Control") == "" || e.Status != http.StatusNotFound {
		h.Set("Cache-Control", "no-store")
	}
	switch e.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer") // RFC 9110, section 15.5.2
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "5")
	}
	writeJSON(w, e.Status, e)
}

// writeJSON answers with v. There is nobody to tell when that does not succeed.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // our own types do not fail to marshal
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// fileProblem is what the client of a file server is told of err.
func fileProblem(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrInvalid), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EISDIR):
		return notFound("file", path)
	}
	return err
}

// bodyError tells an end of the body that the client is at fault for from
// other errors.
func bodyError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errTruncated{errors.New("ends early")}
	}
	return errTruncated{errors.New(strings.TrimPrefix(err.Error(), "multipart: "))}
}

func isNotFound(err error) bool {
	e, ok := errors.AsType[*hubapi.Error](err)
	return ok && e.Kind == hubapi.ErrNotFound
}
