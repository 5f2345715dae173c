package rsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"freshet/internal/landlock"

	"golang.org/x/sys/unix"
)

// process says how an rsync is run.
type process struct {
	url    string // of the folder that it speaks of
	dial   Dial
	args   []string
	stdin  io.Reader
	stderr io.Writer
	dir    string // the one folder in which it may write; "": none
	idle   bool   // it gets the disk when nobody else wants it
	memory int64  // bytes that it may take, whatever the server sends; 0: any
	size   int64  // of the longest file that it may write, in bytes; 0: any
}

// running is an rsync that was started. Its end is awaited.
type running struct {
	cmd  *exec.Cmd
	out  *output
	gate *gate
	last *time.Timer // set by end; read when that cannot be called any more
}

// patience is how long rsync has to put away what it has of a file, when it is to end.
const patience = 10 * time.Second

// start runs rsync until it ends by itself or ctx does. Then it is asked to end, by which
// it keeps what it has of a file if it was told to, and after a while it is killed. Its
// children end with it. Where the kernel can, it sees of the system what programs need, its
// folder, and with a gate no other port.
func (p *Program) start(ctx context.Context, how process) (*running, error) {
	r := new(running)
	r.cmd = exec.CommandContext(ctx, p.path, how.args...)
	r.cmd.Env, r.cmd.Dir, r.cmd.Stdin, r.cmd.Stderr = environment(), "/", how.stdin, how.stderr
	if how.dir != "" {
		r.cmd.Dir = how.dir
	}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // rsync has a child, which ends with it
	r.cmd.Cancel = r.end
	r.cmd.WaitDelay = 2 * patience
	if how.dial != nil {
		var err error
		if r.gate, err = openGate(ctx, how.url, how.dial); err != nil {
			return nil, err
		}
		r.cmd.Env = append(r.cmd.Env, r.gate.environment())
	}
	theirs, err := r.openOutput()
	if err == nil {
		r.cmd.Stdout = theirs
		err = errors.Join(r.startConfined(how.dir), theirs.Close())
	}
	if err != nil {
		r.closeAll()
		return nil, err
	}
	if how.idle {
		r.yieldDisk()
	}
	r.bound(how)
	return r, nil
}

// bound bounds what a process takes of the machine, before it has heard of its server. Its
// children have the same bounds (prlimit(2)).
func (r *running) bound(how process) {
	set := func(resource int, most int64) {
		if most > 0 {
			_ = unix.Prlimit(r.cmd.Process.Pid, resource, &unix.Rlimit{Cur: uint64(most), Max: uint64(most)}, nil)
		}
	}
	set(unix.RLIMIT_DATA, how.memory)
	set(unix.RLIMIT_FSIZE, how.size)
}

// openOutput makes the pipe of the output, and returns the end that is rsync's.
func (r *running) openOutput() (theirs *os.File, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("run rsync: %w", err)
	}
	r.out = &output{from: os.NewFile(uintptr(ends[0]), "output of rsync")}
	return os.NewFile(uintptr(ends[1]), "output of rsync"), nil
}

// output reads from a program that writes a line at a time, but not at each of them: to
// wake up for one takes longer than all that is done with it. So it is none of the files for
// which the runtime waits either: that would wake up for each line, whether anybody reads or not.
type output struct {
	from *os.File
	last time.Time
	over atomic.Bool // nobody waits for more
}

const (
	// pace is how long lines gather. The kernel has room for more of them than come meanwhile.
	pace = time.Millisecond
	// overWithin is how long a Read goes on to wait when it is over.
	overWithin = time.Second
)

// errOver ends what is read of a program that is to end, while somebody who has left its
// group keeps the pipe open.
var errOver = errors.New("its output does not end")

// Read waits until there is something, the pipe is closed by all that may write to it, or
// it is over.
func (o *output) Read(b []byte) (int, error) {
	time.Sleep(pace - time.Since(o.last)) //nolint:forbidigo // for less than it takes to wake up
	defer func() { o.last = time.Now() }()
	for !o.over.Load() {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(o.from.Fd()), Events: unix.POLLIN}}, int(overWithin.Milliseconds()))
		switch {
		case ready > 0:
			return o.from.Read(b)
		case err != nil && !errors.Is(err, unix.EINTR):
			return 0, fmt.Errorf("wait for rsync: %w", err)
		}
	}
	return 0, errOver
}

// startConfined starts rsync on a thread that is confined before, and ends after that.
func (r *running) startConfined(folder string) error {
	if !landlock.Confines() {
		return r.cmd.Start()
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := r.confine(folder); err != nil {
			started <- fmt.Errorf("confine rsync: %w", err)
			return
		}
		started <- r.cmd.Start()
	}()
	return <-started
}

// confine leaves this thread what rsync needs.
func (r *running) confine(folder string) error {
	rules, err := landlock.New(landlock.Scope{Ports: r.gate != nil, Sockets: true})
	if err != nil {
		return err
	}
	defer rules.Close()
	for _, path := range []string{"/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store"} {
		rules.Allow(path, landlock.Read)
	}
	program, err := filepath.EvalSymlinks(r.cmd.Path)
	if err != nil {
		return err
	}
	rules.Allow(filepath.Dir(program), landlock.Read)
	for _, name := range []string{
		"ld.so.cache", "nsswitch.conf", "host.conf", "hosts", "resolv.conf", "gai.conf", "services", "protocols", "passwd", "group",
	} {
		rules.Allow("/etc/"+name, landlock.Read)
	}
	rules.Allow("/dev/null", landlock.Read|landlock.Write)
	rules.Allow("/dev/urandom", landlock.Read)
	if r.gate != nil {
		rules.AllowPort(r.gate.port())
	} else {
		rules.Allow("/run/systemd/resolve", landlock.Read)
	}
	if folder != "" {
		rules.Allow(folder, landlock.All)
	}
	return rules.Enforce()
}

// end asks the processes of rsync to end, and makes them if they do not.
func (r *running) end() error {
	group := -r.cmd.Process.Pid
	r.last = time.AfterFunc(patience, func() {
		_ = syscall.Kill(group, syscall.SIGKILL)
		r.out.over.Store(true)
	})
	return syscall.Kill(group, syscall.SIGTERM)
}

// wait returns how rsync ended, when it has. Its output must have been read.
func (r *running) wait() error {
	err := r.cmd.Wait()
	if r.last != nil {
		r.last.Stop()
		_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) // its child, if that is left
	}
	r.closeAll()
	return err
}

func (r *running) closeAll() {
	if r.out != nil {
		_ = r.out.from.Close()
	}
	if r.gate != nil {
		r.gate.close()
	}
}

// Classes and levels of ioprio_set(2), include/uapi/linux/ioprio.h.
const (
	ioprioWhoProcess = 1
	ioprioWhoPgrp    = 2
	ioprioClassBest  = 2 << 13
	ioprioClassIdle  = 3 << 13
	ioprioLast       = 7
)

// yieldDisk lets everybody else come before rsync at the disk, where the system's
// scheduler can do that.
func (r *running) yieldDisk() {
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoPgrp, uintptr(r.cmd.Process.Pid), ioprioClassIdle)
}

// yieldProcessor lets everybody else come before a process, and those that it begins, at the
// processor, where the system lets us. The niceness is for systems that do not: by it alone
// whoever runs is left some milliseconds when another one wakes up, which is what a request
// of HTTP takes many times over. Those of the class are preempted as soon as the kernel can
// (sched(7), SCHED_IDLE). At the disk it has the last turn, but has one.
func yieldProcessor(pid int) {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, 19)
	var param int32                                                                                                     // struct sched_param: the priority, of which this class has none
	_, _, _ = unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(pid), unix.SCHED_IDLE, uintptr(unsafe.Pointer(&param))) //nolint:gosec // as the call has it
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(pid), ioprioClassBest|ioprioLast)
}
