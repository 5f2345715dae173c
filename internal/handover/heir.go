package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"freshet/internal/systemd"
)

// Program is what is started to take over.
type Program struct {
	// Path is that of the program: what lies there when it is started.
	Path string
	// Args are its arguments, without its name.
	Args []string
}

// Itself is the program that this process was started from, with its arguments. The path
// is the one it was called by: a link there may lead to another version by now.
func Itself() (Program, error) {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	return Program{path, os.Args[1:]}, err
}

// heir is a process that takes over. It is no child of this one.
type heir struct {
	*speech
	pid   int
	pidfd int           // of the process, whatever else gets its number
	ended chan struct{} // closed when it has ended

	once sync.Once
}

// start starts a process that is to take over the sockets. Its output goes where that of
// this one goes.
func start(p Program, sockets *Sockets) (_ *heir, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[1]) //nolint:errcheck // the other process has it
	conn, err := connOf(pair[0])
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Close())
		}
	}()
	fds, names := sockets.each()
	given, err := json.Marshal(names)
	if err != nil {
		return nil, err
	}
	files := []uintptr{0, 1, 2, uintptr(pair[1])}
	for _, fd := range fds {
		files = append(files, uintptr(fd))
	}
	env := slices.DeleteFunc(systemd.ForHeir(os.Environ()), func(v string) bool { return strings.HasPrefix(v, heirVar+"=") })
	h := &heir{speech: newSpeech(conn), ended: make(chan struct{})}
	h.pid, _, err = syscall.StartProcess(p.Path, append([]string{p.Path}, p.Args...), &syscall.ProcAttr{
		Env: append(env, heirVar+"="+string(given)), Files: files,
		// Whoever waits for the end of this process is to hear of the end of that one.
		Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_PARENT, PidFD: &h.pidfd},
	})
	if err != nil {
		return nil, &fs.PathError{Op: "start", Path: p.Path, Err: err}
	}
	if h.pidfd < 0 {
		return nil, errors.Join(errors.New("this kernel has no pidfd (5.4 has)"), syscall.Kill(h.pid, syscall.SIGKILL))
	}
	go h.await()
	return h, nil
}

// await waits for the end of the process.
func (h *heir) await() {
	defer close(h.ended)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(h.pidfd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// expect waits for a word.
func (h *heir) expect(word string, within time.Duration) error {
	switch got, text, err := h.hear(time.Now().Add(within)); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it did not say %q within %v", word, within)
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		return errors.New("it ended before it was " + word)
	case err != nil:
		return err
	case got == wordFailed:
		return errors.New(text)
	case got != word:
		return fmt.Errorf("it said %q where %q was expected", got, word)
	}
	return nil
}

// kill ends the process and returns when it has ended: then it has nothing any more.
func (h *heir) kill() {
	_ = unix.PidfdSendSignal(h.pidfd, unix.SIGKILL, nil, 0) // it may have ended
	<-h.ended
	h.leave()
}

// leave lets the process be on its own.
func (h *heir) leave() {
	h.once.Do(func() {
		_ = h.conn.Close()
		go func() { <-h.ended; _ = unix.Close(h.pidfd) }()
	})
}
