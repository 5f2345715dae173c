package serve

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"freshet/internal/httpcache"
	"freshet/internal/mirror/generation"
	"freshet/internal/page"
	"freshet/internal/role"
)

// Entry is a line of a listing: an element of the array that it is in JSON.
type Entry struct {
	// Name is as the file system has it. In JSON, what is no UTF-8 is replaced in it:
	// Href is exact.
	Name string `json:"name"`
	// Type is "file" or "directory", as nginx has it.
	Type string `json:"type"`
	Size int64  `json:"size,omitempty"`
	// ModTime is in the form of HTTP, as nginx has it.
	ModTime string `json:"mtime"`
	// Href leads from the folder to it.
	Href string `json:"href"`
	// SHA256 is that of a file, in hexadecimal; empty if it is not known.
	SHA256 string `json:"sha256,omitempty"`

	modified time.Time
}

func (e *Entry) folder() bool { return e.Type == typeFolder }

const (
	typeFile   = "file"
	typeFolder = "directory"
)

// list answers with the listing of a folder of the current generation. Few are made at
// once, but any number may be on their way: who takes one slowly holds up nobody.
func (s *Site) list(w http.ResponseWriter, r *http.Request, p *generation.Project, rest string) {
	body, err := s.makeListing(w.Header(), r, p, rest)
	switch {
	case r.Context().Err() != nil:
		return // the client has left
	case err != nil:
		s.failOpen(w, r, err)
	case body == nil:
		w.WriteHeader(http.StatusNotModified)
	default:
		s.sendListing(w, r, body)
	}
}

// makeListing returns the listing of a folder, and sets what the header says of it; nil if
// the client has it.
func (s *Site) makeListing(h http.Header, r *http.Request, p *generation.Project, rest string) ([]byte, error) {
	select {
	case s.listings <- struct{}{}:
		defer func() { <-s.listings }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	g := p.Current()
	dir, changed, err := openFolder(g, cmp.Or(rest, "."))
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	order, asJSON := orderOf(r.URL.Query()), wantsJSON(r)
	tag := fmt.Sprintf(`"%s-%x-%s%s-%t"`, g.ID(), changed.UnixNano(), order.key, order.way, asJSON)
	if httpcache.Evaluate(r.Header, http.Header{"Etag": {tag}}) == httpcache.Send {
		return s.renderListing(h, r, g, dir, rest, order, asJSON, tag)
	}
	describeListing(h, tag)
	return nil, nil
}

func describeListing(h http.Header, tag string) {
	h.Set("Vary", "Accept")
	h.Set("Cache-Control", "no-cache")
	h.Set("Etag", tag)
}

func (s *Site) renderListing(h http.Header, r *http.Request, g *generation.Generation, dir *os.File, rest string, order order, asJSON bool, tag string) ([]byte, error) {
	entries, err := read(g, dir, cmp.Or(rest, "."))
	if err != nil {
		return nil, err
	}
	if err := addSums(r.Context(), g, rest, entries); err != nil {
		s.opts.Log.ErrorContext(r.Context(), "a listing lacks checksums", slog.Any("error", err))
	}
	order.sort(entries)
	if asJSON {
		body, err := json.Marshal(entries)
		h.Set("Content-Type", "application/json")
		describeListing(h, tag)
		return append(body, '\n'), err
	}
	data := listing{Crumbs: crumbs(g.Info().Project, rest), Order: order, Switched: g.Info().Switched}
	data.Title = "/" + g.Info().Project + "/" + rest
	for i := range entries {
		if e := &entries[i]; e.folder() {
			data.Folders++
		} else {
			data.Files++
			data.Size += e.Size
			data.Sums = data.Sums || e.SHA256 != ""
		}
	}
	data.Rows = rows(entries, data.Sums)
	body, err := s.pages.Make("listing", page.Frame{Title: data.Title, Footer: footer}, data)
	page.Describe(h)
	describeListing(h, tag)
	return body, err
}

// Bounds of listings that are on their way.
const (
	// smallListing is what each client may have in memory, and defaultMaxListings what all
	// longer ones together have, in bytes.
	smallListing       = 64 << 10
	defaultMaxListings = 256 << 20
	// sendPiece is sent at once. After sendPatience, less than sendRate bytes per second is too
	// slow.
	sendPiece    = 16 << 10
	sendPatience = 30 * time.Second
	sendRate     = 16 << 10
)

// sendListing sends a listing. Of long ones only so much is in memory, and not for long.
func (s *Site) sendListing(w http.ResponseWriter, r *http.Request, body []byte) {
	if n := int64(len(body)); n > smallListing {
		if !s.sending.TryAcquire(n) {
			clear(w.Header())
			s.fail(w, r, http.StatusServiceUnavailable, Busy, "Too many long listings are being sent: please try again later.")
			return
		}
		defer s.sending.Release(n)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	began, sent := time.Now(), 0
	for piece := range slices.Chunk(body, sendPiece) {
		n, err := w.Write(piece)
		if err != nil {
			return // the client has left
		}
		sent += n
		if took := time.Since(began); took > sendPatience && float64(sent) < sendRate*took.Seconds() && sent < len(body) {
			role.SetReason(w, r, string(ClientGone), "it takes a long listing too slowly")
			panic(http.ErrAbortHandler) // and not as if that was all
		}
	}
}

// addSums looks up what is known of the files of a folder, and leaves them sorted by name.
func addSums(ctx context.Context, g *generation.Generation, folder string, entries []Entry) error {
	find, err := g.Finder()
	if err != nil {
		return err
	}
	defer find.Close() //nolint:errcheck // opened for reading
	if folder != "" {
		if folder, _, err = walk(find, "", folder); err != nil {
			return err
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	for i := range entries {
		e := &entries[i]
		if e.folder() {
			continue
		}
		if ctx.Err() != nil {
			return nil // nobody wants them any more
		}
		_, f, err := walk(find, folder, e.Name)
		if err != nil {
			return err
		}
		if f.Path != "" && f.Size == e.Size && f.ModTime.Unix() == e.modified.Unix() {
			e.SHA256 = hex.EncodeToString(f.SHA256[:])
		}
	}
	return nil
}

// listing is the page of a folder.
type listing struct {
	Title          string
	Crumbs         []page.Link
	Order          order
	Switched       time.Time
	Folders, Files int
	Size           int64
	Sums           bool // some are known
	Rows           template.HTML
}

// rows are those of the table. A folder may have a hundred thousand: a template would take
// a second.
func rows(entries []Entry, sums bool) template.HTML {
	b := make([]byte, 0, len(entries)*320)
	for i := range entries {
		e := &entries[i]
		slash, size := "/", "–"
		if !e.folder() {
			slash, size = "", "0 B"
			if e.Size > 0 {
				size = page.Bytes(uint64(e.Size))
			}
		}
		b = append(b, `<tr><th scope="row"><a href="`...)
		b = append(b, html.EscapeString(e.Href)...)
		b = append(b, `">`...)
		b = append(b, html.EscapeString(e.Name)...)
		b = append(b, slash...)
		b = append(b, `</a></th><td>`...)
		b = e.modified.UTC().AppendFormat(b, "2006-01-02 15:04")
		b = append(b, `</td><td>`...)
		b = append(b, size...)
		b = append(b, `</td>`...)
		if sums {
			b = append(b, `<td><code>`...)
			b = append(b, e.SHA256...)
			b = append(b, `</code></td>`...)
		}
		b = append(b, "</tr>\n"...)
	}
	return template.HTML(b) //nolint:gosec // names and links are escaped above, and the rest is of this package
}

// openFolder opens a folder, and tells when it was changed last: stamps are written into a
// generation.
func openFolder(g *generation.Generation, folder string) (dir *os.File, changed time.Time, err error) {
	if dir, err = g.Open(folder); err != nil {
		return nil, changed, err
	}
	info, err := dir.Stat()
	if err == nil && !info.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, changed, errors.Join(err, dir.Close())
	}
	return dir, info.ModTime(), nil
}

// read lists an open folder: files, and folders, by what links lead to. Links that lead
// nowhere, and what is neither, are left out.
func read(g *generation.Generation, dir *os.File, folder string) (entries []Entry, err error) {
	entries = []Entry{}
	for {
		names, err := dir.Readdirnames(512)
		for _, name := range names {
			e, err := look(dir, name)
			if errors.Is(err, errLink) {
				e, err = follow(g, folder, name)
			}
			if err == nil {
				entries = append(entries, e)
			}
		}
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// errLink says that an entry of a folder is a symbolic link.
var errLink = errors.New("it is a link")

// look tells of what is in an open folder. It does not go by a path: the folder is that of
// one generation, whatever its path leads to by now.
func look(dir *os.File, name string) (e Entry, err error) {
	conn, err := dir.SyscallConn()
	if err != nil {
		return e, err
	}
	var st unix.Stat_t
	if failed := conn.Control(func(fd uintptr) { err = unix.Fstatat(int(fd), name, &st, unix.AT_SYMLINK_NOFOLLOW) }); failed != nil {
		return e, failed
	}
	if err != nil {
		return e, err
	}
	modified := time.Unix(st.Mtim.Unix())
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return newEntry(name, false, st.Size, modified), nil
	case unix.S_IFDIR:
		return newEntry(name, true, 0, modified), nil
	case unix.S_IFLNK:
		return e, errLink
	}
	return e, fs.ErrNotExist
}

// follow tells of what a link leads to, within the tree.
func follow(g *generation.Generation, folder, name string) (e Entry, err error) {
	f, err := g.Open(path.Join(folder, name))
	if err != nil {
		return e, err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	info, err := f.Stat()
	if err != nil {
		return e, err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return e, fs.ErrNotExist
	}
	return newEntry(name, info.IsDir(), info.Size(), info.ModTime()), nil
}

func newEntry(name string, folder bool, size int64, modified time.Time) Entry {
	e := Entry{
		Name: name, Type: typeFile, Size: size, modified: modified,
		ModTime: modified.UTC().Format(http.TimeFormat),
		// "./" keeps a colon in the name from making a scheme of what is before it.
		Href: "./" + url.PathEscape(name),
	}
	if folder {
		e.Type, e.Size, e.Href = typeFolder, 0, e.Href+"/"
	}
	return e
}

// crumbs are the first page, the folders above one, and itself.
func crumbs(project, rest string) []page.Link {
	names := []string{"Mirror", project}
	if rest != "" {
		names = append(names, strings.Split(rest, "/")...)
	}
	links := make([]page.Link, len(names))
	for i, name := range names {
		links[i] = page.Link{Text: name, Href: strings.Repeat("../", len(names)-1-i)}
		if links[i].Href == "" {
			links[i].Href = "./"
		}
	}
	return links
}

// wantsJSON says whether a program asks.
func wantsJSON(r *http.Request) bool {
	if r.URL.Query().Get("format") == "json" {
		return true
	}
	return strings.HasPrefix(r.Header.Get("Accept"), "application/json")
}

// footer ends each page.
const footer = "Times are UTC."

// render answers with a page.
func (s *Site) render(w http.ResponseWriter, r *http.Request, name, title string, data any) {
	frame := page.Frame{Title: title, Footer: footer}
	if err := s.pages.Render(w, http.StatusOK, name, frame, data); err != nil {
		s.opts.Log.ErrorContext(r.Context(), "page was not made", slog.Any("error", err))
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
	}
}

// order is how a listing is sorted; the parameters are those of Apache.
type order struct{ key, way string }

// Keys and ways of an order.
const (
	byName, byTime, bySize = "N", "M", "S"
	ascending, descending  = "A", "D"
)

func orderOf(q url.Values) order {
	o := order{byName, ascending}
	if key := q.Get("C"); key == byTime || key == bySize {
		o.key = key
	}
	if q.Get("O") == descending {
		o.way = descending
	}
	return o
}

// sort puts folders first.
func (o order) sort(entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int {
		if c := cmp.Compare(a.Type, b.Type); c != 0 {
			return c // "directory" is before "file"
		}
		c := 0
		switch o.key {
		case byTime:
			c = a.modified.Compare(b.modified)
		case bySize:
			c = cmp.Compare(a.Size, b.Size)
		}
		if c == 0 {
			c = cmp.Compare(a.Name, b.Name)
		}
		if o.way == descending {
			return -c
		}
		return c
	})
}

// Column is the head of a column that sorts by it.
type Column struct {
	Href, Text string
	// Sorted is "ascending" or "descending" if the listing is sorted by it.
	Sorted string
}

// Columns are those of a listing.
func (o order) Columns() []Column {
	list := []Column{{Text: "Name", Href: byName}, {Text: "Changed", Href: byTime}, {Text: "Size", Href: bySize}}
	for i := range list {
		c := &list[i]
		way := ascending
		if c.Href == o.key {
			c.Sorted = "ascending"
			if o.way == descending {
				c.Sorted = "descending"
			} else {
				way = descending
			}
		}
		c.Href = "?C=" + c.Href + "&O=" + way
	}
	return list
}
