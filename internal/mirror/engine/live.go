package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"freshet/internal/closure"
	"freshet/internal/layout"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
)

// live is the upstream's tree as it is now. What is read of it comes into the staging
// tree first, and is read from there: so what was checked is what is published, and it is
// fetched once. What an index names with its hash is taken from what is here, if it is.
type live struct {
	up       *Upstream
	st       *generation.Staging
	base     *generation.Generation
	progress *progress
	counts   *counts
	// asked has the files that were asked for in this round: whether they are there.
	asked map[string]bool
	// expected are files that the metadata of the part that is being listed has named, and
	// that it will read next: when it opens the first, all of them are fetched.
	expected []kind.File
	popular  func() []string // as in Project
	// faults are why files that were asked for cannot be read.
	faults map[string]error
	// told are the times that the upstream tells of files that got a later one.
	told map[string]time.Time
	// denied are why the upstream does not give files that it may have.
	denied map[string]error
}

// reset begins a new round: whatever is asked for is what the upstream has from now on.
func (l *live) reset() {
	l.asked = make(map[string]bool)
	l.expected = nil
	l.faults = make(map[string]error)
	l.denied = make(map[string]error)
}

func (l *live) tree() kind.Tree {
	t := kind.Tree{Open: l.open, List: l.list, Prefetch: l.prefetch}
	if l.popular != nil {
		t.Popular = l.popular()
	}
	return t
}

func (l *live) list(ctx context.Context) iter.Seq2[kind.File, error] {
	return func(yield func(kind.File, error) bool) {
		for f, err := range l.up.List(ctx) {
			if err == nil {
				l.progress.did(max(f.Size, 0))
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

// open opens a file of the upstream.
func (l *live) open(ctx context.Context, name string) (fs.File, error) {
	if err := l.get(ctx, name); err != nil {
		return nil, err
	}
	if err := l.faults[name]; err != nil {
		return nil, err
	}
	if !l.asked[name] {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return l.st.Open(name)
}

// get asks for a file, unless that was done.
func (l *live) get(ctx context.Context, name string) error {
	if _, ok := l.asked[name]; ok {
		return nil
	}
	if slices.ContainsFunc(l.expected, func(f kind.File) bool { return f.Path == name }) {
		files := l.expected
		l.expected = nil
		return l.prefetch(ctx, files)
	}
	_, err := l.refresh(ctx, name)
	return err
}

// expect notes a file that may be read next.
func (l *live) expect(f kind.File) {
	if f.Class == layout.Index && f.Link == "" && f.Sum.Value != "" {
		l.expected = append(l.expected, f)
	}
}

// refresh brings a small file of which nothing is known to what the upstream has, and
// reports whether it is another one than that of the generation that is served.
func (l *live) refresh(ctx context.Context, name string) (changed bool, err error) {
	l.progress.say(name)
	have, err := l.base.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		have, err = nil, nil
	}
	if err != nil {
		return false, err
	}
	var known fetch.Validator
	if have != nil {
		defer have.Close() //nolint:errcheck // opened for reading
		info, err := have.Stat()
		if err != nil {
			return false, err
		}
		known = fetch.Validator{Size: info.Size(), ModTime: info.ModTime()}
	}
	f, from, err := l.up.read(ctx, name, l.strong(known))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.asked[name] = false
		return have != nil, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", name, err)
	case f.Same:
		l.asked[name] = true
		return false, l.keep(name, known, have)
	}
	same := have != nil && hasContent(have, f.Data)
	l.asked[name] = true
	l.progress.received.Add(int64(len(f.Data)))
	if same && f.Validator.ModTime.Unix() <= known.ModTime.Unix() {
		return false, l.keep(name, known, have)
	}
	return !same, l.put(name, from, f)
}

// strong is what is known of a file, if a later change of it would show.
func (l *live) strong(v fetch.Validator) fetch.Validator {
	if isStrong(v.ModTime, l.base) {
		return v
	}
	return fetch.Validator{}
}

// isStrong reports whether a file with this time, of a generation, has another time if it
// was changed later: two changes within one second do not show, and when the file was
// read the second could have come yet (RFC 9110 §8.8.2.2).
func isStrong(when time.Time, of *generation.Generation) bool {
	const room = 2 * time.Second
	return !when.IsZero() && when.Before(of.Info().Begun.Add(-room))
}

// keep puts a file of the generation that is served into the staging tree.
func (l *live) keep(name string, known fetch.Validator, have io.ReadSeeker) error {
	h := sha256.New()
	if _, err := have.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(h, have); err != nil {
		return err
	}
	f := generation.File{Path: name, Size: known.Size, ModTime: known.ModTime, SHA256: [32]byte(h.Sum(nil))}
	l.counts.linked.add(f.Size)
	delete(l.told, name)
	if ok, err := l.st.Keep(l.base, f); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%s is gone from generation %s", name, l.base.ID()))
	}
	return nil
}

func hasContent(f io.Reader, data []byte) bool {
	mine, err := io.ReadAll(io.LimitReader(f, int64(len(data))+1))
	return err == nil && string(mine) == string(data)
}

// smallName is where a small file arrives: beside what has the names of the upstream.
const smallName = ".freshet-small"

// put puts a small file that was read into the staging tree.
func (l *live) put(name, from string, f fetch.File) error {
	at := filepath.Join(l.st.Incoming(), smallName)
	if err := os.WriteFile(at, f.Data, 0o644); err != nil {
		return err
	}
	when := f.Validator.ModTime
	if when.IsZero() {
		when = time.Now()
	}
	l.counts.fetched(l.up, fetch.Result{From: from, Size: int64(len(f.Data))})
	return l.place(generation.File{
		Path: name, Size: int64(len(f.Data)), ModTime: when, SHA256: sha256.Sum256(f.Data),
	}, smallName)
}

// mostLater is how much younger than the upstream's the time of a file gets, and more: a file that is
// older by more than this has not taken the place of the other within a moment.
const mostLater = time.Minute

// place puts a file that has come into the staging tree. What takes the place of a file with the
// same time gets a later one: whoever copies by rsync, or asks by If-Modified-Since, would take it
// for that file. An rsync server that is being written to gives what is new with the time of what
// was there when it made its list.
func (l *live) place(f generation.File, at string) error {
	delete(l.told, f.Path)
	if old, err := l.base.Open(f.Path); err == nil {
		info, err := old.Stat()
		_ = old.Close()
		if err == nil && info.ModTime().Unix() >= f.ModTime.Unix() && info.ModTime().Sub(f.ModTime) < mostLater {
			l.told[f.Path] = f.ModTime
			f.ModTime = info.ModTime().Add(time.Second)
		}
	}
	_, err := l.st.Place(f, at)
	return err
}

// prefetch gets files that are going to be opened: those that are here under their hash,
// the others together.
func (l *live) prefetch(ctx context.Context, files []kind.File) error {
	var missing []kind.File
	for _, f := range files {
		if _, ok := l.asked[f.Path]; ok || f.Link != "" {
			continue
		}
		if sum, ok := f.Sum.SHA256(); ok && f.Size >= 0 {
			linked, err := l.st.LinkObject(generation.File{Path: f.Path, Size: f.Size, SHA256: sum})
			if err != nil {
				return err
			}
			if linked {
				l.asked[f.Path] = true
				l.counts.linked.add(f.Size)
				continue
			}
		}
		missing = append(missing, f)
	}
	if len(missing) == 0 {
		return nil
	}
	twins := make(map[closure.Sum][]kind.File)
	list := func(yield func(fetch.Want, error) bool) {
		for _, f := range missing {
			if f.Sum.Value != "" {
				twins[f.Sum] = append(twins[f.Sum], f)
				if len(twins[f.Sum]) > 1 {
					continue
				}
			}
			if !yield(fetch.Want{Path: f.Path, Size: f.Size, Sum: f.Sum, ModTime: f.ModTime}, nil) {
				return
			}
		}
	}
	var failed error
	err := l.fetch(ctx, list, func(res fetch.Result, err error) {
		if err != nil {
			failed = errors.Join(failed, err)
		}
		l.note(res)
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	return l.prefetchTwins(ctx, missing)
}

// prefetchTwins gets those that have the same content as another one, which was fetched
// for all of them.
func (l *live) prefetchTwins(ctx context.Context, files []kind.File) error {
	var left []kind.File
	for _, f := range files {
		if _, ok := l.asked[f.Path]; !ok {
			left = append(left, f)
		}
	}
	if len(left) == 0 || len(left) == len(files) {
		return nil
	}
	return l.prefetch(ctx, left)
}

// note keeps what became of a file that was asked for.
func (l *live) note(res fetch.Result) {
	name := res.Want.Path
	l.asked[name] = res.Outcome == fetch.Fetched
	switch res.Outcome {
	case fetch.Fetched, fetch.Absent:
	case fetch.Denied:
		l.denied[name] = res.Err
	case fetch.Wrong:
		l.faults[name] = closure.Disagree(name, "%s: %w", name, res.Err)
	case fetch.Failed:
		l.faults[name] = fmt.Errorf("%s: %w: %w", name, fetch.ErrUnreachable, res.Err)
	}
}

// fetch fetches files into the staging tree, and tells what became of each. The error
// that is told beside is of the disk.
func (l *live) fetch(ctx context.Context, list iter.Seq2[fetch.Want, error], each func(fetch.Result, error)) error {
	job := fetch.Job{Folder: l.st.Incoming(), Siblings: l.up.Siblings, Sources: l.up.Sources, Progress: &l.counts.job}
	return job.Fetch(ctx, list, func(res fetch.Result) {
		if res.Outcome != fetch.Fetched {
			each(res, nil)
			return
		}
		err := l.verify(&res)
		if err == nil && res.Outcome == fetch.Fetched {
			err = l.arrived(res)
		}
		if err == nil && res.Outcome == fetch.Fetched {
			l.counts.fetched(l.up, res)
			l.progress.did(res.Size)
		}
		each(res, err)
	})
}

// arrived puts a file that was fetched into the staging tree.
func (l *live) arrived(res fetch.Result) error {
	f := generation.File{Path: res.Want.Path, Size: res.Size, ModTime: res.ModTime, SHA256: res.SHA256}
	if res.Want.Sum.Value != "" {
		return l.place(f, res.Want.Path)
	}
	_, err := l.st.Place(f, res.Want.Path) // by its time it is told from what the upstream will have
	return err
}

// verify looks into a file that has come, if its name says what must be in it and nothing
// else does. It makes the result another one if that is not so; the error is of the disk.
func (l *live) verify(res *fetch.Result) error {
	f := kind.File{File: closure.File{Path: res.Want.Path, Size: res.Size}}
	if res.Want.Sum.Value != "" || !kind.Verifiable(f) {
		return nil
	}
	in, err := os.OpenInRoot(l.st.Incoming(), res.Want.Path)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // opened for reading
	err = kind.Verify(f, in)
	if errors.Is(err, kind.ErrWrong) {
		res.Outcome, res.Err = fetch.Wrong, err
		l.counts.job.Wrong.Add(1)
		return nil
	}
	return err
}
