package fetch

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"iter"
	"net/http"
	"slices"
	"strings"

	"freshet/internal/autoindex"
	"freshet/internal/filetimelist"
)

const (
	maxDepth   = 40 // of folders
	maxFolders = 2_000_000
	maxPath    = 4096
)

// List reads the list of files that the server has, if one is told of in the options;
// otherwise it walks through the listings of folders that the server makes, and asks for
// each file of which they do not tell size and time exactly.
func (s *webSource) List(parent context.Context, folder string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		ctx, cancel := context.WithCancel(parent)
		defer cancel()
		var err error
		if s.o.FileList != "" {
			err = s.readList(ctx, folder, yield)
		} else {
			err = s.walk(ctx, folder, yield)
		}
		if err != nil && !errors.Is(err, errEnded) {
			yield(Entry{}, fmt.Errorf("list %s: %w", s.url, answered(parent, err)))
		}
	}
}

// errEnded is that the caller wants no more.
var errEnded = errors.New("ended")

// readList reads a list of quick-fedora-mirror's format, whose paths are relative to the
// folder that it is in.
func (s *webSource) readList(ctx context.Context, folder string, yield func(Entry, error) bool) error {
	a, err := s.ask(ctx, http.MethodGet, s.below(s.o.FileList), make(http.Header))
	if err != nil {
		return err
	}
	defer a.close()
	above := s.o.FileList[:strings.LastIndexByte(s.o.FileList, '/')+1]
	for e, err := range filetimelist.Read(a) {
		if err != nil {
			return fmt.Errorf("%s: %w", a.url, err)
		}
		entry := Entry{Path: above + e.Path, Type: e.Type, Size: e.Size, ModTime: e.ModTime, Private: e.Private}
		if isBelow(entry.Path, folder) && !yield(entry, nil) {
			return errEnded
		}
	}
	return nil
}

func isBelow(path, folder string) bool {
	return folder == "." || strings.HasPrefix(path, folder+"/")
}

// listed is a folder that is to be read.
type listed struct {
	path  string   // "" or ending in a slash
	above []uint64 // sums of the listings that it is in
}

// contents are what a folder has.
type contents struct {
	entries []Entry
	folders []listed
	err     error
}

// walk reads all folders, several at once.
func (s *webSource) walk(ctx context.Context, folder string, yield func(Entry, error) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan contents, cap(s.slots))
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()
	start := listed{path: folder + "/"}
	if folder == "." {
		start.path = ""
	}
	seed := maphash.MakeSeed()
	waiting := []listed{start}
	for folders := 0; len(waiting) > 0 || running > 0; {
		for running < cap(s.slots) && len(waiting) > 0 {
			next := waiting[len(waiting)-1]
			waiting = waiting[:len(waiting)-1]
			if folders++; folders+len(waiting) > maxFolders { // those that wait take memory, too
				return fmt.Errorf("there are more than %d folders", maxFolders)
			}
			running++
			go func() { results <- s.readFolder(ctx, seed, next) }()
		}
		c := <-results
		running--
		if c.err != nil {
			return c.err
		}
		for _, e := range c.entries {
			if !yield(e, nil) {
				return errEnded
			}
		}
		waiting = append(waiting, c.folders...)
	}
	return nil
}

// readFolder reads one folder. One that has gone away is empty.
func (s *webSource) readFolder(ctx context.Context, seed maphash.Seed, l listed) (c contents) {
	u := s.below(l.path)
	a, err := s.ask(ctx, http.MethodGet, u, http.Header{"Accept": {"application/json, text/html;q=0.9, */*;q=0.1"}})
	if err != nil {
		if l.path != "" && errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return contents{err: err}
	}
	found, err := autoindex.Parse(a, a.Header.Get("Content-Type"), u)
	a.close()
	if err != nil {
		return contents{err: fmt.Errorf("%s: %w", u.Redacted(), err)}
	}
	sum := autoindex.Sum(seed, found)
	if slices.Contains(l.above, sum) {
		return contents{} // a link to a folder that it is in
	}
	above := append(slices.Clone(l.above), sum)
	for i := range found {
		c.add(ctx, s, l.path+found[i].Name, &found[i], above)
	}
	return c
}

// add adds an entry of a listing.
func (c *contents) add(ctx context.Context, s *webSource, path string, e *autoindex.Entry, above []uint64) {
	switch {
	case c.err != nil || autoindex.IsAside(e.Name) || len(path) > maxPath:
	case e.Folder && len(above) < maxDepth:
		c.entries = append(c.entries, Entry{Path: path, Type: 'd', Size: -1})
		c.folders = append(c.folders, listed{path + "/", above})
	case e.Folder:
		c.err = fmt.Errorf("%s: folders are more than %d deep", path, maxDepth)
	case e.Exact() && !e.ModTime.IsZero():
		c.entries = append(c.entries, Entry{Path: path, Type: 'f', Size: e.Size, ModTime: e.ModTime})
	default:
		a, err := s.ask(ctx, http.MethodHead, s.below(path), make(http.Header))
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has gone, or is a link to nothing
			return
		case errors.Is(err, fs.ErrPermission):
			c.entries = append(c.entries, Entry{Path: path, Type: 'f', Size: e.Size, Private: true})
			return
		case err != nil:
			c.err = err
			return
		}
		c.entries = append(c.entries, Entry{Path: path, Type: 'f', Size: a.ContentLength, ModTime: a.modTime()})
		a.close()
	}
}
