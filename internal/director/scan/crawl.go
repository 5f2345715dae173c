package scan

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"net/http"
	"net/url"
	"slices"

	"freshet/internal/autoindex"
	"freshet/internal/inventory"
)

const (
	connections = 4  // to one web server
	maxDepth    = 40 // of folders
	maxFolders  = 2_000_000
)

// crawl walks through the listings of folders of one web server.
type crawl struct {
	web    *web
	root   *url.URL
	checks checks
	seed   maphash.Seed
}

// job is a folder that is to be read.
type job struct {
	path  string   // "" or ending in a slash
	above []uint64 // sums of the listings of the folders that it is in
}

// found is what a folder has.
type found struct {
	files   []inventory.Entry
	folders []job
	remark  string // why it is not read, though others are
	err     error  // ends the walk
}

// listHTTP walks through the listings of a web server.
func (s *Scanner) listHTTP(ctx context.Context, t target, m *memo) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		root, err := parseRoot(t.source)
		if err != nil {
			yield(inventory.Entry{}, err)
			return
		}
		w := newWeb(s.o.Transport, s.o.Rate)
		c := &crawl{web: w, root: root, seed: maphash.MakeSeed(), checks: newChecks(s, t, m, w, root)}
		remark, err := c.walk(ctx, yield)
		m.remark = remark
		if err != nil {
			yield(inventory.Entry{}, err)
		}
	}
}

// walk reads all folders, a few at once. The remark is the first of those that count
// nevertheless.
func (c *crawl) walk(ctx context.Context, yield func(inventory.Entry, error) bool) (remark string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan found, connections)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()
	waiting := []job{{}}
	for folders := 0; len(waiting) > 0 || running > 0; {
		for running < connections && len(waiting) > 0 {
			next := waiting[len(waiting)-1]
			waiting = waiting[:len(waiting)-1]
			running++
			if folders++; folders > maxFolders {
				return remark, fail(BadListing, fmt.Errorf("there are more than %d folders", maxFolders))
			}
			go func() { results <- c.read(ctx, next) }()
		}
		r := <-results
		running--
		if r.err != nil {
			return remark, r.err
		}
		if remark == "" {
			remark = r.remark
		}
		for _, e := range r.files {
			if !yield(e, nil) {
				return remark, nil
			}
		}
		waiting = append(waiting, r.folders...)
	}
	return remark, nil
}

// read reads one folder.
func (c *crawl) read(ctx context.Context, j job) found {
	entries, err := c.listing(ctx, j.path)
	switch {
	case err == nil:
		return c.sort(ctx, j, entries)
	case errors.Is(err, autoindex.ErrNoListing):
		// A page of its own stands in for the listing: what the origin has is looked for.
		return c.guess(ctx, j, err)
	case j.path != "" && (isAbsent(err) || isMoved(err)):
		return found{remark: err.Error()}
	}
	return found{err: err}
}

// listing gets the listing of a folder.
func (c *crawl) listing(ctx context.Context, path string) ([]autoindex.Entry, error) {
	u := below(c.root, path)
	a, err := c.web.ask(ctx, http.MethodGet, u, http.Header{"Accept": {"application/json, text/html;q=0.9, */*;q=0.1"}})
	if err != nil {
		return nil, err
	}
	defer a.close()
	entries, err := autoindex.Parse(a, a.Header.Get("Content-Type"), u)
	if err != nil {
		if _, ok := errors.AsType[*failure](err); !ok {
			err = fail(BadListing, err)
		}
		return nil, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	return entries, nil
}

// sort sorts what a folder has.
func (c *crawl) sort(ctx context.Context, j job, entries []autoindex.Entry) found {
	var r found
	sum := autoindex.Sum(c.seed, entries)
	if slices.Contains(j.above, sum) {
		return r // a link to a folder that it is in
	}
	above := append(slices.Clone(j.above), sum)
	files := entries[:0]
	for _, e := range entries {
		path := j.path + e.Name
		switch {
		case autoindex.IsAside(e.Name) || len(path) >= maxPath:
		case !e.Folder:
			files = append(files, e)
		case len(above) < maxDepth:
			r.folders = append(r.folders, job{path + "/", above})
		}
	}
	r.files, r.err = c.checks.look(ctx, j.path, files)
	return r
}

// maxGuesses is how many files are asked for one by one in a folder without a listing.
const maxGuesses = 500

// guess looks in a folder without a listing for what the origin has there.
func (c *crawl) guess(ctx context.Context, j job, why error) found {
	if c.checks.origin {
		return found{err: why}
	}
	files, folders := c.checks.children(j.path)
	if len(files) > maxGuesses {
		return found{remark: fmt.Sprintf("%v; %d files are too many to be asked for one by one", why, len(files))}
	}
	r := found{remark: why.Error()}
	for _, name := range folders {
		r.folders = append(r.folders, job{j.path + name + "/", append(slices.Clone(j.above), maphash.String(c.seed, j.path))})
	}
	for _, name := range files {
		e, ok, err := c.checks.head(ctx, j.path+name)
		if err != nil {
			return found{err: err}
		}
		if ok {
			r.files = append(r.files, e)
		}
	}
	return r
}
