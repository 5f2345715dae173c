package deltaworker_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub/deltas"
	"freshet/internal/hub/deltaworker"
	"freshet/internal/role"
)

// A worker says that the hub is not there, and one that works once ends soon.
func TestHubAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		begun := time.Now()
		err := deltaworker.Run(t.Context(), deltaworker.Config{
			Client: &hubapi.Client{Base: "http://127.0.0.1:1", Token: "t"}, Name: "w", Dir: t.TempDir(), Once: true,
			Engines: map[string]deltas.Engine{deltas.EngineNative: nil},
		}, role.Env{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if took := time.Since(begun); err == nil || took > time.Minute {
			t.Errorf("after %s: %v", took, err)
		}
		if !strings.Contains(log.String(), "does not answer") {
			t.Errorf("the log has no word of it:\n%s", &log)
		}
	})
}
