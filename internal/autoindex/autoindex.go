// Package autoindex reads the listings of folders that web servers make: HTML of Apache,
// nginx, lighttpd, Caddy and others that look like them, and JSON of nginx and Caddy.
//
// No two servers write the same HTML, and many are dressed up. What they have in common
// is read: a link to each file, and in the text after it a time and a size.
package autoindex

import (
	"errors"
	"io"
	"mime"
	"net/url"
	"path"
	"strings"
	"time"
)

// Entry is a file or a folder of a listing.
type Entry struct {
	// Name is what it is called, without a slash.
	Name   string
	Folder bool
	// Size is in bytes, if the listing tells that exactly; otherwise -1. Of a size that
	// was rounded Least and Most are what it may have been; otherwise both are Size. Most
	// is -1 if nothing is known of it.
	Size, Least, Most int64
	// ModTime is when it was changed, if the listing tells that to the second and says of
	// which zone it is; otherwise zero.
	ModTime time.Time
	// Stamp is what the listing tells of time and size: what has changed has another one.
	// It is empty if nothing is told.
	Stamp string
}

// Exact reports whether the size is known.
func (e *Entry) Exact() bool { return e.Size >= 0 }

// CanBe reports whether the file may have this size.
func (e *Entry) CanBe(size int64) bool { return e.Most < 0 || e.Least <= size && size <= e.Most }

// ErrNoListing is wrapped by the error of what is no listing, but a page of its own for
// instance.
var ErrNoListing = errors.New("not the listing of a folder")

// ErrTooMuch is wrapped by the error of a listing with more entries, or longer, than may be.
var ErrTooMuch = errors.New("the listing of a folder is too long")

const (
	// MaxBytes is the longest listing that is read.
	MaxBytes   = 64 << 20
	maxEntries = 500_000
	maxName    = 255
)

// Parse reads the listing of the folder at base, whose path ends in a slash, sent with
// this Content-Type. Entries are in its order, and each name is there once. What does not
// lie directly in the folder is left out.
func Parse(r io.Reader, contentType string, base *url.URL) ([]Entry, error) {
	limited := &bounded{r: r, left: MaxBytes}
	c := collector{base: base, seen: make(map[string]bool)}
	kind, _, _ := mime.ParseMediaType(contentType) // what is odd is taken for HTML
	var err error
	if kind == "application/json" || strings.HasSuffix(kind, "+json") {
		err = parseJSON(limited, &c)
	} else {
		err = parseHTML(limited, &c)
	}
	if err != nil {
		return nil, err
	}
	return c.entries, nil
}

// collector collects the entries of a listing.
type collector struct {
	base    *url.URL
	entries []Entry
	seen    map[string]bool
	listing bool // something shows that this is one
}

// child is the name of what a reference leads to, if that lies directly in the folder.
// What leads to the folder above, or sorts the listing, shows that there is one.
func (c *collector) child(ref string) (name string, folder, ok bool) {
	u, err := c.base.Parse(strings.TrimSpace(ref))
	if err != nil || u.Host != c.base.Host || u.Opaque != "" || u.User != nil {
		return "", false, false
	}
	if u.Scheme != c.base.Scheme {
		return "", false, false
	}
	above := path.Dir(strings.TrimSuffix(c.base.Path, "/"))
	switch {
	case c.base.Path != "/" && strings.TrimSuffix(u.Path, "/") == strings.TrimSuffix(above, "/") && u.RawQuery == "":
		c.listing = true
		return "", false, false
	case u.Path == c.base.Path && isSorting(u.RawQuery):
		c.listing = true
		return "", false, false
	case u.RawQuery != "" || u.ForceQuery:
		return "", false, false
	}
	name, ok = strings.CutPrefix(u.Path, c.base.Path)
	name, folder = strings.CutSuffix(name, "/")
	return name, folder, ok && isName(name)
}

// isName reports whether a file can be called so.
func isName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxName && !strings.ContainsAny(name, "/\x00")
}

// isSorting reports whether a query asks a server to sort its listing: Apache's "C=N;O=D",
// and that of nginx's fancy index, and Caddy's "sort=name&order=asc".
func isSorting(query string) bool {
	return strings.HasPrefix(query, "C=") || strings.HasPrefix(query, "sort=")
}

// add adds an entry, unless there is one with its name.
func (c *collector) add(e Entry) error {
	if c.seen[e.Name] {
		return nil
	}
	if len(c.entries) == maxEntries {
		return ErrTooMuch
	}
	c.seen[e.Name] = true
	c.entries = append(c.entries, e)
	return nil
}

// bounded reads no more than so much.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, ErrTooMuch
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
