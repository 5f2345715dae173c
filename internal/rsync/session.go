package rsync

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Session is a client that is to be served by rsync as a daemon, which is the child of
// nobody but this process and ends with the connection (rsync(1), "using rsync-daemon
// via inetd").
type Session struct {
	// Conn is the connection. Nothing else reads or writes it meanwhile.
	Conn *net.TCPConn
	// Config is the path of its configuration, see rsyncd.conf(5).
	Config string
	// Progress, if not nil, is called every ten seconds with what is known so far, by one
	// goroutine at a time, and not any more when Serve returns.
	Progress func(Served)
	// Started, if not nil, is called with the ID of the process. It must not wait.
	Started func(pid int)
	// Named, if not nil, is called when the client has got at a module, and not any more
	// when Serve returns.
	Named func()
	// Idle says that it runs only while nobody else wants the processor.
	Idle bool
}

// Served is what became of a session.
type Served struct {
	// Module is the one that the client asked for; empty: a list of them, or nothing.
	Module string
	// Allowed says that there is such a module, and that the client got at it.
	Allowed bool
	// Sent and Received are the bytes that went over the connection. Of a session that has
	// ended well, all that was sent is on its way at least; of any other, only what has
	// arrived counts.
	Sent, Received int64
}

// Serve serves a client until it has what it wants, goes, or ctx ends. What it returns is
// right with an error too, which is an [ExitError] unless rsync could not be run. The
// connection is left open.
func (p *Program) Serve(ctx context.Context, s Session) (served Served, err error) {
	conn, err := s.Conn.File()
	if err != nil {
		return served, fmt.Errorf("hand a connection to rsync: %w", err)
	}
	defer conn.Close() //nolint:errcheck // a second name of the connection
	log, toLog, err := os.Pipe()
	if err != nil {
		return served, err
	}
	defer log.Close() //nolint:errcheck // read to its end
	cmd := exec.CommandContext(ctx, p.path, "--daemon", "--no-detach", "--config="+s.Config, "--log-file=/dev/fd/3")
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = environment(), "/", conn, conn, []*os.File{toLog}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // it keeps nothing
	err = cmd.Start()
	_ = toLog.Close() // the child has it
	if err != nil {
		return served, fmt.Errorf("run %s: %w", p.path, err)
	}
	if s.Idle {
		yieldProcessor(cmd.Process.Pid)
	}
	if s.Started != nil {
		s.Started(cmd.Process.Pid)
	}
	ended := make(chan struct{})
	var watching sync.WaitGroup
	var allowed atomic.Pointer[string]
	if s.Progress != nil {
		watching.Go(func() { s.watch(conn, &allowed, ended) })
	}
	served.read(log, func(module string) {
		allowed.Store(&module)
		if s.Named != nil {
			s.Named()
		}
	})
	err = cmd.Wait()
	close(ended)
	watching.Wait()
	served.Sent, served.Received = traffic(conn, err == nil)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = &ExitError{Code: exit.ExitCode(), Detail: "while it served " + served.Module}
	}
	return served, err
}

// maxLog bounds what is read of the log of one session: more of it is thrown away.
const maxLog = 64 << 10

// read reads the log of a session until rsync ends. The module that the client gets at is
// told at once.
func (s *Served) read(log io.Reader, allowed func(module string)) {
	lines := bufio.NewScanner(io.LimitReader(log, maxLog))
	for lines.Scan() {
		line := lines.Text()
		if name, ok := between(line, "rsync allowed access on module ", " from "); ok {
			s.Module, s.Allowed = name, true
			allowed(name)
		} else if name, ok := between(line, "unknown module '", "' tried from "); ok {
			s.Module = name
		} else if name, ok := between(line, "rsync denied on module ", " from "); ok {
			s.Module = name
		}
	}
	_, _ = io.Copy(io.Discard, log) // lest rsync waits
}

// between is what a line has between two texts.
func between(line, before, after string) (string, bool) {
	_, rest, _ := strings.Cut(line, before)
	text, _, ok := strings.Cut(rest, after)
	return text, ok
}

// progressEvery is how often [Session.Progress] is called.
const progressEvery = 10 * time.Second

// watch tells how the session goes on until it has ended.
func (s *Session) watch(conn *os.File, allowed *atomic.Pointer[string], ended <-chan struct{}) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			var now Served
			if module := allowed.Load(); module != nil {
				now.Module, now.Allowed = *module, true
			}
			now.Sent, now.Received = traffic(conn, false)
			s.Progress(now)
		case <-ended:
			return
		}
	}
}

// traffic is what went over a connection, as the kernel has counted it (tcp(7), TCP_INFO):
// bytes that the other side has acknowledged or, if whole, all that were given to the
// kernel, and those that came.
func traffic(conn *os.File, whole bool) (sent, received int64) {
	info, err := unix.GetsockoptTCPInfo(int(conn.Fd()), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, 0 // not of TCP
	}
	sent = int64(info.Bytes_acked)
	if whole && info.Bytes_sent > 0 { // kernels before 4.19 do not count it
		sent = max(sent, int64(info.Bytes_sent)-int64(info.Bytes_retrans)+int64(info.Notsent_bytes))
	}
	return sent, int64(info.Bytes_received)
}
