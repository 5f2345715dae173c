package systemd

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager listens where a service manager does.
func manager(t *testing.T, vars map[string]string) (*Manager, *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return FromEnvironment(func(name string) string {
		if name == notifyVar {
			return path
		}
		return vars[name]
	}), conn
}

// heard is what the manager hears next, with the descriptors that come with it.
func heard(t *testing.T, conn *net.UnixConn) (string, []int) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	buf, oob := make([]byte, 4096), make([]byte, 256)
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, got...)
	}
	return string(buf[:n]), fds
}

func TestNotify(t *testing.T) {
	m, conn := manager(t, map[string]string{watchdogVar: "1000", watchdogOfVar: strconv.Itoa(os.Getpid())})
	if err := m.Notify("READY=1", "STATUS=x"); err != nil {
		t.Fatal(err)
	}
	if got, _ := heard(t, conn); got != "READY=1\nSTATUS=x" {
		t.Errorf("%q", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); m.Watch(ctx) }()
	for range 3 {
		if got, _ := heard(t, conn); got != "WATCHDOG=1" {
			t.Errorf("%q", got)
		}
	}
	stop()
	<-watched
}

// A barrier lasts until the manager has closed what came with it.
func TestBarrier(t *testing.T) {
	m, conn := manager(t, nil)
	passed := make(chan error, 1)
	go func() { passed <- m.Barrier() }()
	got, fds := heard(t, conn)
	if got != "BARRIER=1" || len(fds) != 1 {
		t.Fatalf("%q with %d descriptors", got, len(fds))
	}
	select {
	case err := <-passed:
		t.Fatal("it did not wait:", err)
	default:
	}
	_ = unix.Close(fds[0])
	if err := <-passed; err != nil {
		t.Error(err)
	}
}

func TestNoManager(t *testing.T) {
	m := FromEnvironment(func(string) string { return "" })
	if m != nil || m.Notify("READY=1") != nil || m.Barrier() != nil {
		t.Error("there is one")
	}
	m.Watch(t.Context())
	if other, _ := manager(t, map[string]string{watchdogVar: "1000", watchdogOfVar: "1"}); other.watchdog != 0 {
		t.Error("the watchdog is that of another process")
	}
}

func TestSocketsOfAnother(t *testing.T) {
	vars := map[string]string{fdsVar: "2", fdsOfVar: "1", fdNamesVar: "a:b"}
	get := func(name string) string { return vars[name] }
	if fds, _, err := Sockets(get); fds != nil || err != nil {
		t.Errorf("%v, %v", fds, err)
	}
	vars[fdsOfVar], vars[fdsVar] = strconv.Itoa(os.Getpid()), "many"
	if _, _, err := Sockets(get); err == nil {
		t.Error("no error")
	}
}

func TestForHeir(t *testing.T) {
	env := []string{"A=1", notifyVar + "=x", watchdogVar + "=5", watchdogOfVar + "=9", fdsVar + "=1", fdsOfVar + "=9", fdNamesVar + "=n"}
	if got := ForHeir(env); !slices.Equal(got, []string{"A=1", notifyVar + "=x", watchdogVar + "=5"}) {
		t.Errorf("%q", got)
	}
}
