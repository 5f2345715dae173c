// Package systemd speaks with the service manager that started this process: it tells
// how the service does (sd_notify(3), sd_watchdog_enabled(3)) and takes the sockets that
// it was given (sd_listen_fds(3)). Without such a manager it does nothing.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The variables by which a manager speaks.
const (
	notifyVar     = "NOTIFY_SOCKET"
	watchdogVar   = "WATCHDOG_USEC"
	watchdogOfVar = "WATCHDOG_PID"
	fdsVar        = "LISTEN_FDS"
	fdsOfVar      = "LISTEN_PID"
	fdNamesVar    = "LISTEN_FDNAMES"
)

// firstFD is SD_LISTEN_FDS_START.
const firstFD = 3

// Manager is the service manager. The nil Manager is none, and takes every word. Safe
// for concurrent use.
type Manager struct {
	socket   *net.UnixAddr
	watchdog time.Duration
}

// FromEnvironment returns the manager that the variables of the environment name, nil if
// they name none.
func FromEnvironment(getenv func(string) string) *Manager {
	socket := getenv(notifyVar)
	if socket == "" {
		return nil
	}
	m := &Manager{socket: &net.UnixAddr{Name: socket, Net: "unixgram"}}
	of := getenv(watchdogOfVar)
	if usec, err := strconv.ParseInt(getenv(watchdogVar), 10, 64); err == nil && usec > 0 && (of == "" || of == strconv.Itoa(os.Getpid())) {
		m.watchdog = time.Duration(usec) * time.Microsecond
	}
	return m
}

// Notify tells the manager lines such as "READY=1".
func (m *Manager) Notify(lines ...string) error {
	if m == nil {
		return nil
	}
	return m.send(strings.Join(lines, "\n"), nil)
}

func (m *Manager) send(text string, rights []byte) error {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer conn.Close() //nolint:errcheck // what was sent is sent
	if _, _, err := conn.WriteMsgUnix([]byte(text), rights, m.socket); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}

// barrierTime bounds how long a manager is waited for.
const barrierTime = 5 * time.Second

// Barrier waits until the manager has read what it was told, five seconds at most. Who ends
// before that is not known to it any more, and not heard (sd_notify_barrier(3)).
func (m *Manager) Barrier() error {
	if m == nil {
		return nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close() //nolint:errcheck // opened for reading
	err = m.send("BARRIER=1", unix.UnixRights(int(write.Fd())))
	if err = errors.Join(err, write.Close()); err != nil {
		return err
	}
	if err := read.SetReadDeadline(time.Now().Add(barrierTime)); err != nil {
		return err
	}
	if _, err := read.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("systemd has not read in %v what it was told", barrierTime)
	}
	return nil
}

// Watch tells the manager that this process is alive, twice as often as it asks to hear
// it, until ctx ends; not at all if it does not ask.
func (m *Manager) Watch(ctx context.Context) {
	if m == nil || m.watchdog == 0 {
		return
	}
	ticker := time.NewTicker(m.watchdog / 2)
	defer ticker.Stop()
	for {
		_ = m.Notify("WATCHDOG=1") // it restarts what it does not hear
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Sockets returns the file descriptors that the manager has passed to this process, with
// their names, if any. They belong to the caller, and are not passed on to programs that
// are started.
func Sockets(getenv func(string) string) (fds []int, names []string, err error) {
	if getenv(fdsOfVar) != strconv.Itoa(os.Getpid()) {
		return nil, nil, nil // there are none, or they are meant for another
	}
	n, err := strconv.Atoi(getenv(fdsVar))
	if err != nil || n < 0 || n > 1<<16 {
		return nil, nil, fmt.Errorf("%s=%q is no number of sockets", fdsVar, getenv(fdsVar))
	}
	names = strings.Split(getenv(fdNamesVar), ":")
	for i := range n {
		fds = append(fds, firstFD+i)
		unix.CloseOnExec(firstFD + i)
	}
	for len(names) < n {
		names = append(names, "")
	}
	return fds, names[:n], nil
}

// ForHeir returns the environment for another process of the same service that takes
// over from this one: the watchdog is its own then, and sockets are not in it.
func ForHeir(env []string) []string {
	var kept []string
	for _, v := range env {
		switch name, _, _ := strings.Cut(v, "="); name {
		case watchdogOfVar, fdsVar, fdsOfVar, fdNamesVar:
		default:
			kept = append(kept, v)
		}
	}
	return kept
}
