package upkeep

import (
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// gently runs functions, one after the other, on a thread of its own whose reads the
// disk does when nobody else wants anything of it, where its scheduler knows of
// priorities (bfq, mq-deadline). It is for reading only: whoever holds a lock, or syncs,
// must not be the last in the queue.
type gently chan func()

// newGently starts the thread; stop ends it.
func newGently() (g gently, stop func()) {
	g = make(gently)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		idle()
		for do := range g {
			do()
		}
	}()
	return g, func() { close(g) }
}

// run runs a function there and waits for its end.
func (g gently) run(do func()) {
	done := make(chan struct{})
	g <- func() {
		defer close(done)
		do()
	}
	<-done
}

// What ioprio_set(2) takes, from linux/ioprio.h.
const (
	ioprioWhoProcess = 1
	ioprioClassIdle  = 3
	ioprioClassShift = 13
)

// idle gives the thread the lowest priority at the disk. Without it nothing is wrong.
func idle() {
	const thisThread = 0
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, thisThread, ioprioClassIdle<<ioprioClassShift)
}

// leaveCache sees to it that a file that is read now does not take the place of others
// in memory: done drops it from there, unless it was there before, for its readers.
func leaveCache(opened fs.File) (done func()) {
	f, ok := opened.(*os.File)
	if !ok {
		return func() {}
	}
	var before unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &before, 0); err == nil && before.Cache > 0 {
		return func() {}
	}
	return func() { dropCache(f) }
}

// dropCache makes the next read of a file one of the disk, as far as nothing of it is
// still to be written.
func dropCache(f *os.File) {
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // advice
}
