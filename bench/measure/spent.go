package measure

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Spent is what a process has used of the CPUs since it began: itself, and the children
// that have ended, as /proc/PID/stat tells it.
type Spent struct{ User, System, ChildUser, ChildSystem time.Duration }

// SpentBy reads it.
func SpentBy(pid int) (s Spent, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name
	const utime, ticks = 11, 100                  // proc(5): fields 14 to 17, in USER_HZ
	fields := strings.Fields(rest)
	if len(fields) < utime+4 {
		return s, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	for i, to := range []*time.Duration{&s.User, &s.System, &s.ChildUser, &s.ChildSystem} {
		n, err := strconv.ParseInt(fields[utime+i], 10, 64)
		if err != nil {
			return s, err
		}
		*to = time.Duration(n) * time.Second / ticks
	}
	return s, nil
}

// Since is what was used after before.
func (s Spent) Since(before Spent) Spent {
	return Spent{s.User - before.User, s.System - before.System, s.ChildUser - before.ChildUser, s.ChildSystem - before.ChildSystem}
}

// Sum is all of it.
func (s Spent) Sum() time.Duration { return s.User + s.System + s.ChildUser + s.ChildSystem }

func (s Spent) String() string {
	return fmt.Sprintf("%.2f user %.2f system, children %.2f user %.2f system", s.User.Seconds(), s.System.Seconds(), s.ChildUser.Seconds(), s.ChildSystem.Seconds())
}
