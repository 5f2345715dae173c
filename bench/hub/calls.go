package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// fileCalls are the system calls that are counted: those with a path, and those
// that sync, list or describe an open file. Reading and writing are left out, since
// they are those of sockets too.
const fileCalls = "trace=%file,fsync,fdatasync,syncfs,fstat,getdents64,ftruncate,fchmod"

// countCalls runs a command under strace.
func countCalls(ctx context.Context, dir, name string, args ...string) (int, error) {
	file := filepath.Join(dir, "calls")
	// The filter lets all other calls pass without stopping for them.
	all := append([]string{"-f", "--seccomp-bpf", "-c", "-o", file, "-e", fileCalls, name}, args...)
	if out, err := exec.CommandContext(ctx, "strace", all...).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("strace %s: %w\n%s", name, err, out)
	}
	return readCalls(file)
}

// watchCalls counts the calls of a running process until stop.
func watchCalls(ctx context.Context, dir string, pid int) (stop func() (int, error), err error) {
	file := filepath.Join(dir, "calls")
	cmd := exec.CommandContext(ctx, "strace", "-f", "-c", "-o", file, "-e", fileCalls, "-p", strconv.Itoa(pid))
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	said := bufio.NewReader(stderr)
	if line, err := said.ReadString('\n'); err != nil || !strings.Contains(line, "attached") {
		return nil, errors.Join(fmt.Errorf("strace says %q", line), err, cmd.Process.Kill(), cmd.Wait())
	}
	return func() (int, error) {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			return 0, err
		}
		_, _ = io.Copy(io.Discard, said)
		_ = cmd.Wait() // it tells of the signal
		return readCalls(file)
	}, nil
}

// readCalls adds up the table of strace -c, whose fourth column is the number of
// calls.
func readCalls(file string) (int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	total := 0
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[len(fields)-1] == "total" {
			continue
		}
		if n, err := strconv.Atoi(fields[3]); err == nil {
			total += n
		}
	}
	if total == 0 {
		return 0, fmt.Errorf("strace counted nothing: %q", data)
	}
	return total, nil
}
