// Package rsynctest runs an rsync server for tests.
package rsynctest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// Serve runs an rsync daemon until the test ends, and returns the URL of its module,
// which is a folder in one of testing.TB's temporary folders.
func Serve(tb testing.TB, folder string) (url string) {
	tb.Helper()
	peertest.Require(tb, "rsync")
	addr := peertest.FreeAddr(tb)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	if os.Geteuid() == 0 { // it becomes somebody else, who must be able to enter
		letEnter(tb, filepath.Dir(folder))
	}
	conf := filepath.Join(tb.TempDir(), "rsyncd.conf")
	text := fmt.Sprintf("port = %s\naddress = 127.0.0.1\nuse chroot = no\nmotd file = %s\n[m]\npath = %s\n", port, conf, folder)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := peertest.Server(tb, "rsync", "--daemon", "--no-detach", "--config="+conf, "--log-file="+conf+".log")
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cmd.Wait() }) // it was told to end
	peertest.AwaitAddr(tb, addr)
	return "rsync://" + addr + "/m/"
}

// letEnter lets everybody into a folder of the test, and into those above it up to that of
// all temporary files.
func letEnter(tb testing.TB, folder string) {
	tb.Helper()
	for top := os.TempDir(); strings.HasPrefix(folder, top); folder = filepath.Dir(folder) {
		info, err := os.Stat(folder)
		if err == nil && info.Mode()&0o005 != 0o005 {
			err = os.Chmod(folder, 0o755)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}
