package node

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/role"
)

const record = role.RecordMessage

type lockedWriter struct {
	mu     sync.Mutex
	b      bytes.Buffer
	writes int
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	return w.b.Write(p)
}

func (w *lockedWriter) lines() (lines, writes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.b.String(), "\n"), w.writes
}

// Access records wait a little for others; everything else takes along what
// waits and is written at once.
func TestAccessRecordsWait(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		synctest.Test(t, func(t *testing.T) {
			var w lockedWriter
			log, flush := NewLogger(&w, LogConfig{Format: format})
			want := func(lines, writes int) {
				t.Helper()
				synctest.Wait()
				if l, n := w.lines(); l != lines || n != writes {
					t.Errorf("%d lines in %d writes, want %d in %d", l, n, lines, writes)
				}
			}
			for range 10 {
				log.Info(record)
			}
			want(0, 0)
			time.Sleep(recordDelay)
			want(10, 1)
			log.With(slog.String("a", "b")).Info(record)
			want(10, 1)
			log.Info("something else")
			want(12, 2)
			time.Sleep(time.Second)
			want(12, 2)
			log.Warn(record)
			want(13, 3)
			log.WithGroup("g").Info(record)
			flush()
			flush()
			want(14, 4)
			for range 2000 {
				log.Info(record, slog.String("path", strings.Repeat("x", 100)))
			}
			if _, writes := w.lines(); writes < 5 || writes > 20 {
				t.Errorf("%d writes for 2000 records", writes)
			}
			time.Sleep(recordDelay)
			synctest.Wait()
			if lines, _ := w.lines(); lines != 2014 {
				t.Errorf("%d lines", lines)
			}
		})
	}
}
