package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what a command took.
type usage struct {
	cost
	rss int64 // the most at a time, in bytes
}

// runUsage runs a command and measures it.
func runUsage(cmd *exec.Cmd) (u usage, err error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return u, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out.String())
	}
	u.Wall = time.Since(begin)
	r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return u, errors.New("this system does not tell what a process took")
	}
	u.CPU, u.rss = time.Duration(r.Utime.Nano()+r.Stime.Nano()), r.Maxrss*1024
	return u, nil
}

// memory is a line of /proc/PID/status: VmHWM, the most a process ever had in
// memory, or RssAnon, what it has now of its own. In bytes.
func memory(pid int, line string) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for text := range strings.Lines(string(data)) {
		if fields := strings.Fields(text); len(fields) == 3 && fields[0] == line+":" && fields[2] == "kB" {
			kB, err := strconv.ParseInt(fields[1], 10, 64)
			return kB << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, line)
}
