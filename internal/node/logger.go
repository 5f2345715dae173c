package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"freshet/internal/role"
)

const (
	// recordDelay is how long an access record may wait for others.
	recordDelay = 200 * time.Millisecond
	// recordBytes is how much may wait.
	recordBytes = 32 << 10
)

// NewLogger returns the logger that c describes, writing to w. Access records
// are written many at once, at most a fifth of a second late, because a system
// call for each costs a busy edge more than the answers; everything else is
// written at once, and in order. The caller calls flush before the process
// ends.
func NewLogger(w io.Writer, c LogConfig) (log *slog.Logger, flush func()) {
	out := &logBuffer{w: w}
	options := &slog.HandlerOptions{Level: c.Level}
	var h slog.Handler = slog.NewTextHandler(out, options)
	if c.Format == "json" {
		h = slog.NewJSONHandler(out, options)
	}
	return slog.New(logHandler{h, out}), func() { _ = out.flush() } // there is nobody left to tell
}

// logHandler lets access records wait.
type logHandler struct {
	slog.Handler
	out *logBuffer
}

// Handle implements [slog.Handler].
func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Message == role.RecordMessage && r.Level < slog.LevelWarn {
		return err
	}
	return errors.Join(err, h.out.flush())
}

// WithAttrs implements [slog.Handler].
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs), h.out}
}

// WithGroup implements [slog.Handler].
func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.Handler.WithGroup(name), h.out}
}

// logBuffer collects lines. Safe for concurrent use.
type logBuffer struct {
	w io.Writer

	mu    sync.Mutex
	lines []byte
	timer *time.Timer // runs while lines wait
}

// Write implements [io.Writer].
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, p...)
	switch {
	case len(b.lines) >= recordBytes:
		return len(p), b.flushLocked()
	case len(b.lines) > len(p): // the timer runs
	case b.timer == nil:
		b.timer = time.AfterFunc(recordDelay, func() { _ = b.flush() }) // a log that cannot be written is nobody's to tell
	default:
		b.timer.Reset(recordDelay)
	}
	return len(p), nil
}

func (b *logBuffer) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flushLocked()
}

func (b *logBuffer) flushLocked() error {
	if len(b.lines) == 0 {
		return nil
	}
	if b.timer != nil {
		b.timer.Stop()
	}
	_, err := b.w.Write(b.lines)
	b.lines = b.lines[:0]
	return err
}
