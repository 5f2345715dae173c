package edge

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/roots"
)

const (
	// settledAfter is how long files that do not look as if they belonged together,
	// and cannot be told, stay as they are until they are believed.
	settledAfter = time.Minute
	// believedAfter is how long files that do not belong together stay as they
	// are until they are shown anyway: a signature that was forgotten must not
	// hold a repository for good.
	believedAfter = 10 * time.Minute
)

// errOlder says that the origin has gone back in time.
var errOlder = errors.New("older than what is held")

// withoutSet reports whether the files are had like any others because of err:
// they cannot be kept; or they do not belong together and nobody is about to
// mend that, or are not what their names say, and there is nothing better to
// show, nor keys to tell by. Clients compare for themselves.
func (t *candidate) withoutSet(err error) bool {
	switch {
	case upstream.ReasonOf(err) == upstream.StoreFull:
		return true
	case !errors.Is(err, roots.ErrMismatch) || t.old != nil || t.set.site.keys != nil:
		return false
	}
	return errors.Is(err, roots.ErrUnreadable) || t.set.doubted(validators(t.entries)) >= coldPatience/2
}

// notOneSet is the error of files that are there and not good.
func notOneSet(err error) error {
	reason := upstream.VerifyMismatch
	if errors.Is(err, roots.ErrMismatch) {
		reason = upstream.GenerationConflict
	}
	return &upstream.Error{Reason: reason, Err: err}
}

// isOlder reports whether the origin, a mirror that lags behind the one asked
// before, has gone back in time. Only pacman's clients would not take what is
// older; others are kept from it when another origin than usual is asked.
func (t *candidate) isOlder(g *generation) bool {
	elsewhere := len(t.e.avoided(t.set.site, t.set.id)) > 0
	if !elsewhere && (t.set.key.Kind != "pacman" || t.force) || t.old == nil || t.old.modified.IsZero() || g.modified.IsZero() || !g.modified.Before(t.old.modified) {
		return false
	}
	for _, entry := range t.old.entries(t.e) {
		if entry.State().Flags&flagPurged != 0 {
			return false
		}
	}
	return true
}

// confirmFirst asks again for the first of the files: if it changed while the
// others came, they may be of another publish.
func (t *candidate) confirmFirst() error {
	first := roots.Groups(t.set.key)[0].File
	entry := t.entries[first]
	if entry == nil || t.old != nil && t.old.files[first] == entry.ID() {
		return nil
	}
	f := t.fly(first, -1, entry)
	<-f.landed
	switch {
	case f.verdict == verdictError:
		return f.err
	case f.verdict == verdictEntry && f.entry.Is(entry), f.verdict == verdictFill && f.kept != nil && sameBody(f.kept, entry):
		return nil
	}
	return fmt.Errorf("%w: %s changed while the others were fetched", roots.ErrMismatch, first)
}

// plausible reports files that cannot be told to belong together, and of which
// only one is new: its fellow will follow. If it does not for a while, they are
// believed.
func (t *candidate) plausible(g *generation) error {
	if t.old == nil {
		return nil
	}
	half := ""
	for _, group := range roots.Groups(t.set.key) {
		oldFile, oldSig := t.old.files[group.File], t.old.files[group.Signature]
		file, sig := g.files[group.File], g.files[group.Signature]
		none := diskcache.ID{}
		if group.Signature == "" || oldFile == none || oldSig == none {
			continue // there was no pair
		}
		if (oldFile != file) != (oldSig != sig) || sig == none { // many publishers remove it first
			half = group.File
		}
	}
	if half == "" || t.set.doubted(validators(t.entries)) >= settledAfter {
		return nil
	}
	return fmt.Errorf("%w: of %s and its signature only one is new", roots.ErrMismatch, half)
}

// doubted returns for how long just these files, by their validators, have not
// looked as if they belonged together.
func (s *set) doubted(files string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.suspect != files {
		s.suspect, s.since = files, time.Now()
	}
	return time.Since(s.since)
}

// disbelieved handles root files that are wrong, or have not belonged together
// for so long that no publish is under way. It reports whether another origin is
// to be asked for all of them.
func (t *candidate) disbelieved(err error) (anew bool) {
	e, s := t.e, t.set
	if err == nil || !t.wrong {
		return false
	}
	reason := upstream.ReasonOf(err)
	if errors.Is(err, roots.ErrUnreadable) {
		reason = upstream.VerifyMismatch // of this set or another, these are no such files
	}
	if reason == upstream.GenerationConflict && !errors.Is(err, errOlder) && t.old != nil && s.doubted(validators(t.entries)) < settledAfter {
		return false
	}
	var origins []string
	for _, asked := range t.times {
		if name := asked.trace.Origin; !slices.Contains(origins, name) {
			origins = append(origins, name)
			e.mistrust(s.site, s.id, name, reason)
		}
	}
	return len(s.site.origin.Origins) > 1 && e.another(s.site, s.id)
}
