// Package repolock takes the lock of an OSTree repository that libostree takes
// too: shared for who adds objects and moves refs, exclusive for who deletes.
package repolock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is the file that libostree locks too (ostree_repo_lock_push).
const lockName = ".lock"

const (
	lockTimeout = 300 * time.Second // libostree's lock-timeout-secs
	lockPoll    = 20 * time.Millisecond
)

// Lock is a lock on a repository that is held, against other processes and other
// locks of this one. The end of the process frees it too.
type Lock struct{ file *os.File }

// Shared takes the lock of the repository at root as one who adds objects and
// moves refs: beside others who do, but never beside one who deletes. It waits
// for five minutes at most.
func Shared(ctx context.Context, root *os.Root) (*Lock, error) {
	return lock(ctx, root, unix.F_RDLCK)
}

// Exclusive takes the lock as one who deletes: beside nobody. It waits as Shared
// does.
func Exclusive(ctx context.Context, root *os.Root) (*Lock, error) {
	return lock(ctx, root, unix.F_WRLCK)
}

func lock(ctx context.Context, root *os.Root, kind int16) (*Lock, error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o660)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := waitLock(ctx, f, kind); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return &Lock{file: f}, nil
}

// waitLock polls, as libostree does, because a blocking lock knows neither
// deadlines nor cancellation.
func waitLock(ctx context.Context, f *os.File, kind int16) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lockTimeout,
		fmt.Errorf("another program has held it for %v", lockTimeout))
	defer cancel()
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		lock := unix.Flock_t{Type: kind, Whence: unix.SEEK_SET}
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
		if err == nil || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// Release frees the lock.
func (l *Lock) Release() error { return l.file.Close() }
