package node

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/accesslog"
)

type lockedWriter struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *lockedWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// Records go where the configuration says, and the log goes on to standard
// error.
func TestAccessLogPlaces(t *testing.T) {
	for _, c := range []struct {
		access         AccessLogConfig
		level          slog.Level
		stderr, stdout string // what of the records is there: "all", "failed"
	}{
		{AccessLogConfig{}, slog.LevelInfo, "all", ""},
		{AccessLogConfig{}, slog.LevelWarn, "failed", ""},
		{AccessLogConfig{To: "off"}, slog.LevelInfo, "", ""},
		{AccessLogConfig{To: "stdout", Format: "combined"}, slog.LevelError, "", "all"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var stderr, stdout lockedWriter
			logs, err := OpenLogs(&stderr, &stdout, LogConfig{Level: c.level, Access: c.access})
			if err != nil {
				t.Fatal(err)
			}
			edge := logs.Access.For("edge")
			edge.Write(&accesslog.Record{Method: "GET", Path: "/good", Status: 200})
			edge.Write(&accesslog.Record{Method: "GET", Path: "/failed", Status: 502})
			logs.Log.Error("something else")
			if !strings.Contains(stderr.String(), "something else") {
				t.Error("the log waits")
			}
			time.Sleep(time.Second)
			synctest.Wait()
			for name, of := range map[string]struct {
				text, want string
			}{"stderr": {stderr.String(), c.stderr}, "stdout": {stdout.String(), c.stdout}} {
				good, failed := strings.Contains(of.text, "/good"), strings.Contains(of.text, "/failed")
				if good != (of.want == "all") || failed != (of.want != "") {
					t.Errorf("%+v: %s has %q, want %s", c.access, name, of.text, of.want)
				}
			}
			if err := logs.Access.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A file that was renamed away is begun anew at the next Reopen.
func TestAccessLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	var stderr lockedWriter
	logs, err := OpenLogs(&stderr, nil, LogConfig{Access: AccessLogConfig{To: path, Format: "json"}})
	if err != nil {
		t.Fatal(err)
	}
	logs.Access.Write(&accesslog.Record{Path: "/first", Status: 200})
	if err := logs.Access.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), `"path":"/first"`) {
		t.Errorf("%s, %v", data, err)
	}
	if _, err := OpenLogs(&stderr, nil, LogConfig{Access: AccessLogConfig{To: filepath.Join(path, "no")}}); err == nil {
		t.Error("a log in a file that is no folder was opened")
	}
}
