package versions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"freshet/internal/closure"
	"freshet/internal/inventory"
	"freshet/internal/pause"
	"freshet/internal/unpack"
)

const (
	defaultEvery = time.Minute
	leastGap     = 5 * time.Second  // between two looks at an origin's pointer
	toldGap      = time.Second / 2  // the same, when there is something to see
	longestWait  = 10 * time.Minute // for an origin that does not answer
	pollTime     = time.Minute
	listTime     = 30 * time.Minute
	longestRetry = 30 * time.Minute // for a list that cannot be read
	parallel     = 4                // looks at one project
	maxPointer   = 1 << 30
)

// follow looks at a repository until ctx ends.
func (v *Versions) follow(ctx context.Context, r *repository, slots chan struct{}) {
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		v.look(ctx, r)
		<-slots
		if !r.rest(ctx, v.wait(r)) {
			return
		}
	}
}

// rest waits until the next look is due: after d, soon when it was asked for, and now when
// somebody knows that there is something to see. It is false when ctx ends.
func (r *repository) rest(ctx context.Context, d time.Duration) bool {
	if !pause.For(ctx, toldGap) {
		return false
	}
	due, soon := time.NewTimer(d-toldGap), time.NewTimer(leastGap-toldGap)
	defer due.Stop()
	defer soon.Stop()
	var kick <-chan struct{} // nil until it is soon
	for {
		select {
		case <-soon.C:
			kick = r.kick
			continue
		case <-due.C:
		case <-kick:
		case <-r.told:
		case <-ctx.Done():
		}
		return ctx.Err() == nil
	}
}

// wait is how long it is to the next look. Not all repositories are looked at together.
func (v *Versions) wait(r *repository) time.Duration {
	every := v.every()
	d := min(every<<min(r.work.away, 10), max(longestWait, every))
	if retry := time.Until(r.work.retry); r.work.failures > 0 && retry > 0 {
		d = min(d, retry)
	}
	return max(d*9/10+rand.N(d/5+1), leastGap)
}

func (v *Versions) every() time.Duration {
	if v.opt.Every > 0 {
		return v.opt.Every
	}
	return defaultEvery
}

// look brings what is known of a repository up to now.
func (v *Versions) look(ctx context.Context, r *repository) {
	held := r.held()
	v.poll(ctx, r)
	if v.refresh(ctx, r) {
		held = r.held()
		v.poll(ctx, r) // that may have taken its time
	}
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release(held)
	r.settle(v.opt.Inventory, time.Now(), true)
	if now := r.history.current().Sum; now != r.work.listed && now != r.work.unlisted && r.work.failures == 0 && r.work.away == 0 {
		r.hasten() // another version came while one was read
	}
}

// poll asks the origin for the pointer.
func (v *Versions) poll(ctx context.Context, r *repository) {
	s, size, err := v.pointer(ctx, r)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		v.unanswered(r, err)
	} else if v.answered(r, s, size) {
		v.scan("", r.project, "new-version")
	}
}

// unanswered says that the origin did not show the pointer.
func (v *Versions) unanswered(r *repository, err error) {
	if r.work.away++; r.work.away == 1 {
		r.log.Warn("the origin does not show a repository's version, and the last one stays", slog.Any("error", err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// answered takes the pointer that the origin shows, and tells whether it is a new version.
func (v *Versions) answered(r *repository, s sum, size int64) (newer bool) {
	log := r.log.With(slog.String("sha256", hex.EncodeToString(s[:])))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.work.away > 0 {
		r.work.away, r.err = 0, nil
		log.Info("the origin shows a repository's version again")
	}
	r.asked = time.Now()
	wasBack := r.history.Back
	changed, newer := r.history.saw(s, r.asked)
	if changed {
		v.save()
	}
	switch {
	case newer:
		log.Info("new version of a repository")
		r.begin(s, size)
	case r.history.Back != sum{} && r.history.Back != wasBack:
		log.Warn("the origin shows an older version of a repository, and is not followed for an hour")
	}
	return newer
}

// pointer returns the SHA-256 of the origin's pointer, and its length if it was read.
func (v *Versions) pointer(ctx context.Context, r *repository) (s sum, size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	body, tag, err := v.opt.Origin.Get(ctx, r.project, r.pointer, r.work.tag)
	if err != nil {
		return s, 0, err
	}
	if body == nil {
		return r.work.sum, -1, nil
	}
	defer func() { _ = body.Close() }()
	h := sha256.New()
	size, err = io.Copy(h, io.LimitReader(body, maxPointer+1))
	if err != nil {
		return s, 0, fmt.Errorf("%s: %w", r.pointer, err)
	}
	if size > maxPointer {
		return s, 0, fmt.Errorf("%s: longer than %d bytes", r.pointer, maxPointer)
	}
	h.Sum(s[:0])
	r.work.tag, r.work.sum = tag, s
	return s, size, nil
}

// refresh finds out who has all of the current version, and tells whether there was
// something to do.
func (v *Versions) refresh(ctx context.Context, r *repository) bool {
	r.mu.Lock()
	version := r.history.current()
	r.mu.Unlock()
	if version.Serial == 0 {
		return false
	}
	read := v.list(ctx, r, version.Sum)
	now := time.Now()
	shows := r.candidates(now)
	if len(shows) == 0 || ctx.Err() != nil {
		return read
	}
	view := v.opt.Inventory.Project(r.project).View()
	if r.work.passed.serial == view.Serial() && r.work.passed.version == version.Sum {
		return read
	}
	complete, known := v.holders(r, version, view)
	if !known {
		return read
	}
	r.work.passed.serial, r.work.passed.version = view.Serial(), version.Sum
	r.mu.Lock()
	r.complete, r.completeOf = complete, version.Sum
	r.mu.Unlock()
	for mirror, since := range shows {
		h, ok := v.opt.Inventory.Lookup(mirror)
		if ok && !complete.Has(h) && view.Standing(h).Updated.Before(since) {
			v.scan(mirror, r.project, "new-version")
		}
	}
	return true
}

// list reads the files of a version from the origin, if that was not done before, and
// tells whether it tried.
func (v *Versions) list(ctx context.Context, r *repository, version sum) (tried bool) {
	w := &r.work
	if w.listed == version || w.unlisted == version {
		return false
	}
	name := listName(r.key)
	names, files, err := readNames(readList(v.opt.Dir, name, version))
	if err != nil {
		repository, ok := repositoryOf(r.spec)
		if !ok {
			w.unlisted = version
			return false
		}
		if w.away > 0 || w.failures > 0 && time.Now().Before(w.retry) {
			return false
		}
		tried = true
		ctx, cancel := context.WithTimeout(ctx, listTime)
		defer cancel()
		err = writeList(v.opt.Dir, name, version, repository.Files(ctx, opener(v.opt.Origin, r.project)))
		if err == nil {
			names, files, err = readNames(readList(v.opt.Dir, name, version))
		}
	}
	if ctx.Err() != nil {
		return tried
	}
	format, unreadable := errors.AsType[unpack.FormatError](err)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case unreadable:
		w.unlisted, w.failures = version, 0
		r.log.WarnContext(ctx, "a repository's packages cannot be listed, and mirrors must have all payload of its folder", slog.Any("because", format))
	case err != nil:
		w.failures++
		w.retry = time.Now().Add(min(v.every()<<min(w.failures-1, 10), longestRetry))
		r.err = err
		r.log.WarnContext(ctx, "a repository's version cannot be read whole, and no mirror is offered for it", slog.Any("error", err))
	default:
		w.listed, w.failures, r.err = version, 0, nil
		r.show(func(s *shown) { s.names, s.files = names, files })
	}
	return tried
}

// readNames reads a list for the names whose content changes.
func readNames(list iter.Seq2[listed, error]) (names map[string]fact, files int, err error) {
	names = make(map[string]fact)
	for f, err := range list {
		if err != nil {
			return nil, 0, err
		}
		files++
		if f.named {
			names[f.path] = fact{size: f.size, sha256: f.sha256}
		}
	}
	return names, files, nil
}

// holders returns who has all of a version. It is not known if there is no list yet, or
// the origin was not listed since.
func (v *Versions) holders(r *repository, version version, view inventory.View) (set inventory.Set, known bool) {
	switch version.Sum {
	case r.work.unlisted:
		if view.Standing(inventory.Origin).Updated.Before(version.Since) {
			return set, false
		}
		return view.Covers(r.spec.Path, payload(r.spec.Kind, r.spec.Path)), true
	case r.work.listed:
		p := pass{view: view}
		set = p.run(readList(v.opt.Dir, listName(r.key), version.Sum))
		if p.err != nil {
			r.log.Warn("a list of a repository's files is read anew from the origin", slog.Any("error", p.err))
			r.work.listed = sum{}
			r.hasten()
			return inventory.Set{}, false
		}
		v.teach(r, version, view)
		return set, true
	}
	return set, false
}

// pass goes over a list for who has all of it.
type pass struct {
	view  inventory.View
	extra []inventory.Set // holders of files whose size is not known
	err   error
}

func (p *pass) run(list iter.Seq2[listed, error]) inventory.Set {
	set := p.view.Holding(func(yield func(inventory.Entry) bool) {
		for f, err := range list {
			if p.err = err; err != nil {
				return
			}
			if e, ok := p.entry(&f); ok && !yield(e) {
				return
			}
		}
	})
	for _, s := range p.extra {
		set = set.And(s)
	}
	if p.err != nil {
		return inventory.Set{}
	}
	return set
}

// entry is what holders must have of a file, if it matters.
func (p *pass) entry(f *listed) (e inventory.Entry, ok bool) {
	if f.optional || f.size < 0 {
		current, there := p.view.Find(f.path)
		if f.optional && !there {
			return e, false
		}
		if f.size < 0 {
			if len(p.extra) == 0 || p.extra[len(p.extra)-1] != current.Holders {
				p.extra = append(p.extra, current.Holders)
			}
			return e, false
		}
	}
	e = f.entry()
	// Whether a "%" in a name stands for itself depends on who wrote it.
	if strings.Contains(f.path, "%") && p.view.Held(e).Len() == 0 {
		if plain, err := url.PathUnescape(f.path); err == nil {
			e.Path = plain
		}
	}
	return e, true
}

// opener returns a function that reads files of a project at its origin.
func opener(origin Origin, project string) closure.Open {
	return func(ctx context.Context, name string) (io.ReadCloser, error) {
		body, _, err := origin.Get(ctx, project, name, "")
		if err == nil && body == nil {
			err = errors.New("the origin says that it is the same as nothing")
		}
		return body, err
	}
}
