package hub

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"freshet/internal/hub/catalog"
)

const (
	// logDelay is the longest a finished line of a job's log waits for others,
	// so that a busy job does not cost a transaction for each.
	logDelay = 300 * time.Millisecond
	// logChunk is how many bytes are written without waiting for more.
	logChunk = 16 << 10
)

// jobLog writes the log of running jobs into the catalog, line by line and
// soon. Publishes that were merged into one share it. Writing never fails: a
// log that cannot be written is no reason to stop a publish.
type jobLog struct {
	catalog *catalog.Catalog
	jobs    []int64
	log     *slog.Logger

	mu    sync.Mutex
	text  []byte
	timer *time.Timer // runs while there are lines to write; else nil
}

// Write implements [io.Writer].
func (l *jobLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if len(l.text) >= logChunk {
		l.flush(context.Background(), bytes.LastIndexByte(l.text, '\n')+1, l.catalog.AppendLog)
	}
	if l.timer == nil && len(l.text) > 0 {
		l.timer = time.AfterFunc(logDelay, l.tick)
	}
	return len(p), nil
}

func (l *jobLog) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	l.flush(context.Background(), bytes.LastIndexByte(l.text, '\n')+1, l.catalog.AppendLog)
}

// pass writes what there is, also when ctx has ended.
func (l *jobLog) pass(ctx context.Context) { l.empty(ctx, l.catalog.AppendLog) }

// end is pass before the end of the jobs, of which those who wait for them are told:
// otherwise they would be told twice, and come late for the second time.
func (l *jobLog) end(ctx context.Context) { l.empty(ctx, l.catalog.EndLog) }

func (l *jobLog) empty(ctx context.Context, write logWriter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timer = nil
	l.flush(context.WithoutCancel(ctx), len(l.text), write)
}

// logWriter appends text to the log of a job.
type logWriter func(ctx context.Context, job int64, text string) error

// flush writes the first n bytes. The caller holds mu.
func (l *jobLog) flush(ctx context.Context, n int, write logWriter) {
	if n == 0 && len(l.text) > logChunk {
		n = len(l.text) // a line without end
	}
	if n == 0 {
		return
	}
	for _, job := range l.jobs {
		if err := write(ctx, job, string(l.text[:n])); err != nil {
			l.log.WarnContext(ctx, "job log lost", slog.Int64("job", job), slog.Any("error", err))
		}
	}
	l.text = append(l.text[:0], l.text[n:]...)
}
