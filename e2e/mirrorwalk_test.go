package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"testing/fstest"
	"time"

	"freshet/internal/closure"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/kindtest"
)

// errDown says that the mirror is not there.
var errDown = errors.New("the mirror is not there")

// walker is a client of a project that reads from the index to every package.
type walker struct {
	http *http.Client
	base string // URL of the project, with a slash
	// seen are the indexes that were read: a client asks for each of them once.
	seen fstest.MapFS
}

func newWalker(base string) *walker {
	return &walker{&http.Client{Transport: &http.Transport{}, Timeout: time.Minute}, base, make(fstest.MapFS)}
}

// walk is called once. It reads all once, over connections of its own. Packages are asked for until there is
// somebody who answers.
func (w *walker) walk(ctx context.Context, c kind.Config) (files int, err error) {
	defer w.http.CloseIdleConnections()
	tree := kind.Tree{Open: w.index, List: w.list}
	return kindtest.Visit(ctx, c, tree, func(ctx context.Context, name string) (fs.File, error) {
		for {
			f, err := w.open(ctx, name)
			if !errors.Is(err, errDown) || ctx.Err() != nil {
				return f, err
			}
			<-time.After(10 * time.Millisecond)
		}
	})
}

func (w *walker) index(ctx context.Context, name string) (fs.File, error) {
	if w.seen[name] == nil {
		f, err := w.open(ctx, name)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(f)
		if err != nil {
			return nil, err
		}
		w.seen[name] = &fstest.MapFile{Data: body, ModTime: info.ModTime()}
	}
	return w.seen.Open(name)
}

func (w *walker) open(ctx context.Context, name string) (fs.File, error) {
	body, when, err := w.get(ctx, (&url.URL{Path: name}).EscapedPath())
	if err != nil {
		return nil, err
	}
	return fstest.MapFS{name: &fstest.MapFile{Data: body, ModTime: when}}.Open(name)
}

func (w *walker) get(ctx context.Context, ref string) ([]byte, time.Time, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+ref, nil)
	if err != nil {
		return nil, time.Time{}, err
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %w", errDown, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, time.Time{}, fmt.Errorf("%w: %w", errDown, err)
	case resp.StatusCode == http.StatusNotFound:
		return nil, time.Time{}, &fs.PathError{Op: "GET", Path: ref, Err: fs.ErrNotExist}
	case resp.StatusCode != http.StatusOK:
		return nil, time.Time{}, fmt.Errorf("GET %s: %s: %s", ref, resp.Status, resp.Header.Get("Freshet-Reason"))
	}
	when, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err != nil && !strings.HasSuffix(ref, "?format=json") {
		return nil, time.Time{}, err
	}
	return body, when, nil
}

// list reads the listings of all folders.
func (w *walker) list(ctx context.Context) iter.Seq2[kind.File, error] {
	return func(yield func(kind.File, error) bool) {
		folders := []string{""} // as URLs
		for len(folders) > 0 {
			folder := folders[0]
			folders = folders[1:]
			body, _, err := w.get(ctx, folder+"?format=json")
			var entries []struct{ Type, Href string }
			if err == nil {
				err = json.Unmarshal(body, &entries)
			}
			if err != nil {
				yield(kind.File{}, err)
				return
			}
			for _, e := range entries {
				ref := folder + strings.TrimPrefix(e.Href, "./")
				if e.Type == "directory" {
					folders = append(folders, ref)
					continue
				}
				name, err := url.PathUnescape(ref)
				if !yield(kind.File{File: closure.File{Path: name}}, err) || err != nil {
					return
				}
			}
		}
	}
}
