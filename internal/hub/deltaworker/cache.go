package deltaworker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/ostree"
	"freshet/internal/pause"
	"freshet/internal/watchdog"
)

const (
	// fetchers is how many objects are fetched at once for a delta.
	fetchers = 8
	// fetchTries is how often an object is asked for.
	fetchTries = 5
	// fetchStall ends a download that does not move.
	fetchStall = time.Minute
)

// cache is an archive repository without refs, of objects that were fetched.
type cache struct {
	dir  string
	repo *ostree.Repo
	http *http.Client
	// base is the hub's URL, and token goes with each request to it.
	base, token string
	limit       int64 // bytes
	fetched     func(bytes int64)

	mu      sync.Mutex
	running map[*use]bool
}

// use is a delta under way, whose objects stay.
type use struct{ since time.Time }

// openCache opens the repository and makes it when it is not there.
func openCache(dir string) (*cache, error) {
	const config = "[core]\nrepo_version=1\nmode=archive-z2\n"
	if err := os.MkdirAll(filepath.Join(dir, "objects"), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o644); err != nil {
		return nil, err
	}
	repo, err := ostree.OpenRepo(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	return &cache{dir: dir, repo: repo, running: map[*use]bool{}}, nil
}

// begin keeps what is fetched from now on, until end is called.
func (c *cache) begin() (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &use{time.Now()}
	c.running[u] = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.running, u)
	}
}

// pull fetches what is missing of a commit, from the repository at path of the hub.
// It returns how many objects came.
func (c *cache) pull(ctx context.Context, path string, commit ostree.Checksum) (objects int64, err error) {
	p := pull{cache: c, path: path, seen: map[ostree.ObjectName]bool{}}
	if err := p.run(ctx, commit); err != nil {
		return p.objects.Load(), fmt.Errorf("fetch commit %s: %w", commit, err)
	}
	return p.objects.Load(), nil
}

// pull is one walk through a commit.
type pull struct {
	*cache
	path    string
	seen    map[ostree.ObjectName]bool
	objects atomic.Int64
}

// run goes down level by level, and fetches those of one level at once.
func (p *pull) run(ctx context.Context, commit ostree.Checksum) error {
	if err := p.all(ctx, []ostree.ObjectName{{Checksum: commit, Type: ostree.TypeCommit}}); err != nil {
		return err
	}
	root, err := p.repo.Commit(commit)
	if err != nil {
		return err
	}
	level := []ostree.Checksum{root.Tree}
	wanted := []ostree.ObjectName{{Checksum: root.Tree, Type: ostree.TypeDirTree}, {Checksum: root.TreeMeta, Type: ostree.TypeDirMeta}}
	for len(wanted) > 0 {
		if err := p.all(ctx, wanted); err != nil {
			return err
		}
		var below []ostree.Checksum
		wanted = wanted[:0]
		want := func(sum ostree.Checksum, kind ostree.ObjectType) bool {
			name := ostree.ObjectName{Checksum: sum, Type: kind}
			if p.seen[name] {
				return false
			}
			p.seen[name] = true
			wanted = append(wanted, name)
			return true
		}
		for _, sum := range level {
			tree, err := p.repo.DirTree(sum)
			if err != nil {
				return err
			}
			for _, f := range tree.Files {
				want(f.File, ostree.TypeFile)
			}
			for _, d := range tree.Dirs {
				want(d.Meta, ostree.TypeDirMeta)
				if want(d.Tree, ostree.TypeDirTree) {
					below = append(below, d.Tree)
				}
			}
		}
		level = below
	}
	return nil
}

// all fetches those of the objects that are not there.
func (p *pull) all(ctx context.Context, names []ostree.ObjectName) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return p.one(ctx, name) })
	}
	return group.Wait()
}

// one fetches an object unless it is there. Either way it counts as used now.
func (p *pull) one(ctx context.Context, name ostree.ObjectName) error {
	file := p.file(name)
	now := time.Now()
	if err := os.Chtimes(file, now, now); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p.objects.Add(1)
	for try := 1; ; try++ {
		err := p.fetch(ctx, name, file)
		if _, final := errors.AsType[*finalError](err); err == nil || final || ctx.Err() != nil || try == fetchTries {
			return err
		}
		if !pause.For(ctx, time.Duration(try*try)*time.Second/4) {
			return context.Cause(ctx)
		}
	}
}

// finalError is one that passes with no repetition.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

// fetch fetches an object and verifies it while it comes.
func (p *pull) fetch(ctx context.Context, name ostree.ObjectName, file string) (err error) {
	url := strings.TrimRight(p.base, "/") + p.path + name.Path()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return &finalError{err}
	}
	request.Header.Set("User-Agent", "freshet-delta-worker")
	if p.token != "" {
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(p.token))
	}
	response, err := watchdog.Do(p.http, request, fetchStall, fetchStall)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		err := fmt.Errorf("GET %s: %s", url, response.Status)
		if response.StatusCode/100 == 4 && response.StatusCode != http.StatusTooManyRequests {
			err = &finalError{err}
		}
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return &finalError{err}
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "fetch-")
	if err != nil {
		return &finalError{err}
	}
	body := &counted{r: response.Body}
	_, err = ostree.VerifyObject(name, io.TeeReader(body, temp))
	if p.fetched != nil {
		p.fetched(body.n)
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(temp.Name()))
	}
	return err
}

type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *cache) file(name ostree.ObjectName) string {
	return filepath.Join(c.dir, filepath.FromSlash(name.Path()))
}

// forget removes an object that is damaged.
func (c *cache) forget(name ostree.ObjectName) error { return os.Remove(c.file(name)) }

// shrink removes what was not used for longest, down to the limit, and what was cut
// off in its middle.
func (c *cache) shrink() error {
	c.mu.Lock()
	before := time.Now()
	for u := range c.running {
		if u.since.Before(before) {
			before = u.since
		}
	}
	c.mu.Unlock()
	type object struct {
		path string
		used time.Time
		size int64
	}
	var all []object
	var total int64
	err := filepath.WalkDir(filepath.Join(c.dir, "objects"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			total += info.Size()
			all = append(all, object{path, info.ModTime(), info.Size()})
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b object) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.path, b.path))
	})
	for _, o := range all {
		if !o.used.Before(before) {
			break
		}
		cut := strings.HasPrefix(filepath.Base(o.path), "fetch-")
		if total <= c.limit && !cut {
			continue
		}
		if err := os.Remove(o.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		total -= o.size
	}
	return nil
}
