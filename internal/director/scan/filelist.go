package scan

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"path"
	"strings"

	"freshet/internal/filetimelist"
	"freshet/internal/inventory"
	"freshet/internal/unpack"
)

// listFile reads a list of the whole tree, if it is another one than last time.
func (s *Scanner) listFile(ctx context.Context, t target, m *memo) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		if err := s.readList(ctx, t, m, yield); err != nil {
			yield(inventory.Entry{}, err)
		}
	}
}

func (s *Scanner) readList(ctx context.Context, t target, m *memo, yield func(inventory.Entry, error) bool) error {
	u, err := parseRoot(t.source)
	if err != nil {
		return err
	}
	a, err := newWeb(s.o.Transport, s.o.Rate).ask(ctx, http.MethodGet, u, s.conditions(t, m))
	if err != nil {
		return err
	}
	defer a.close()
	if a.StatusCode == http.StatusNotModified {
		return errUnchanged
	}
	m.etag, m.modified = "", "" // until it has been read
	plain, done, err := unpack.NewReader(a)
	if err != nil {
		return badList(t, err)
	}
	defer done()
	inside := listed(u, t.base)
	g := newGather(nil, yield)
	for e, err := range filetimelist.Read(plain) {
		if err != nil {
			return badList(t, err)
		}
		if !takeListed(g, &e, inside) {
			return nil
		}
	}
	m.etag, m.modified = a.Header.Get("ETag"), a.Header.Get("Last-Modified")
	return nil
}

// badList is the error of a list that cannot be read, or not to its end.
func badList(t target, err error) error {
	if _, ok := errors.AsType[*failure](err); !ok {
		err = fail(BadListing, err)
	}
	return fmt.Errorf("%s: %w", t.source, err)
}

// conditions are the header fields that ask for a list only if it has changed. There are
// none if what it says is not in the inventory, or may be wrong there.
func (s *Scanner) conditions(t target, m *memo) http.Header {
	h := make(http.Header)
	if known := s.standing(t.key); m.fresh || known.Updated.IsZero() || !known.Refused.IsZero() {
		return h
	}
	if m.etag != "" {
		h.Set("If-None-Match", m.etag)
	}
	if m.modified != "" {
		h.Set("If-Modified-Since", m.modified)
	}
	return h
}

// listed is the folder of the tree at base in the list at u, which may be of more than
// this tree: "" or ending in a slash.
func listed(u *url.URL, base string) string {
	b, err := url.Parse(base)
	if err != nil {
		return ""
	}
	folder := strings.TrimSuffix(path.Dir(u.Path), "/") + "/"
	inside, ok := strings.CutPrefix(b.Path, folder)
	if !ok {
		return ""
	}
	return inside
}

// takeListed hands on an entry of a list. It is false when no more are wanted.
func takeListed(g *gather, e *filetimelist.Entry, inside string) bool {
	name, ok := strings.CutPrefix(e.Path, inside)
	switch {
	case !ok:
	case e.Type == 'd' && e.Private:
		g.hide(name)
	case e.Type == 'f' && !e.Private:
		return g.file(inventory.Entry{Path: name, Size: e.Size, ModTime: e.ModTime})
	}
	return true
}
