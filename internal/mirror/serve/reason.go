package serve

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"

	"freshet/internal/page"
	"freshet/internal/role"
)

// Reason is why a request fails, in one word: the same in header, log and metric.
type Reason string

// The reasons.
const (
	NoProject Reason = "no-project" // there is no project of that name
	NotSynced Reason = "not-synced" // nothing of the project is here yet
	Drained   Reason = "drained"    // the project was taken off the disk, which was full
	NotFound  Reason = "not-found"  // the project has no such file
	BadMethod Reason = "bad-method" // files are only read
	BadHash   Reason = "bad-hash"   // what stands for a SHA-256 is none
	// GenerationGone: a generation that a mirror downstream asks for has ended.
	GenerationGone Reason = "generation-gone"
	// Busy: too many clients are sent long listings.
	Busy       Reason = "busy"
	DiskFailed Reason = "disk-failed" // the file is there, and cannot be read
	ClientGone Reason = "client-gone" // before it had all of it
)

// retryAfter is what a client is told that comes before the first sync has ended, in
// seconds.
const retryAfter = "60"

// fail answers with what is wrong: a page for browsers, a line for programs.
func (s *Site) fail(w http.ResponseWriter, r *http.Request, status int, why Reason, text string) {
	role.SetReason(w, r, string(why), text)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		// Programs; ostree takes a page that is longer than the commit for a wrong commit.
		http.Error(w, text, status)
		return
	}
	data := problem{Title: http.StatusText(status), Text: text, Path: r.URL.Path}
	if err := s.pages.Render(w, status, "problem", page.Frame{Title: data.Title}, data); err != nil {
		s.opts.Log.ErrorContext(r.Context(), "page was not made", slog.Any("error", err))
		http.Error(w, text, status)
	}
}

// problem is what the page of a failure tells.
type problem struct{ Title, Text, Path string }

// failOpen answers when a file cannot be opened.
func (s *Site) failOpen(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		s.fail(w, r, http.StatusNotFound, NotFound, "There is no such file on this mirror.")
		return
	}
	s.opts.Log.ErrorContext(r.Context(), "a file cannot be read", slog.String("path", r.URL.Path), slog.Any("error", err))
	s.fail(w, r, http.StatusInternalServerError, DiskFailed, "The file is here and cannot be read: please use another mirror.")
}
