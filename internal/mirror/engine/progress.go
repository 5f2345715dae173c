package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/fetch"
)

// progress is how far a sync is. It is written by the sync and read by others.
type progress struct {
	project string
	began   time.Time

	mu    sync.Mutex
	step  mirrorapi.Step
	doing string

	files, filesTotal atomic.Int64
	bytes, bytesTotal atomic.Int64
	received          atomic.Int64    // apart from what job has
	job               *fetch.Progress // counts while files are still coming
	before            atomic.Int64    // what was received when the step began
}

// begin begins a step of so many files and bytes; -1: not known.
func (p *progress) begin(step mirrorapi.Step, files, bytes int64) {
	p.mu.Lock()
	p.step, p.doing = step, ""
	p.mu.Unlock()
	p.files.Store(0)
	p.bytes.Store(0)
	p.filesTotal.Store(files)
	p.bytesTotal.Store(bytes)
	p.before.Store(p.all())
}

// all is what was received since the sync began.
func (p *progress) all() int64 { return p.received.Load() + p.job.Received.Load() }

// did counts a file of the step.
func (p *progress) did(bytes int64) {
	p.files.Add(1)
	p.bytes.Add(bytes)
}

func (p *progress) say(doing string) {
	p.mu.Lock()
	p.doing = doing
	p.mu.Unlock()
}

func (p *progress) now() mirrorapi.Progress {
	p.mu.Lock()
	step, doing := p.step, p.doing
	p.mu.Unlock()
	received, bytes, total := p.all(), p.bytes.Load(), p.bytesTotal.Load()
	if step == mirrorapi.StepFetch { // with what has come of files that are not whole yet
		coming := received - p.before.Load()
		if total > 0 {
			coming = min(coming, total)
		}
		bytes = max(bytes, coming)
	}
	return mirrorapi.Progress{
		Project: p.project, Step: step, Began: p.began, Doing: doing,
		Files: p.files.Load(), FilesTotal: p.filesTotal.Load(),
		Bytes: bytes, BytesTotal: total, Received: received,
	}
}
