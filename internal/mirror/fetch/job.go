package fetch

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"freshet/internal/durable"
	"freshet/internal/pause"
)

// Job is a want list to be fetched. Folder and Sources are required.
type Job struct {
	// Folder is an absolute path, of a folder that is this job's alone while it runs. The
	// next job with it goes on with what this one could not end.
	Folder string
	// Siblings have files whose SHA-256 is known, or are going to have them; nil: there are
	// none.
	Siblings *Fleet
	// Sources are asked one after the other: what the first one does not give, for
	// whatever reason, the next is asked for.
	Sources []Source
	// Least is how many bytes per second must come from a source, as long as there is another
	// one to turn to; see [Order.Least]. 0: 16 KiB; less: any number.
	Least int64
	// Attempts is how often all of them are tried while some file has [Failed]; 0: 3. Pause
	// is the time before the second attempt, which is doubled from one to the next; 0: two
	// seconds.
	Attempts int
	Pause    time.Duration
	// Progress counts, if it is set.
	Progress *Progress
}

// Progress counts what a job has done. It may be read while the job runs.
type Progress struct {
	// Files and Bytes are those that were fetched and checked, Received the bytes of
	// files that came in so far, those of files that are under way included.
	Files, Bytes, Received atomic.Int64
	// Problems are files that were not had, Wrong those that came and were not what they
	// should be, from whomever: most of them come again.
	Problems, Wrong atomic.Int64
}

// Fetch fetches all that is wanted, and reports what became of each file once, in any
// order, from one goroutine at a time; while report runs, nothing else is fetched for
// long. An error ends it early: of wants, or the cause of the end of ctx. That a file, or
// all of them, cannot be had is no error; that the disk is full is. Memory is that of a hundred thousand files of the
// list, however long it is.
func (j Job) Fetch(ctx context.Context, wants iter.Seq2[Want, error], report func(Result)) error {
	batch := make([]Want, 0, batchFiles)
	for w, err := range wants {
		if err != nil {
			return err
		}
		if batch = append(batch, w); len(batch) < batchFiles {
			continue
		}
		if err := j.fetch(ctx, batch, report); err != nil {
			return err
		}
		batch = batch[:0]
	}
	if len(batch) == 0 {
		return nil
	}
	return j.fetch(ctx, batch, report)
}

// batchFiles is how many files are asked for at once: enough for beginnings and ends of
// transfers not to matter.
const batchFiles = 100_000

// fetch fetches a batch.
func (j Job) fetch(ctx context.Context, batch []Want, report func(Result)) error {
	if err := makeWay(ctx, j.Folder, batch); err != nil {
		return err
	}
	r := round{job: &j, report: report, said: make(map[string]Result)}
	left := j.Siblings.fetch(ctx, &r, slices.Clone(batch))
	wait := cmp.Or(j.Pause, defaultPause)
	for attempt := cmp.Or(j.Attempts, defaultAttempts); ; attempt-- {
		asked, others := split(left, func(w Want) bool { _, ok := r.said[w.Path]; return ok })
		left = append(asked, r.sources(ctx, others)...)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if r.full != nil {
			return r.full
		}
		if left = r.settle(left, attempt > 1); len(left) == 0 {
			return nil
		}
		if !pause.For(ctx, wait) {
			return context.Cause(ctx)
		}
		wait *= 2
		r.said = make(map[string]Result)
	}
}

const (
	defaultAttempts = 3
	defaultLeast    = 16 << 10
	defaultPause    = 2 * time.Second
)

// split parts a list in two.
func split(wants []Want, first func(Want) bool) (yes, no []Want) {
	for _, w := range wants {
		if first(w) {
			yes = append(yes, w)
		} else {
			no = append(no, w)
		}
	}
	return yes, no
}

// round is a batch while it is fetched.
type round struct {
	job  *Job
	said map[string]Result // what sources said of files that they did not give, by path

	mu     sync.Mutex // siblings and sources are asked at once
	report func(Result)
	full   error // the disk is
}

// sources asks one source after the other, and returns what none has given.
func (r *round) sources(ctx context.Context, left []Want) []Want {
	for i, s := range r.job.Sources {
		least := r.job.least()
		if i == len(r.job.Sources)-1 {
			least = 0 // nobody is left to do it better
		}
		left = r.ask(ctx, s, least, left)
	}
	return left
}

func (j *Job) least() int64 { return max(0, cmp.Or(j.Least, defaultLeast)) }

// ask asks a source for files, and returns those that did not come.
func (r *round) ask(ctx context.Context, s Source, least int64, wants []Want) (left []Want) {
	if len(wants) == 0 || r.over(ctx) {
		return wants
	}
	_ = r.order(ctx, s, Order{Wants: wants, Least: least}, func(res Result) { // of which the results tell
		left = append(left, res.Want)
		r.said[res.Want.Path] = worse(r.said[res.Want.Path], res, s.URL())
	})
	return left
}

// order gives an order to a source, reports what comes, and hands on what does not.
func (r *round) order(ctx context.Context, s Source, o Order, missed func(Result)) error {
	o.Folder, o.Progress = r.job.Folder, r.job.Progress
	err := s.Fetch(ctx, o, func(res Result) {
		if res.Outcome != Fetched {
			if p := r.job.Progress; p != nil && res.Outcome == Wrong {
				p.Wrong.Add(1)
			}
			missed(res)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tell(res)
	})
	if durable.IsNoSpace(err) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.full = err
	}
	return err
}

// over reports whether nothing is to be asked for any more.
func (r *round) over(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.full != nil || ctx.Err() != nil
}

// rank orders outcomes of the same file at several sources by how much there is to learn:
// one that may be had another time before one that is another file, and both before one
// that is not there.
func (o Outcome) rank() int {
	return slices.Index([]Outcome{Absent, Denied, Wrong, Failed}, o)
}

// worse is what is told of a file of which sources said this before, and the one at url says
// now that it has it not.
func worse(before, now Result, url string) Result {
	told := now
	if now.Outcome.rank() <= before.Outcome.rank() {
		told = before
	}
	each, ok := before.Err.(Each) //nolint:errorlint // it is made here, and nobody wraps it
	if !ok {
		each = Each{}.Said(before.From, before.Err)
	}
	told.Err = each.Said(url, now.Err).Err()
	return told
}

// settle reports the files that are not to be asked for again, and returns the others.
func (r *round) settle(left []Want, again bool) (failed []Want) {
	for _, w := range left {
		res, ok := r.said[w.Path]
		if !ok {
			res = Result{Want: w, Outcome: Failed, Err: errNobody}
		}
		if again && res.Outcome == Failed {
			failed = append(failed, w)
			continue
		}
		r.tell(res)
	}
	return failed
}

var errNobody = errors.New("there is no source to ask")

// tell reports a file.
func (r *round) tell(res Result) {
	if p := r.job.Progress; p != nil {
		if res.Outcome == Fetched {
			p.Files.Add(1)
			p.Bytes.Add(res.Size)
		} else {
			p.Problems.Add(1)
		}
	}
	r.report(res)
}
