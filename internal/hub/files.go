package hub

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"freshet/internal/layout"
)

// file is what the file servers serve: an open regular file that can be read
// from any place.
type file interface {
	fs.File
	io.Seeker
}

// serveFile answers with an open file, and closes it. Conditions, ranges and
// HEAD are those of RFC 9110; etag is a strong validator with its quotes. The
// content is never compressed: what needs it is compressed already, and its
// checksum is of the bytes as they are. Unless the header has a Cache-Control
// already, it is that of the path.
func serveFile(w http.ResponseWriter, r *http.Request, f file, etag string, modified time.Time) error {
	defer func() { _ = f.Close() }()
	h := w.Header()
	h.Set("Content-Type", layout.MediaType(r.URL.Path))
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", cacheControl(layout.PolicyOf(r.URL.Path)))
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Etag", etag)
	http.ServeContent(w, r, "", modified, f)
	return nil
}

// serveOpened is serveFile with a validator of size and time, for files that
// are only ever replaced by new ones.
func serveOpened(w http.ResponseWriter, r *http.Request, opened fs.File) error {
	info, err := opened.Stat()
	f, seeks := opened.(file)
	switch {
	case err != nil:
		err = fmt.Errorf("stat: %w", err)
	case info.IsDir():
		err = missingFile(w, r)
	case !info.Mode().IsRegular() || !seeks:
		err = errors.New("not a regular file")
	}
	if err != nil {
		_ = opened.Close()
		return err
	}
	return serveFile(w, r, f, fileTag(info), info.ModTime())
}

// fileTag is a validator made of size and time.
func fileTag(info fs.FileInfo) string {
	return `"` + strconv.FormatInt(info.Size(), 36) + "-" + strconv.FormatInt(info.ModTime().UnixNano(), 36) + `"`
}

// cacheControl is the Cache-Control of a file that is there. Caches that
// follow the event log go by the same policy; this is for the others.
func cacheControl(p layout.Policy) string {
	if p.Ruled() && p.Immutable {
		return p.ClientCacheControl()
	}
	return mutableFile
}

const (
	// mutableFile is for files that a publish may replace: shared caches may
	// use them for as long as [layout] lets edges that do not follow the events,
	// and while the hub is away.
	mutableFile = "public, max-age=30, s-maxage=60, stale-while-revalidate=60, stale-if-error=86400"
	// immutable is for what never changes under its URL.
	immutable = "public, max-age=31536000, immutable"
)

// missingFile is the answer for a path at which there is no file. A cache may
// remember it for the few seconds in which it can hardly become wrong.
func missingFile(w http.ResponseWriter, r *http.Request) error {
	if w.Header().Get("Cache-Control") != "" {
		return notFound("file", r.URL.Path)
	}
	seconds := int(layout.PolicyOf(r.URL.Path).Negative.Seconds())
	w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(min(seconds, 5)))
	return notFound("file", r.URL.Path)
}

// fileError turns the error of opening a file into the answer.
func fileError(w http.ResponseWriter, r *http.Request, err error) error {
	if err := fileProblem(r.URL.Path, err); !isNotFound(err) {
		return err
	}
	return missingFile(w, r)
}

// validPath reports whether the path in a URL names a file, relative to the
// root of what is served: no empty, "." or ".." elements, nothing that could
// mean a path to the system and not to us.
func validPath(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, "\x00\\")
}
