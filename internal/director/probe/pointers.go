package probe

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// pointersPerLook is how many pointers a look gets: at most half of them, if there
	// are others, of repositories of which the origin has a newer version. It gets more
	// if all would not be seen within looksPerRound, which is less than half an hour.
	pointersPerLook = 4
	looksPerRound   = 40
	// maxPointer is the longest pointer that is read, in bytes.
	maxPointer = 64 << 20
	// askedWhole is how long a validator is used: then the pointer is read again.
	askedWhole = time.Hour
	// news is how long a new version of the origin's hastens the looks.
	news = time.Hour
	// settled is after how many looks in a row one that went back is taken to have
	// stayed there.
	settled = 5
	// mostPast is how many former pointers of a repository are known again.
	mostPast = 8
)

// sum is the SHA-256 of a pointer, zero if there is none.
type sum = [32]byte

// pointer is what was seen of a repository's pointer on one way.
type pointer struct {
	looked time.Time
	shown  sum // zero: none
	tag    string
	read   time.Time // when shown was read, and not confirmed only

	current sum       // the origin's, when it was looked at last
	since   time.Time // of current
	was     bool      // the way has shown current
	after   int       // looks since, with something older
	past    []sum     // former ones, of the way or the origin, newest last
}

// behind reports whether the origin has had a newer version for a while that is short
// enough to expect it.
func (p *pointer) behind(now time.Time) bool {
	return p.current != sum{} && p.shown != p.current && now.Sub(p.since) < news
}

// follow takes the origin's current pointer.
func (p *pointer) follow(current sum, now time.Time) {
	if p.current == current {
		return
	}
	p.remember(p.current)
	p.current, p.since, p.was, p.after = current, now, p.shown == current, 0
}

// see takes the pointer that the way shows, and reports whether it went back: from the
// current one to one that was there before.
func (p *pointer) see(shown sum) (wentBack bool) {
	if p.shown != shown {
		p.remember(p.shown)
		p.shown = shown
	}
	switch {
	case p.current == sum{}:
		return false
	case shown == p.current:
		p.was, p.after = true, 0
		return false
	case !p.was || !slices.Contains(p.past, shown): // it may be newer than what we know
		return false
	}
	if p.after++; p.after > settled {
		p.was = false
		return false
	}
	return true
}

func (p *pointer) remember(s sum) {
	if s == (sum{}) || slices.Contains(p.past, s) {
		return
	}
	if p.past = append(p.past, s); len(p.past) > mostPast {
		p.past = p.past[1:]
	}
}

// behind reports whether newer versions are expected on the way.
func (w *way) behind(now time.Time) bool {
	for _, p := range w.pointers {
		if p.behind(now) {
			return true
		}
	}
	return false
}

// pointers looks at some of the pointers, and tells which the way shows.
func (l *look) pointers(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	for _, name := range l.choosePointers(time.Now()) {
		if time.Until(deadline) < stallLimit {
			return nil // there were many, or long ones: the next look goes on
		}
		if err := l.pointer(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// choosePointers returns those to look at: the ones that were never looked at, and then
// those that were not for the longest, of the ones that are behind and of the others.
func (l *look) choosePointers(now time.Time) []string {
	w := l.way
	var unseen, behind, others []string
	for _, r := range w.project.Repositories {
		name := r.PointerPath()
		current, known := l.opt.Versions.Current(w.Project, name)
		if name == "" || !known {
			continue
		}
		p := w.pointers[name]
		if p == nil {
			p = new(pointer)
			w.pointers[name] = p
		}
		p.follow(current, now)
		switch {
		case p.looked.IsZero():
			unseen = append(unseen, name)
		case p.behind(now):
			behind = append(behind, name)
		default:
			others = append(others, name)
		}
	}
	oldest := func(a, b string) int {
		return cmp.Or(w.pointers[a].looked.Compare(w.pointers[b].looked), strings.Compare(a, b))
	}
	slices.SortFunc(behind, oldest)
	slices.SortFunc(others, oldest)
	most := max(pointersPerLook, (len(unseen)+len(behind)+len(others)+looksPerRound-1)/looksPerRound)
	chosen := first(unseen, most)
	left := most - len(chosen)
	chosen = append(chosen, first(behind, max(left/2, left-len(others)))...)
	return append(chosen, first(others, most-len(chosen))...)
}

// first are the first n names, or all.
func first(names []string, n int) []string { return names[:min(n, len(names)):min(n, len(names))] }

// pointer looks at one. Its error is one that speaks against the way, and not only
// against the file.
func (l *look) pointer(ctx context.Context, name string) error {
	w := l.way
	p := w.pointers[name]
	p.looked = time.Now()
	shown, err := l.fetchPointer(ctx, name, p)
	switch reasonOf(err) {
	case Fine:
	case Missing, Denied, BadStatus, Slow:
		shown = sum{}
	default:
		return err
	}
	wentBack := p.see(shown)
	l.shows(w, name, shown, p.looked)
	if wentBack {
		return failed(Flips, "%s: showed the origin's version, and then %x… again", name, shown[:6])
	}
	return nil
}

// fetchPointer gets the sum of a pointer, by its entity tag if there is one. Dates are
// not asked for: many servers answer that an older file was not modified since.
func (l *look) fetchPointer(ctx context.Context, name string, p *pointer) (sum, error) {
	header := make(http.Header)
	if p.tag != "" && p.shown != (sum{}) && time.Since(p.read) < askedWhole {
		header["If-None-Match"] = []string{p.tag}
	}
	resp, err := l.get(ctx, http.MethodGet, name, header)
	if err != nil {
		return sum{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // what was read is read
	if resp.StatusCode == http.StatusNotModified && len(header) > 0 {
		return p.shown, nil
	}
	if _, _, err := lengthOf(resp, File{Path: name}, false, false); err != nil {
		return sum{}, err
	}
	b := body{name: name, r: resp.Body}
	n, s, err := b.read(maxPointer)
	switch {
	case err != nil:
		return sum{}, err
	case b.page && !isPage(name):
		return sum{}, failed(Page, "%s: a web page came", name)
	case n > maxPointer:
		return sum{}, failed(BadStatus, "%s: longer than %d bytes", name, maxPointer)
	}
	p.tag, p.read = resp.Header.Get("Etag"), p.looked
	return s, nil
}
