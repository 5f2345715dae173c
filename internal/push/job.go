package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/pause"
)

const (
	firstPoll = 50 * time.Millisecond
	lastPoll  = 3 * time.Second
	// firstWait is how long the hub may hold back its first answer about a job.
	firstWait = 300 * time.Millisecond
)

// poll calls ask, with growing pauses, until it reports done or an error.
// Moved makes the pauses short again.
func poll(ctx context.Context, ask func() (done, moved bool, err error)) error {
	wait := firstPoll
	for {
		done, moved, err := ask()
		if done || err != nil {
			return err
		}
		if moved {
			wait = firstPoll
		}
		if !pause.For(ctx, wait) {
			return context.Cause(ctx)
		}
		wait = min(wait*3/2, lastPoll)
	}
}

// WaitJob tells the lines of a job's log, and what it waits for, and returns the job
// when it has ended. Read asks the hub. A broken job is an error with the hub's reason.
func WaitJob(ctx context.Context, p Progress, read func(context.Context, hubapi.JobRequest) (hubapi.Job, error)) (hubapi.Job, error) {
	f := jobFollower{read: read, progress: p}
	err := poll(ctx, func() (done, moved bool, err error) {
		for held := true; held && !done && err == nil; {
			held, err = f.ask(ctx)
			done = f.job.Status == hubapi.JobEnded || f.job.Status == hubapi.JobBroken
		}
		return done, f.job.Log != "", err
	})
	f.flush()
	job := f.job
	if err != nil {
		return job, err
	}
	if job.Status == hubapi.JobBroken {
		reason := hubapi.FailureResults{ErrorMessage: "the hub gives no reason"}
		if job.Results != nil {
			_ = json.Unmarshal([]byte(*job.Results), &reason)
		}
		return job, fmt.Errorf("%s job %d: %s", job.Kind, job.ID, printable(reason.ErrorMessage))
	}
	return job, nil
}

// results decodes what an ended job has left.
func results(job hubapi.Job, v any) error {
	if job.Results == nil {
		return errors.New("job without results")
	}
	if err := json.Unmarshal([]byte(*job.Results), v); err != nil {
		return fmt.Errorf("results of %s job %d: %w", job.Kind, job.ID, err)
	}
	return nil
}

// jobFollower reads a job again and again.
type jobFollower struct {
	read     func(context.Context, hubapi.JobRequest) (hubapi.Job, error)
	progress Progress

	job   hubapi.Job // as it was read last
	asked bool
	log   int64 // bytes read of it
	waits string
	line  strings.Builder // without its end yet
}

// ask reads the job, and reports whether the hub held the answer back until there was
// something to tell or the time was over: then it may be asked again at once. The first
// time it is not to wait for long, so that what the job waits for is told soon.
func (f *jobFollower) ask(ctx context.Context) (held bool, err error) {
	wait := lastPoll
	if !f.asked {
		wait, f.asked = firstWait, true
	}
	begun := time.Now()
	if f.job, err = f.read(ctx, hubapi.JobRequest{LogOffset: f.log, Wait: wait.String()}); err != nil {
		return false, err
	}
	held = time.Since(begun) >= wait/2
	if f.job.WaitsFor != f.waits && f.job.WaitsFor != "" {
		f.progress.Line("  waits for " + printable(f.job.WaitsFor))
	}
	f.waits = f.job.WaitsFor
	f.log += int64(len(f.job.Log))
	for text := range strings.Lines(f.job.Log) {
		f.line.WriteString(strings.TrimSuffix(text, "\n"))
		if strings.HasSuffix(text, "\n") {
			f.flush()
		}
	}
	return held, nil
}

// flush tells the line.
func (f *jobFollower) flush() {
	if f.line.Len() > 0 {
		f.progress.Line("  " + f.line.String())
		f.line.Reset()
	}
}
