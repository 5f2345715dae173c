// Package hook runs commands of the operator at the hub's side: checks of
// builds, what edits a build before it is published, what is told of a publish.
//
// A command is a program and its arguments; no shell is between. It sees an
// environment of its own, an empty home that goes away with it, and nothing on
// its standard input. What it writes to its outputs goes to one writer, mixed.
// It ends with its deadline at the latest, and with it whatever it left running
// in its session.
//
// Where Linux has Landlock (6.2 and later, some older ones), and it is not
// turned off, a command reads everything but what is hidden from it, writes only
// where it is told it may, sees no other process of the hub from inside, gets no
// privileges from set-user-id programs, and, below root, has none of root's
// capabilities. [Confines] tells. By seccomp(2), it makes no unix sockets unless it is
// told it may.
package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gracePeriod is the time between the polite and the rude end of a command.
const gracePeriod = 5 * time.Second

// Command is a command to run once. Args are needed.
type Command struct {
	// Args are the program, which is looked up in PATH, and its arguments.
	Args []string
	// Dir is where it runs; empty means in its home.
	Dir string
	// Env are variables, "NAME=VALUE", beside PATH, LANG, HOME and TMPDIR; they win.
	Env []string
	// Timeout is the most it may take; 0 means no limit.
	Timeout time.Duration
	// Hidden are files, and folders of files, that it can not read, except what
	// lies below those in Shown and Writable. It can list folders anywhere. Names
	// that do not exist are skipped.
	Hidden []string
	Shown  []string
	// Writable are folders below which it may change everything.
	Writable []string
	// Sockets lets it talk to services of this machine by unix sockets, such as a
	// gpg-agent or a database.
	Sockets bool
	// Ports are the TCP ports that it may connect to; nil for all. It takes Linux 6.7,
	// see [ConfinesPorts].
	Ports []int
}

// ExitError says that a command ran, and how it ended.
type ExitError struct {
	Program string
	// State is a phrase: "exited with status 1", "was ended by signal killed",
	// "took longer than 1m0s".
	State string
}

func (e *ExitError) Error() string { return e.Program + " " + e.State }

// Run runs the command and waits for its end. It returns an [*ExitError] when the
// command did not end well by itself, the cause of ctx's end when that came
// first, and another error when it could not be started. Writes to output come
// from one goroutine at a time, and none after Run returns.
func (c *Command) Run(ctx context.Context, output io.Writer) error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return errors.New("hook: no program is named")
	}
	home, err := os.MkdirTemp("", "freshet-hook-")
	if err != nil {
		return fmt.Errorf("hook %s: %w", c.Args[0], err)
	}
	ended := make(chan error, 1)
	go func() {
		// Restrictions are those of the thread, and of what it starts. It is never
		// unlocked, so that the runtime lets it end with this goroutine.
		runtime.LockOSThread()
		ended <- c.run(ctx, home, output)
	}()
	err = <-ended
	if removed := os.RemoveAll(home); err == nil && removed != nil {
		err = fmt.Errorf("hook %s: %w", c.Args[0], removed)
	}
	return err
}

// run is Run on a thread that may be spoilt.
func (c *Command) run(ctx context.Context, home string, output io.Writer) error {
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout,
			&ExitError{c.Args[0], fmt.Sprintf("took longer than %v", c.Timeout)})
		defer cancel()
	}
	if err := c.confine(home); err != nil {
		return fmt.Errorf("hook %s: confine: %w", c.Args[0], err)
	}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = home
	}
	cmd.Env = append(environment(home), c.Env...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = gracePeriod
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("hook: %w", err)
	}
	// It is waited for without being reaped, so that its session is still its own
	// when what it left behind is ended.
	waited := awaitExit(cmd.Process.Pid)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	err := cmd.Wait()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return &ExitError{c.Args[0], state(exit.ProcessState)}
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return fmt.Errorf("hook %s: %w", c.Args[0], err)
	}
	return waited
}

// awaitExit waits for the end of a child and leaves it to be reaped.
func awaitExit(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// environment is what every command sees.
func environment(home string) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	return []string{"PATH=" + path, "LANG=C.UTF-8", "HOME=" + home, "TMPDIR=" + home}
}

// state says how a process ended.
func state(p *os.ProcessState) string {
	if status, ok := p.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return "was ended by signal " + status.Signal().String()
	}
	return fmt.Sprintf("exited with status %d", p.ExitCode())
}
