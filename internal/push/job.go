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
	firstPoll = 100 * time.Millisecond
	lastPoll  = 3 * time.Second
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
// when it has ended. Read returns the job with its log from an offset in bytes
// on. A broken job is an error with the hub's reason.
func WaitJob(ctx context.Context, p Progress, read func(ctx context.Context, logOffset int64) (hubapi.Job, error)) (hubapi.Job, error) {
	var job hubapi.Job
	var offset int64
	waits := ""
	var line strings.Builder
	flush := func() {
		if line.Len() > 0 {
			p.Line("  " + line.String())
			line.Reset()
		}
	}
	err := poll(ctx, func() (done, moved bool, err error) {
		job, err = read(ctx, offset)
		if err != nil {
			return false, false, err
		}
		if job.WaitsFor != waits && job.WaitsFor != "" {
			p.Line("  waits for " + printable(job.WaitsFor))
		}
		waits = job.WaitsFor
		offset += int64(len(job.Log))
		for text := range strings.Lines(job.Log) {
			line.WriteString(strings.TrimSuffix(text, "\n"))
			if strings.HasSuffix(text, "\n") {
				flush()
			}
		}
		return job.Status == hubapi.JobEnded || job.Status == hubapi.JobBroken, job.Log != "", nil
	})
	flush()
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
