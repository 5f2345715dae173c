package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"freshet/internal/rsync"
)

// inspectors are how many goroutines read what has arrived, while more arrives.
const inspectors = 2

// rsyncSource is a server of rsync.
type rsyncSource struct {
	url string
	o   Options
}

func (s *rsyncSource) URL() string { return s.url }

// List lists by rsync itself.
func (s *rsyncSource) List(ctx context.Context, folder string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		l := rsync.Listing{URL: s.below(folder), Silence: s.o.silence(), Dial: s.dialer(), Excludes: []string{".~tmp~/", ".snapshot/", rsync.PartialFolder + "/"}}
		for e, err := range s.o.Rsync.List(ctx, l) {
			if _, exit := errors.AsType[*rsync.ExitError](err); err != nil && !exit {
				err = answered(ctx, err)
			}
			if err != nil {
				yield(Entry{}, explainListing(err))
				return
			}
			if e.Name == "." || e.Type == rsync.Other {
				continue
			}
			entry := Entry{Path: path.Join(folder, e.Name), Type: byte(e.Type), Size: e.Size, ModTime: e.ModTime, Target: e.Target, Private: !e.Public()}
			if e.Type == rsync.File {
				entry.Type = 'f'
			}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

// below is the URL of a folder of the tree.
func (s *rsyncSource) below(folder string) string {
	if folder == "." || folder == "" {
		return s.url
	}
	return strings.TrimRight(s.url, "/") + "/" + folder + "/"
}

func (s *rsyncSource) dialer(received ...*atomic.Int64) rsync.Dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return s.o.dial(ctx, network, addr, received...)
	}
}

// Read fetches a file to a scratch folder. It is never said to be the same: a server that is being
// written to may give what is new with the size and time of what it had when it made its list.
func (s *rsyncSource) Read(ctx context.Context, name string, limit int64, _ Validator) (_ File, err error) {
	scratch, err := os.MkdirTemp(s.o.Scratch, "freshet-read-")
	if err != nil {
		return File{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	ctx, watch := watch(ctx, Order{}, nil, 2*limit+around)
	defer watch.stop()
	came := false
	t := rsync.Transfer{URL: s.url, Folder: scratch, Silence: s.o.silence(), Dial: s.dialer(watch.counters...), MaxSize: limit, EndSize: limit}
	for f, err := range s.o.Rsync.Fetch(ctx, t, func(yield func(string) bool) { yield(name) }) {
		if err = cmp.Or(err, f.Err); err != nil {
			return File{}, explainRsync(err)
		}
		came = true
	}
	if !came {
		return File{}, fmt.Errorf("%s below %s has more than %d bytes, or is no file", name, s.url, limit)
	}
	root, err := os.OpenRoot(scratch)
	if err != nil {
		return File{}, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return File{}, cmp.Or(err, fs.ErrInvalid)
	}
	file := File{Validator: Validator{ModTime: info.ModTime().UTC(), Size: info.Size()}}
	file.Data, err = root.ReadFile(name)
	return file, err
}

// Fetch runs one rsync after the other, each for as many files as it can have. It asks for
// them in the order of their paths, which is how rsync works through them.
func (s *rsyncSource) Fetch(ctx context.Context, o Order, report func(Result)) error {
	folder, err := os.Open(o.Folder)
	if err != nil {
		return failAll(o.Wants, s.url, err, report)
	}
	defer func() { _ = folder.Close() }() // it is only read
	byPath := func(a, b Want) int { return strings.Compare(a.Path, b.Path) }
	if !slices.IsSortedFunc(o.Wants, byPath) {
		o.Wants = slices.SortedFunc(slices.Values(o.Wants), byPath)
	}
	long, short := split(o.Wants, func(w Want) bool { return w.Size < 0 || w.Size >= worthKeeping })
	o.Wants = short
	failed := s.fetch(ctx, folder, o, false, report)
	if failed != nil && !rsync.OfSome(failed) {
		return failAll(long, s.url, failed, report)
	}
	o.Wants = long
	return cmp.Or(s.fetch(ctx, folder, o, true, report), failed)
}

// worthKeeping is how long a file is at least of which a beginning is kept, if it is cut
// off: what is lost of a shorter one is soon there again.
const worthKeeping = 8 << 20

// fetch fetches files of which beginnings are kept, or are not. An error is of all of them, unless
// it is [rsync.OfSome].
func (s *rsyncSource) fetch(ctx context.Context, folder *os.File, o Order, partial bool, report func(Result)) (failed error) {
	for wants := o.Wants; len(wants) > 0; {
		n := min(len(wants), s.o.Rsync.Most())
		err := s.run(ctx, folder, o, wants[:n], partial, report)
		if wants = wants[n:]; err != nil && !rsync.OfSome(err) {
			return failAll(wants, s.url, err, report)
		}
		failed = cmp.Or(err, failed)
	}
	return failed
}

// run runs one rsync.
func (s *rsyncSource) run(ctx context.Context, folder *os.File, o Order, wants []Want, partial bool, report func(Result)) error {
	a := &arrivals{source: s, wants: wants, at: make(map[string]int, len(wants)), state: make([]state, len(wants)), report: report}
	for i, w := range wants {
		a.at[w.Path] = i
	}
	ready := make(chan int, readyFiles)
	var inspecting sync.WaitGroup
	for range inspectors {
		i := inspector{folder: int(folder.Fd()), o: &s.o}
		inspecting.Go(func() { a.inspect(ctx, &i, ready) })
	}
	err := a.receive(ctx, o, partial, ready)
	if err == nil {
		a.others(ready)
	}
	close(ready)
	inspecting.Wait()
	last := inspector{folder: int(folder.Fd()), o: &s.o}
	for _, i := range a.missing {
		if a.state[i] = waiting; err == nil {
			a.state[i] = handed
			a.tell(last.inspect(ctx, wants[i], s.url))
		}
	}
	a.rest(err)
	return err
}

// readyFiles is how many files may have arrived and not been looked at.
const readyFiles = 1024

// failAll reports all files as failed.
func failAll(wants []Want, from string, err error, report func(Result)) error {
	for _, w := range wants {
		report(Result{Want: w, Outcome: Failed, From: from, Err: fmt.Errorf("%s: %w", w.Path, err)})
	}
	return err
}

// arrivals are the files of an order, as they come.
type arrivals struct {
	source *rsyncSource
	wants  []Want
	at     map[string]int
	state  []state // of each; written by the goroutine that receives

	mu      sync.Mutex
	report  func(Result)
	missing []int // files that rsync spoke of and that were not there: broken, they come again
}

// state is how far a file is.
type state uint8

const (
	waiting state = iota
	handed        // to be looked at
	told
)

// around is what may come around one file.
const around = 1 << 20

// slack is what may come of files that have grown since they were listed, and with them.
const slack = 1 << 30

// bounds are how long one of these files may be, and how many bytes may come of all of them: twice
// what is told, since rsync sends a file that came broken once more.
func bounds(wants []Want) (longest, all int64) {
	const much, perFile = 1 << 60, 16 << 10 // with two paths
	for _, w := range wants {
		size := w.Size
		if size < 0 {
			size = maxUnknown
		}
		longest = max(longest, size)
		all = min(all+size+perFile, much)
	}
	return 2*longest + slack, 2*all + slack
}

// receive takes what comes.
func (a *arrivals) receive(ctx context.Context, o Order, partial bool, ready chan<- int) error {
	longest, most := bounds(a.wants)
	ctx, watch := watch(ctx, o, a.source.o.Network, most)
	defer watch.stop()
	if !partial {
		longest = 0 // nothing is written but what comes
	}
	t := rsync.Transfer{
		URL: a.source.url, Folder: o.Folder, Partial: partial, EndSize: longest,
		Silence: a.source.o.silence(), Dial: a.source.dialer(watch.counters...), Idle: a.source.o.IdleDisk,
	}
	names := func(yield func(string) bool) {
		for i := range a.wants {
			if !yield(a.wants[i].Path) {
				return
			}
		}
	}
	for f, err := range a.source.o.Rsync.Fetch(ctx, t, names) {
		if err != nil {
			return explainRsync(err)
		}
		i, ok := a.at[f.Name]
		if !ok || a.state[i] != waiting {
			continue // nobody asked for it, or it came twice
		}
		if f.Err != nil {
			a.state[i] = told
			a.tell(Result{Want: a.wants[i], Outcome: outcomeOf(f.Err), From: a.source.url, Err: fmt.Errorf("%s: %w", f.Name, f.Err)})
			continue
		}
		a.state[i] = handed
		ready <- i
	}
	return nil
}

// others hands on the files of which rsync said nothing: they were there already, from
// a transfer before.
func (a *arrivals) others(ready chan<- int) {
	for i := range a.state {
		if a.state[i] == waiting {
			a.state[i] = handed
			ready <- i
		}
	}
}

// rest reports the files that nothing became of.
func (a *arrivals) rest(err error) {
	for i := range a.state {
		if a.state[i] == waiting {
			a.tell(Result{Want: a.wants[i], Outcome: Failed, From: a.source.url, Err: fmt.Errorf("%s: %w", a.wants[i].Path, err)})
		}
	}
}

// inspect looks at files that are ready.
func (a *arrivals) inspect(ctx context.Context, with *inspector, ready <-chan int) {
	for i := range ready {
		r := with.inspect(ctx, a.wants[i], a.source.url)
		if errors.Is(r.Err, fs.ErrNotExist) {
			a.mu.Lock()
			a.missing = append(a.missing, i)
			a.mu.Unlock()
			continue
		}
		a.tell(r)
	}
}

func (a *arrivals) tell(r Result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report(r)
}

// outcomeOf is what an error of a file means.
func outcomeOf(err error) Outcome {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Absent
	case errors.Is(err, fs.ErrPermission):
		return Denied
	}
	return Failed
}

// explainListing is [explainRsync] for a listing: of a folder that is not there rsync tells nothing
// but this text, in which the number is that of errno.h.
func explainListing(err error) error {
	exit, ok := errors.AsType[*rsync.ExitError](err)
	if ok && exit.Code == 23 && (strings.Contains(exit.Detail, "(2)") || strings.Contains(exit.Detail, "(20)")) {
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return explainRsync(err)
}

// explainRsync gives an error of rsync its meaning. Its codes are those of errcode.h.
func explainRsync(err error) error {
	exit, ok := errors.AsType[*rsync.ExitError](err)
	if !ok {
		return err
	}
	switch exit.Code {
	case 11:
		if strings.Contains(exit.Detail, "(28)") || strings.Contains(exit.Detail, "(122)") {
			return fmt.Errorf("%w: %w", syscall.ENOSPC, err)
		}
	case 2, 4, 22: // names, numbers and amounts that must not be
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	case 5, 10, 12, 30, 35: // 5 also means that there are too many clients
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}
