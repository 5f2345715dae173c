package scan

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"freshet/internal/autoindex"
	"freshet/internal/inventory"
	"freshet/internal/layout"
)

// defaultSamples is about how many files of a mirror are asked for in a scan, of those
// whose size its listings do not tell exactly.
const defaultSamples = 200

// checks finds the sizes of files whose listing has them rounded, or not at all. Of a
// mirror's file that may be as long as the origin's it is believed, and now and then
// asked; if one of a folder is not, all of them are asked for. Indexes are asked for
// whenever they have changed. Of an origin's files all are asked for that are new.
type checks struct {
	web    *web
	root   *url.URL
	origin bool           // it is the origin that is scanned
	view   inventory.View // what is known of the origin
	share  float64        // of files that are asked for without a reason

	mu     sync.Mutex
	stamps map[uint64]uint64 // of files when they were last asked for, by their path
	seed   maphash.Seed
}

func newChecks(s *Scanner, t target, m *memo, w *web, root *url.URL) checks {
	view := s.o.Inventory.Project(t.project).View()
	if m.stamps == nil || m.fresh {
		m.stamps, m.seed = make(map[uint64]uint64), maphash.MakeSeed()
	}
	return checks{
		web: w, root: root, origin: t.origin(), view: view,
		share: float64(s.samples) / float64(max(s.samples, view.Len(), 1)), stamps: m.stamps, seed: m.seed,
	}
}

// look returns the entries of a folder's files.
func (c *checks) look(ctx context.Context, folder string, files []autoindex.Entry) ([]inventory.Entry, error) {
	entries := make([]inventory.Entry, 0, len(files))
	var doubtful []autoindex.Entry
	lied := false
	for _, f := range files {
		path := folder + f.Name
		e, verdict := c.judge(path, &f)
		if verdict == ask {
			seen, ok, err := c.head(ctx, path)
			if err != nil {
				return nil, err
			}
			if !c.origin && (!ok || seen.Size != e.Size) {
				lied = true
			}
			c.asked(path, f.Stamp)
			e, verdict = seen, unknown
			if ok {
				verdict = known
			}
		}
		switch verdict {
		case known:
			entries = append(entries, e)
		case believed:
			doubtful = append(doubtful, f)
		default:
		}
	}
	return c.settle(ctx, folder, entries, doubtful, lied)
}

// settle adds to a folder's entries those of files that were believed, or asks for all of
// them if one of the folder was wrong.
func (c *checks) settle(ctx context.Context, folder string, entries []inventory.Entry, doubtful []autoindex.Entry, lied bool) ([]inventory.Entry, error) {
	for _, f := range doubtful {
		path := folder + f.Name
		file, _ := c.view.Find(path)
		e := inventory.Entry{Path: path, Size: file.Size}
		if lied {
			seen, ok, err := c.head(ctx, path)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			e = seen
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// verdict is what is thought of a file.
type verdict int

const (
	unknown  verdict = iota // it is none of the origin's
	known                   // its size is told
	believed                // it seems to be the origin's
	ask                     // it is to be asked for
)

// judge judges a file by its listing.
func (c *checks) judge(path string, f *autoindex.Entry) (inventory.Entry, verdict) {
	if f.Exact() {
		return inventory.Entry{Path: path, Size: f.Size}, known
	}
	file, ok := c.view.Find(path)
	ok = ok && f.CanBe(file.Size)
	e := inventory.Entry{Path: path, Size: file.Size}
	switch {
	case !ok && !c.origin:
		return e, unknown // another version, whose length nobody needs
	case !ok, c.hasChanged(path, f.Stamp), rand.Float64() < c.share:
		return e, ask
	}
	return e, believed
}

// hasChanged reports whether the listing shows a file of which that matters otherwise than
// when it was last asked for.
func (c *checks) hasChanged(path, stamp string) bool {
	if !isIndex(path) && !c.origin {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before, ok := c.stamps[maphash.String(c.seed, path)]
	if !ok && c.origin && !isIndex(path) {
		return false // of the process before, whose name binds it
	}
	return !ok || stamp == "" || before != maphash.String(c.seed, stamp)
}

// asked notes how the listing showed a file that was asked for.
func (c *checks) asked(path, stamp string) {
	if !isIndex(path) && !c.origin {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamps[maphash.String(c.seed, path)] = maphash.String(c.seed, stamp)
}

// isIndex reports whether a path is metadata of a repository, which changes under its name.
func isIndex(path string) bool {
	p := layout.PolicyOf("/" + path)
	return p.Ruled() && p.Class != layout.Payload
}

// head asks for a file. It is false if there is none, or none whose length is told.
func (c *checks) head(ctx context.Context, path string) (inventory.Entry, bool, error) {
	e, ok, err := c.request(ctx, http.MethodHead, path)
	if err == nil && ok && e.Size < 0 {
		e, ok, err = c.request(ctx, http.MethodGet, path) // Apache tells no length of what is empty
	}
	return e, ok && e.Size >= 0, err
}

// request asks for the head of a file by a method; its size is -1 if that is not told.
func (c *checks) request(ctx context.Context, method, path string) (inventory.Entry, bool, error) {
	a, err := c.web.ask(ctx, method, below(c.root, path), nil)
	if isAbsent(err) || isMoved(err) {
		return inventory.Entry{}, false, nil
	}
	if err != nil {
		return inventory.Entry{}, false, err
	}
	defer a.close()
	e := inventory.Entry{Path: path, Size: a.ContentLength}
	if t, err := http.ParseTime(a.Header.Get("Last-Modified")); err == nil {
		e.ModTime = t
	}
	return e, true, nil
}

// children are the names of the origin's files and folders that lie directly in a folder.
func (c *checks) children(folder string) (files, folders []string) {
	seen := make(map[string]bool)
	for path := range c.view.Files(folder) {
		name, _, deeper := strings.Cut(strings.TrimPrefix(path, folder), "/")
		switch {
		case !deeper:
			files = append(files, name)
		case !seen[name]:
			seen[name] = true
			folders = append(folders, name)
		}
	}
	return files, folders
}
