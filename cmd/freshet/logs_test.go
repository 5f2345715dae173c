package main

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"freshet/internal/accesslog"
	"freshet/internal/node"
)

// SIGHUP begins a new file after logrotate renamed the old one, and no line is
// lost.
func TestHangUpReopensTheAccessLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	var stderr bytes.Buffer
	cmd := new(cobra.Command)
	cmd.SetContext(t.Context())
	cmd.SetErr(&stderr)
	logs, err := openLogs(cmd, node.LogConfig{Access: node.AccessLogConfig{To: path, Format: "combined"}})
	if err != nil {
		t.Fatal(err)
	}
	edge := logs.Access.For("edge")
	edge.Write(&accesslog.Record{Method: "GET", Path: "/before", Status: 200})
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) { // the signal takes its time
		if _, err := os.Stat(path); err == nil {
			break
		} else if time.Since(begin) > 2*time.Minute {
			t.Fatal(err)
		}
	}
	edge.Write(&accesslog.Record{Method: "GET", Path: "/after", Status: 200})
	if err := logs.Access.Close(); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{path + ".1": "/before", path: "/after"} {
		data, err := os.ReadFile(file)
		if err != nil || bytes.Count(data, []byte("\n")) != 1 || !bytes.Contains(data, []byte(want)) {
			t.Errorf("%s: %q, %v; want one line with %s", file, data, err, want)
		}
	}
	if stderr.Len() > 0 {
		t.Errorf("%s", &stderr)
	}
}
