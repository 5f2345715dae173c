package fetch_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/internal/mirror/fetch"
	"freshet/internal/pause"
	"freshet/internal/peertest"
	"freshet/internal/rsync"
	"freshet/internal/rsync/rsynctest"
)

// What an rsync leaves behind that is killed in the middle of a file is removed, and nothing
// else is: neither what a job goes on with nor what has come.
func TestTidy(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "rsync")
	url := rsynctest.Serve(t, tree{"a/long\nname": strings.Repeat("x", 8<<20)}.write(t))
	kept := tree{
		"a/long": "1", "a/.treeinfo": "2", "b/x.tar.gz": "3", "a/" + rsync.PartialFolder + "/.x.abcdef": "4", fetch.PartsFolder + "/.y.abcdef": "5",
	}
	folder := kept.write(t)
	ctx := t.Context()
	cmd := exec.CommandContext(ctx, "rsync", "-r", "--bwlimit=1000", url, folder+"/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	begun := func() []string {
		names, err := filepath.Glob(filepath.Join(folder, "a/.long?name.*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	soon, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for len(begun()) == 0 {
		if !pause.For(soon, time.Millisecond) {
			t.Fatal("rsync has not begun")
		}
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil { // its child, too
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if len(begun()) == 0 {
		t.Fatal("rsync leaves nothing behind")
	}
	if err := fetch.Tidy(ctx, folder); err != nil {
		t.Fatal(err)
	}
	left := begun()
	for name := range kept {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	if len(left) != 0 {
		t.Errorf("%q is left", left)
	}
}
