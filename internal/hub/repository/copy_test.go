package repository

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/store"
)

// TestFillingIsTold: the log says when a fill begins, how far it is, though not all the
// time, and when it has ended.
func TestFillingIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := &Repository{log: slog.New(slog.NewTextHandler(&log, nil))}
		tell := r.tellFilling()
		lines := func(want ...string) {
			t.Helper()
			got := strings.Split(strings.TrimSpace(log.String()), "\n")
			log.Reset()
			if len(got) != len(want) {
				t.Fatalf("%q, want %q", got, want)
			}
			for i := range want {
				if !strings.Contains(got[i], want[i]) {
					t.Errorf("%q, want %q", got[i], want[i])
				}
			}
		}
		tell(store.Filling{Copy: true})
		lines("publishes wait for it\" what=bucket files=0")
		for i := range int64(30) {
			time.Sleep(time.Second)
			tell(store.Filling{Copy: true, Files: i, Bytes: 1000 * i})
		}
		lines("filling what=bucket files=9 bytes=9000", "files=19 bytes=19000", "files=29 bytes=29000")
		tell(store.Filling{Copy: true, Files: 30, Ended: true})
		lines(`the same" what=bucket files=30 bytes=0 took=30s`)
		tell(store.Filling{})
		lines("publishes wait for it\" what=directory")
	})
}
