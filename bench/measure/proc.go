// Package measure is what the programs that compare servers side by side share: a
// client that costs little, what processes and the machine have used, and the
// lines in which results are printed.
package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPUs is how many the machine has.
func CPUs() float64 { return float64(runtime.NumCPU()) }

// family are a process and its descendants.
func family(pid int) ([]int, error) {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[i]))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			children, err := os.ReadFile(file)
			if err != nil {
				continue // a thread that has ended
			}
			for word := range strings.FieldsSeq(string(children)) {
				child, err := strconv.Atoi(word)
				if err != nil {
					return nil, err
				}
				pids = append(pids, child)
			}
		}
	}
	return pids, nil
}

// CPU is the time that all threads of a process and of its descendants ran.
func CPU(pid int) (time.Duration, error) {
	pids, err := family(pid)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return 0, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			fields := strings.Fields(string(text))
			if err != nil || len(fields) == 0 {
				continue // a thread that has just ended
			}
			ns, err := strconv.ParseInt(fields[0], 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}

// Memory is the proportional set size of a process and of its descendants, in bytes.
func Memory(pid int) (int64, error) {
	pids, err := family(pid)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			if kb, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, err := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
				if err != nil {
					return 0, err
				}
				sum += n << 10
			}
		}
	}
	return sum, nil
}

// OwnCPU is the time of this process and of the programs it has run.
func OwnCPU() (time.Duration, error) {
	var sum time.Duration
	for _, who := range [...]int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return 0, fmt.Errorf("own CPU time: %w", err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum, nil
}

// MachineBusy is the time that all CPUs were not idle.
func MachineBusy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var busy int64
	for i, word := range strings.Fields(line)[1:] {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 && i < 8 { // idle, iowait; guest is in user
			busy += n
		}
	}
	return time.Duration(busy) * (time.Second / 100), nil // USER_HZ
}
