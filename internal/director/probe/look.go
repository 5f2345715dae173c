package probe

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"freshet/internal/httpcache"
)

const (
	// wholeUpTo is the longest file that is read from its begin to its end; of longer
	// ones lastPart is, which shows that the rest is there.
	wholeUpTo = 1 << 20
	lastPart  = 64 << 10
	// mostSamples is how many files of the inventory a look takes, when the first is
	// not there.
	mostSamples = 3
	// mostRedirects within the server are followed.
	mostRedirects = 2
	// sniffed is how much of a body tells whether it is a web page.
	sniffed = 512

	userAgent = "freshet-director (looks whether the mirror works)"
)

// look is one look at a way: requests as a client would make them, over connections of
// its own.
type look struct {
	*Prober
	way     *way
	client  http.Client
	expires time.Time
}

// look looks, and returns what it came to. Its error is nil or has a reason.
func (p *Prober) look(ctx context.Context, w *way) (expires time.Time, err error) {
	l := &look{Prober: p, way: w}
	transport := l.newTransport()
	defer transport.CloseIdleConnections()
	l.client = http.Client{Transport: transport, CheckRedirect: l.redirect}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	if err = l.canary(ctx); err == nil && !w.isOrigin() {
		err = l.pointers(ctx)
		l.suspects(ctx)
	}
	return l.expires, err
}

// redirect allows what stays at the server.
func (l *look) redirect(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != l.way.base.Scheme || req.URL.Host != l.way.base.Host {
		return failed(Redirected, "redirects to %s", req.URL.Redacted())
	}
	if len(via) > mostRedirects {
		return failed(Redirected, "redirects more than %d times", mostRedirects)
	}
	return nil
}

// canary sees whether the way works: by the file that the catalogue names, or by one of
// the inventory, or else by the pointer of a repository.
func (l *look) canary(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, canaryLimit)
	defer cancel()
	w := l.way
	if name := w.project.Canary; name != "" {
		f, known := l.expected(w.Project, name)
		f.Path = name
		got, err := l.check(ctx, f, known)
		if err == nil && w.isOrigin() {
			l.learn(w.Project, got)
		}
		return err
	}
	if sampled, err := l.sample(ctx); sampled {
		return err
	}
	for _, r := range w.project.Repositories {
		if name := r.PointerPath(); name != "" {
			_, err := l.check(ctx, File{Path: name}, false)
			return err
		}
	}
	if w.isOrigin() {
		return l.answers(ctx)
	}
	return failed(NothingToCheck, "the project %s has no canary, no repository, and no inventory yet", w.Project)
}

// sample looks at files that the inventory says are there. A single one that is not, or
// is another one, says something of the inventory, and not of the mirror.
func (l *look) sample(ctx context.Context) (sampled bool, err error) {
	w := l.way
	gone := 0
	for i := range uint64(mostSamples) {
		f, ok := l.opt.Inventory.Sample(w.Mirror, w.Project, w.round*mostSamples+i)
		if !ok {
			break
		}
		sampled = true
		_, err = l.check(ctx, f, true)
		switch why := reasonOf(err); why {
		case Missing, WrongLength, WrongContent:
			l.gone(f.Path, string(why))
			if gone++; gone == mostSamples-1 {
				return true, err
			}
		default:
			return true, err
		}
	}
	return sampled, nil
}

// gone tells of a file that the mirror has no more.
func (l *look) gone(name, why string) {
	l.opt.Inventory.Missing(l.way.Mirror, l.way.Project, name)
	l.opt.Scans.Hasten(l.way.Mirror, l.way.Project, why+": "+name)
}

// answers sees whether there is a web server at all.
func (l *look) answers(ctx context.Context) error {
	resp, err := l.get(ctx, http.MethodHead, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing of it is used
	if resp.StatusCode >= http.StatusInternalServerError {
		return statusFailed(l.way.base.Redacted(), resp.StatusCode)
	}
	return nil
}

// get sends a request for a file of the project. The caller closes the body.
func (l *look) get(ctx context.Context, method, name string, header http.Header) (*http.Response, error) {
	u := *l.way.base
	u.Path += name
	u.RawPath = ""
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, failed(BadStatus, "%w", err)
	}
	maps.Copy(req.Header, header)
	req.Header["User-Agent"] = []string{userAgent}
	req.Header["Accept-Encoding"] = []string{"identity"}
	resp, err := l.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the rest of it is known
		}
		return nil, fmt.Errorf("%s: %w", path.Base("/"+name), err)
	}
	return resp, nil
}

// check gets a file and compares it: with what is known of it, or, if nothing is, by
// what any file must be. It returns what it got, whose sum is known if it was read as a
// whole.
func (l *look) check(ctx context.Context, f File, known bool) (got File, err error) {
	long := known && f.Size > wholeUpTo
	var header http.Header
	if long {
		header = http.Header{"Range": {"bytes=" + strconv.FormatInt(f.Size-lastPart, 10) + "-"}}
	}
	resp, err := l.get(ctx, http.MethodGet, f.Path, header)
	if err != nil {
		return File{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // what was read is read
	size, limit, err := lengthOf(resp, f, known, long)
	if err != nil {
		return File{}, err
	}
	b := body{name: f.Path, r: resp.Body}
	n, sum, err := b.read(limit)
	switch {
	case err != nil:
		return File{}, err
	case b.page && !isPage(f.Path):
		return File{}, failed(Page, "%s: a web page came", f.Path)
	}
	whole := n <= limit
	if size < 0 { // the header does not tell
		if size = n; !whole && long {
			size = f.Size // nor do we read that much
		}
	}
	if known && size != f.Size {
		return File{}, failed(WrongLength, "%s: %d bytes, the origin's has %d", f.Path, size, f.Size)
	}
	got = File{Path: f.Path, Size: size, SHA256: sum, HasSHA256: whole && n == size}
	if known && f.HasSHA256 && got.HasSHA256 && f.SHA256 != sum {
		return File{}, failed(WrongContent, "%s: SHA-256 %x, the origin's has %x", f.Path, sum, f.SHA256)
	}
	return got, nil
}

// lengthOf is how long the file is by the header of an answer, -1 if it does not tell,
// and how much of the body is to be read.
func lengthOf(resp *http.Response, f File, known, part bool) (size, limit int64, err error) {
	size, limit = resp.ContentLength, wholeUpTo
	switch {
	case resp.StatusCode == http.StatusOK && part:
		limit = lastPart // of its begin
	case resp.StatusCode == http.StatusOK:
	case resp.StatusCode == http.StatusPartialContent && part:
		got, whole, ok := httpcache.ParseContentRange(resp.Header.Get("Content-Range"))
		if !ok || got.Length != lastPart && whole == f.Size {
			return 0, 0, failed(WrongLength, "%s: the part %q came", f.Path, resp.Header.Get("Content-Range"))
		}
		size, limit = whole, got.Length
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && part:
		return 0, 0, failed(WrongLength, "%s: shorter than the origin's, which has %d bytes", f.Path, f.Size)
	default:
		return 0, 0, statusFailed(f.Path, resp.StatusCode)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") && !isPage(f.Path) {
		return 0, 0, failed(Page, "%s: a web page came", f.Path)
	}
	if known && size >= 0 && size != f.Size {
		// Read a little of it: it may be a page.
		limit = min(limit, sniffed)
	}
	return size, limit, nil
}

// isPage reports whether a file of this name may be a web page.
func isPage(name string) bool {
	switch path.Ext(name) {
	case ".html", ".htm", ".xhtml":
		return true
	default:
		return false
	}
}

// body reads what came for a file.
type body struct {
	name string
	r    io.Reader
	page bool // it begins like a web page
	some bool // bytes came
}

// read reads the body, but not much more than limit bytes of it, and returns how many it
// read, and their sum.
func (b *body) read(limit int64) (n int64, sum [sha256.Size]byte, err error) {
	h := sha256.New()
	buf := make([]byte, 32<<10)
	for n <= limit {
		m, err := io.ReadAtLeast(b.r, buf[:min(int64(len(buf)), limit+1-n)], 1)
		if m > 0 && !b.some {
			b.some = true
			b.page = strings.HasPrefix(http.DetectContentType(buf[:m]), "text/html")
		}
		_, _ = h.Write(buf[:m]) // never fails
		n += int64(m)
		if err == io.EOF {
			break
		}
		if err != nil {
			return n, sum, b.failed(err)
		}
	}
	return n, [sha256.Size]byte(h.Sum(nil)), nil
}

// failed gives an error of reading its reason.
func (b *body) failed(err error) error {
	why := reasonOf(err)
	if b.some && errors.Is(err, context.DeadlineExceeded) {
		why = Slow
	}
	return &failure{why: why, err: fmt.Errorf("%s: %w", b.name, err)}
}

// suspects looks at files that were reported, and tells of those that are not there.
func (l *look) suspects(ctx context.Context) {
	for _, name := range l.takeSuspects(l.way.Way) {
		f, known := l.opt.Inventory.Origin(l.way.Project, name)
		if !known {
			continue
		}
		resp, err := l.get(ctx, http.MethodHead, name, nil)
		if err != nil {
			return
		}
		_ = resp.Body.Close() // there is none
		switch {
		case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
			l.gone(name, "reported missing")
		case resp.StatusCode == http.StatusOK && resp.ContentLength >= 0 && resp.ContentLength != f.Size:
			l.gone(name, "reported wrong")
		}
	}
}
